"""The least time that loads and commands could take, from what a machine was measured to do with each byte.

All cores decode, encode, digest and cast, and copy what is in the page cache: that work adds up. A disk reads and
writes meanwhile. A perfect overlap takes as long as the longer of both; nothing that a load or a command does beyond
its bytes (imports, metadata, arithmetic, compiling) is counted.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

_GB = 1e9


class Work(NamedTuple):
    """Bytes that have to be worked on; those that are not stored are of values, before encoding.

    Attributes:
      read: in files.
      decode, encode, digest, cast: of values.
      write: in files.
    """

    read: float = 0
    decode: float = 0
    encode: float = 0
    digest: float = 0
    cast: float = 0
    write: float = 0


def least_seconds(work: Work, ceilings: Mapping[str, Any], *, cold: bool = False) -> float | None:
    """Return the seconds of a perfect overlap; None if a ceiling that is needed was not measured.

    Args:
      work: the bytes.
      ceilings: of a result file.
      cold: whether the files are on the disk alone.
    """
    computed = {name: getattr(work, name) for name in ("decode", "encode", "digest", "cast")}
    to_disk = {"write": work.write, **({"read_cold": work.read} if cold else {})}
    known = [_seconds(each, ceilings) for each in (computed | ({} if cold else {"read_warm": work.read}), to_disk)]
    if any(seconds is None for each in known for seconds in each):
        return None
    busy, disk = ([seconds for seconds in each if seconds is not None] for each in known)
    return max(sum(busy), sum(disk))


def _seconds(bytes_of: Mapping[str, float], ceilings: Mapping[str, Any]) -> list[float | None]:
    """Return the seconds of each kind of work that there is; None for one whose speed was not measured."""
    rates = {name: ceilings.get(f"{name}_gbs") for name, size in bytes_of.items() if size}
    return [bytes_of[name] / _GB / rate if rate else None for name, rate in rates.items()]


def load_work(stored: int, values: int, stays: int) -> Work:
    """Return what a load of an orbax checkpoint has to do.

    Args:
      stored: bytes of its files.
      values: bytes of its values, as they are stored.
      stays: bytes of the result; fewer than ``values`` if they are cast.
    """
    return Work(read=stored, decode=values, cast=values if stays < values else 0)


def command_work(name: str, stored: int, values: int, adapters: int, folded: int) -> Work | None:
    """Return what a command has to do; None for one that reads no array.

    Args:
      name: the command, as ``benchmarks.commands`` names it.
      stored: bytes of the files that it reads.
      values: bytes of the values of a base, as they are stored.
      adapters: bytes of the values of its adapters.
      folded: bytes of the values of the weights that have one.
    """
    share = stored / (values + adapters)
    works = {
        "check --values": Work(read=stored, decode=values),
        "fold": Work(stored, values + adapters, folded, values, 0, share * values),
        "convert": Work(read=stored, decode=values, digest=values, write=values),
        "diff": Work(read=stored, decode=values, digest=values),
        "extract": Work(share * adapters, adapters, 0, adapters, 0, share * adapters),
        "attach": Work(stored, values + adapters, 0, values + adapters, 0, stored),
    }
    return next((work for command, work in works.items() if name == command or name.startswith(f"{command} --")), None)
