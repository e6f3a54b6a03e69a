"""What failures have in common: a cause to group them by, a text that all their messages have, a pattern of cases.

A row's message is the start of an exception's text, with its type in front. Paths of folders, positions in files and
fractions differ from one run or machine to the next, so neither a cause nor a shared text has them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import reduce
from typing import Any

from suite.session.expectations import covers_case

# What a contract asked for, in front of the error that the subject raised instead.
_MENTIONS = re.compile(r"^refused, but without naming \[.*?['\"]\]: ")
# What follows the exception's own text, or what an error was to name.
_REST = re.compile(r"accepted, then this: .*|Falsifying example: .*| instead of raising an error.*|\.\.\.$")
_UNSTABLE = re.compile(r"\(at .*|\S*\.\.\./\S*|0x[0-9a-f]+|-?\d+\.\d+(e[-+]?\d+)?|\bnan\b|\binf\b")
_NUMBER = re.compile(r"\d+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_LONGEST = 90
_SHORTEST = 4


def cause(row: Mapping[str, Any]) -> str:
    """Return the likely cause of a failure: its type and text, without numbers, quoted names and folders."""
    text = _UNSTABLE.sub("*", error_text(row))
    return f"{row['raised']}: {_NUMBER.sub('#', _QUOTED.sub('*', text)).replace('bfloat', 'float')}"


def error_text(row: Mapping[str, Any]) -> str:
    """Return the text of the subject's error if there is one, else that of the suite's assertion, on one line."""
    text = " ".join(row["message"].split()).removeprefix(f"{row['raised']}: ")
    return _REST.sub("", _MENTIONS.sub("", text)).strip()


def shared_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the longest text that the messages of all rows have, for ``match``; empty if they share hardly any."""
    texts = dict.fromkeys(_UNSTABLE.sub("\n", error_text(row)) for row in rows)
    parts = [part.strip() for part in reduce(_longest_in_both, texts).split("\n")]
    longest = max(parts, key=len)
    if len(longest) > _LONGEST:
        longest = longest[:_LONGEST].rpartition(" ")[0] or longest[:_LONGEST]
    return longest if len(longest) >= _SHORTEST else ""


def case_patterns(cases: Sequence[str], others: Iterable[str]) -> list[str]:
    """Return a pattern that covers all cases and no other, or the cases themselves if none is found.

    Args:
      cases: cases of a contract that fail alike.
      others: the contract's other cases.
    """
    others = set(others) - set(cases)
    if not others:
        return ["*"]
    prefix = _common_prefix(cases)
    suffix = _common_prefix([case[::-1] for case in cases])[::-1]
    parts = cases[0].split("-")
    candidates = [f"{prefix}*", f"*{suffix}", f"{prefix}*{suffix}"]
    candidates += [pattern for part in parts for pattern in (f"{part}-*", f"*-{part}", f"*{part}*")]
    for pattern in candidates if len(cases) > 1 else ():
        covered = all(covers_case(pattern, case) for case in cases)
        if covered and not any(covers_case(pattern, other) for other in others):
            return [pattern]
    return list(cases)


def _common_prefix(cases: Sequence[str]) -> str:
    first, last = min(cases), max(cases)
    return next((first[:n] for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), first)


def _longest_in_both(one: str, other: str) -> str:
    """Return the longest text within a line that both have."""
    best = ""
    for line in one.split("\n"):
        for second in other.split("\n"):
            match = SequenceMatcher(None, line, second, autojunk=False).find_longest_match()
            best = max(best, line[match.a : match.a + match.size], key=len)
    return best
