"""The table of known faults, and which versions of a package each is of."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

_TABLE = Path(__file__).with_name("faults.toml")
_RELEASE = re.compile(r"\d+(\.\d+)*")
_BOUND = re.compile(r"(>=|<|==)(\d+(?:\.\d+)*)")
# Packages whose versions are shown, whether a fault of theirs is known or not.
PACKAGES = (
    *("jax", "flax", "orbax-checkpoint", "tensorstore", "safetensors", "torch", "transformers", "peft", "lerobot"),
    *("gemma", "numpy", "ml_dtypes"),
)


class Fault(NamedTuple):
    """A fault of a library that raises no error.

    Attributes:
      id: its name.
      package: whose it is, as the package index calls it.
      versions: where it can be, such as ``>=0.5,<0.7``.
      probe: the name of the program that shows it; empty if the version alone decides.
      what: what goes wrong.
      todo: what to do about it.
      source: what was run, on which versions.
    """

    id: str
    package: str
    versions: str
    what: str
    todo: str
    source: str
    probe: str = ""

    def is_in(self, version: str) -> bool:
        """Return whether a version of the package is one of ``versions``."""
        bounds = [_BOUND.fullmatch(bound) for bound in self.versions.split(",")]
        return all(bound and _holds(release(version), bound[1], release(bound[2])) for bound in bounds)


def faults() -> list[Fault]:
    """Return all known faults, in the order of the table."""
    return [Fault(**entry) for entry in tomllib.loads(_TABLE.read_text(encoding="utf-8"))["fault"]]


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version without trailing zeros; a local or pre-release part does not count."""
    found = _RELEASE.match(version)
    numbers = [int(number) for number in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _holds(version: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    return {">=": version >= bound, "<": version < bound, "==": version == bound}[sign]
