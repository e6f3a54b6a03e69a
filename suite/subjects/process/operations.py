"""The operations of a harness, as the contracts call them in another process.

It runs in any interpreter (Python 3.10 or newer, numpy 1.26 or newer), with nothing of this project but its siblings.
"""

from typing import Any

from .memory import peak, start_anew

# The smallest array, in bytes, that counts: it goes back to the system as soon as it is free.
_OWN_MEMORY_FROM = 1 << 20


class Operations:
    """A harness, with two measurements of memory; every function of the harness is a method."""

    def __init__(self, harness: Any) -> None:
        self._harness = harness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._harness, name)

    def hello(self) -> dict[str, Any]:
        """Return the harness's name, its traits, and the names of all that it has."""
        return {"name": self._harness.NAME, "traits": sorted(self._harness.TRAITS), "names": dir(self._harness)}

    def peak_memory(self) -> int | None:
        """Return the most bytes that this process had; None if the system does not say."""
        return peak()

    def memory_of(self, operation: str, *args: Any, **kwargs: Any) -> int:
        """Return by how many bytes, at most, the process grows during an operation. The result is dropped.

        Raises:
          OSError: the system does not say how much memory a process had.
        """
        before = start_anew(_OWN_MEMORY_FROM)
        getattr(self._harness, operation)(*args, **kwargs)
        after = peak()
        if before is None or after is None:
            raise OSError("this system does not tell how much memory a process had")
        return after - before
