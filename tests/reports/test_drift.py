"""Runs of one subject with other versions of its packages: which version changed which contract."""

from pathlib import Path

import pytest

from reports.drift import main
from tests.reports.toy_runs import Json, header, row, subject, write, write_run

FIRST = [row("load.is_whole", case="a"), row("load.is_whole", case="b"), row("save.is_quiet", "fail", message="loud")]


def toy(version: str, **packages: str) -> Json:
    return subject("toy", version, packages={"toy": version, **packages})


def write_two(folder: Path, rows: list[Json], head: Json | None = None) -> list[str]:
    """Write a run of toy 1, and one of toy 2 with other rows."""
    old = write_run(folder / "old.jsonl", header(toy("1", numpy="2.0")), *FIRST)
    new = write_run(folder / "new.jsonl", head or header(toy("2", numpy="2.0")), *rows)
    return [str(old), str(new)]


def test_nothing_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Changed versions are reported even if no contract changed; seconds and the order of rows are ignored."""
    rows = [record | {"seconds": 9.0} for record in FIRST[::-1]]
    assert main(write_two(tmp_path, rows)) == 0
    assert capsys.readouterr().out == "old.jsonl -> new.jsonl\n  toy: toy 1 -> 2\n    no contract changed\n"


def test_a_break_is_reported_with_its_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report has cases that failed, were fixed or are new, and every package that was changed, added or removed."""
    rows = [
        row("load.is_whole", case="a"),
        row("load.is_whole", "fail", case="b", message="KeyError: w"),
        row("save.is_quiet"),
        row("save.is_whole"),
    ]
    new = header(toy("2", torch="3"), python="3.12.1", git={"commit": None, "dirty": None})
    assert main(write_two(tmp_path, rows, new)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "old.jsonl -> new.jsonl",
        "  toy: Python 3.11.7 -> 3.12.1, pi0-compat 0123456 -> no commit, toy 1 -> 2, numpy 2.0 -> -, torch - -> 3",
        "    load.is_whole[b]: pass -> fail (KeyError: w)",
        "    save.is_quiet: fail -> pass (loud)",
        "    save.is_whole: not run -> pass",
    ]


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        *((kept, broken, 1) for kept in ("pass", "known") for broken in ("fail", "error")),
        ("fail", "error", 0),
        ("fail", "pass", 0),
        ("pass", "known", 0),
        ("pass", "absent", 0),
    ],
)
def test_only_what_breaks_is_an_error(tmp_path: Path, before: str, after: str, status: int) -> None:
    """It is an error only if a law that was kept, or known to be broken, is now broken in another way."""
    files = [write_run(tmp_path / o, header(), row("load.is_whole", o)) for o in (before, after)]
    assert main([str(file) for file in files]) == status


def test_every_pair_of_neighbors_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A break is an error even if a later run fixed it, and a known failure is reported with its reason."""
    outcomes = {"1": "known", "2": "fail", "3": "pass"}
    files = [write_run(tmp_path / v, header(toy(v)), row("load.is_whole", o)) for v, o in outcomes.items()]
    assert main([str(file) for file in files]) == 1
    out = capsys.readouterr().out
    assert "toy: toy 1 -> 2\n    load.is_whole: known -> fail (It sums over the wrong heads.)" in out
    assert "toy: toy 2 -> 3\n    load.is_whole: fail -> pass" in out


def test_subjects_are_compared_with_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only subjects that both runs have are compared; having none in common is an error."""
    rows = [row("load.is_whole"), row("load.is_whole", "fail", subject="other")]
    broken = [row("load.is_whole", "fail"), rows[1]]
    both = write_run(tmp_path / "both.jsonl", header(subject(), subject("other")), *rows)
    one = write_run(tmp_path / "one.jsonl", header(), row("load.is_whole"))
    other = write_run(tmp_path / "other.jsonl", header(subject("third")))
    assert main([str(both), str(one)]) == 0
    assert (
        main([str(both), str(write_run(tmp_path / "later.jsonl", header(subject(), subject("other")), *broken))]) == 1
    )
    assert main([str(both), str(other)]) == 2
    expected = f"{other}: expected a subject of {both} (toy, other), found third"
    assert expected in capsys.readouterr().err


def test_truncated_files_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_run(tmp_path / "a.jsonl", header(), *FIRST)
    cut = write(tmp_path / "b.jsonl", header(), *FIRST)
    assert main([str(file), str(cut)]) == 2
    assert "b.jsonl:5: expected a footer" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(file)])
    assert "expected at least two result files" in capsys.readouterr().err
