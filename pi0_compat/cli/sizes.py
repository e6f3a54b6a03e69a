"""Read sizes as people write them: 5GB, 500MB."""

import re

from pi0_compat.cli.output import Refusal

# Units are as those of files on the Hub: thousands, and with an i powers of two.
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def read_size(text: str | None) -> int | None:
    """Return a number of bytes; None for None.

    Raises:
      Refusal: the text is no size.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if not found or found[2].upper() not in _UNITS or not int(found[1]):
        raise Refusal(f"--max-shard-size {text}: expected a size, for example 5GB")
    return int(found[1]) * _UNITS[found[2].upper()]
