"""The golden cases of a run: the suite's own and those of every ``--golden`` folder, under ids that are unique."""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from fixtures.golden_cases import GOLDEN, FastGoldenCase, GoldenCase, find_all_cases, read_any_case

AnyCase: TypeAlias = GoldenCase | FastGoldenCase
# The parameter of a contract, and the kinds of cases that it gets: pi0-FAST has other inputs and outputs.
PARAMETERS: dict[str, tuple[type[AnyCase], ...]] = {
    "golden_case": (GoldenCase,),
    "fast_golden_case": (FastGoldenCase,),
    "any_golden_case": (GoldenCase, FastGoldenCase),
}


def golden_cases(folders: Iterable[Path]) -> dict[str, AnyCase]:
    """Return id -> case, of all families; the suite's own cases come first, under their names.

    Another case has its name too, unless a second case of the run has it. Then its id is its folder, with as many
    folders above as it takes to be unique: ``mine/pi0_base``. A folder that is given twice counts once.

    Args:
      folders: the additional folders.

    Raises:
      OSError, KeyError, ValueError: a folder has no case, or a case cannot be read.
    """
    own = {case.name: case for case in map(read_any_case, find_all_cases(GOLDEN))}
    found = dict.fromkeys(case.resolve() for folder in folders for case in find_all_cases(folder))
    known = {case.folder.resolve() for case in own.values()}
    cases = [read_any_case(folder) for folder in found if folder not in known]
    counts = Counter([*own, *(case.name for case in cases)])
    alike = [case.folder for case in cases if counts[case.name] > 1]
    ids = dict(zip(alike, _unique(alike, taken=counts.keys()), strict=True))
    return own | {ids.get(case.folder, case.name): case for case in cases}


def of_kind(cases: dict[str, AnyCase], parameter: str) -> dict[str, AnyCase]:
    """Return the cases that a contract with this parameter gets."""
    return {id_: case for id_, case in cases.items() if isinstance(case, PARAMETERS[parameter])}


def _unique(folders: Sequence[Path], taken: Container[str]) -> list[str]:
    """Return the last parts of each folder, at least two and as many as no other folder has."""
    names = []
    for folder in folders:
        tails = [folder.parts[-depth:] for depth in range(2, len(folder.parts) + 1)]
        others = [other.parts for other in folders if other != folder]
        alone = [tail for tail in tails if not any(other[-len(tail) :] == tail for other in others)]
        names.append(next(name for tail in alone if (name := "/".join(tail)) not in taken))
    return names
