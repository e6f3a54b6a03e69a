"""Choose, join, cast, digest or sum the parameters of a source, a slab or a block at a time."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.floats import count_nonfinite, is_float
from pi0_compat.params import Leaf
from pi0_compat.storage import digests as integrity
from pi0_compat.storage.stream import Origin, Source


class Chosen(Source):
    """The parameters of a source that ``choose`` accepts."""

    def __init__(self, source: Source, choose: Callable[[str], bool]) -> None:
        self.path, self._source = source.path, source
        self.leaves = {path: leaf for path, leaf in source.leaves.items() if choose(path)}

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield the slabs unchanged."""
        return self._source.slabs(path)

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield the blocks unchanged."""
        return self._source.blocks(path)

    def origin(self, path: str) -> Origin | None:
        """Return the origin in the source."""
        return self._source.origin(path)


class Joined(Source):
    """The union of two sources without a common parameter."""

    def __init__(self, base: Source, other: Source) -> None:
        self.path, self._base, self._other = base.path, base, other
        self.leaves = dict(sorted((base.leaves | other.leaves).items()))

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield the slabs of the source that has the parameter."""
        return self._of(path).slabs(path)

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield the blocks of the source that has the parameter."""
        return self._of(path).blocks(path)

    def origin(self, path: str) -> Origin | None:
        """Return the origin in the source that has the parameter."""
        return self._of(path).origin(path)

    def _of(self, path: str) -> Source:
        return self._other if path in self._other.leaves else self._base


class Cast(Source):
    """Every parameter cast to one dtype, as numpy casts; a finite value that would become infinite is an error."""

    def __init__(self, source: Source, dtype: Any) -> None:
        self.path, self._source = source.path, source
        if codes := [f"  ~ {path}: {leaf}" for path, leaf in source.leaves.items() if not is_float(leaf.dtype)]:
            text = "\n".join(codes)
            raise LoadError(f"{source.path}: these are no floats, and a cast to {dtype} would be garbage\n{text}")
        self.leaves = {path: Leaf(leaf.shape, np.dtype(dtype)) for path, leaf in source.leaves.items()}

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield the slabs, each cast.

        Raises:
          LoadError: a finite value is too large for the dtype.
        """
        return self._cast(path, self._source.slabs(path))

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield the blocks, each cast; raise as ``slabs``."""
        return self._cast(path, self._source.blocks(path))

    def origin(self, path: str) -> Origin | None:
        """Return the origin of a parameter that has the dtype already."""
        return self._source.origin(path) if self.leaves[path] == self._source.leaves[path] else None

    def _cast(self, path: str, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        dtype = self.leaves[path].dtype
        for part in parts:
            with np.errstate(over="ignore", invalid="ignore"):
                cast = part.astype(dtype, copy=False)
            if cast is not part and count_nonfinite(cast) != count_nonfinite(part):
                raise LoadError(
                    f"{self.path}: {path} has finite values that overflow in {dtype}; choose a wider dtype, "
                    "bfloat16 has the range of float32"
                )
            yield cast


class Digested(Source):
    """Pass parameters through unchanged, and keep the digest of each.

    Attributes:
      digests: path -> digest of every parameter that was read to its end.
    """

    def __init__(self, source: Source) -> None:
        self.path, self.leaves, self._source = source.path, source.leaves, source
        self.digests: dict[str, str] = {}

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield the slabs unchanged."""
        return self._digested(path, self._source.slabs(path))

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield the blocks unchanged."""
        return self._digested(path, self._source.blocks(path))

    def origin(self, path: str) -> Origin | None:
        """Return the origin in the source."""
        return self._source.origin(path)

    def _digested(self, path: str, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        origin = self._source.origin(path)
        if origin and origin.digest:
            # The source hashes the values itself, and raises at their end if this is not their digest.
            yield from parts
            self.digests[path] = origin.digest
            return
        digest = integrity.Digest(self.leaves[path])
        for part in parts:
            digest.update(part)
            yield part
        self.digests[path] = digest.hexdigest()


class Summed(Source):
    """Pass parameters through unchanged, and keep a checksum of each: less work than a digest.

    Attributes:
      sums: path -> CRC-32 of the values (C order) of every parameter that was read to its end.
    """

    def __init__(self, source: Source) -> None:
        self.path, self.leaves, self._source = source.path, source.leaves, source
        self.sums: dict[str, int] = {}

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield the slabs unchanged."""
        return self._summed(path, self._source.slabs(path))

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield the blocks unchanged."""
        return self._summed(path, self._source.blocks(path))

    def origin(self, path: str) -> Origin | None:
        """Return the origin in the source."""
        return self._source.origin(path)

    def _summed(self, path: str, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        crc = 0
        for part in parts:
            crc = zlib.crc32(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data, crc)
            yield part
        self.sums[path] = crc
