"""Times and memory of the commands: measured in a process of their own, and reported with the file they come from."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import commands as measuring
from reports.__main__ import main
from reports.pages.commands import commands_part, commands_table
from reports.read.commands import read_commands
from tests.reports import toy_benchmarks, toy_project
from tests.reports.toy_runs import Json

NAME = "commands/cpu-2-core-toy"


def result(seconds: float = 12.0, **changes: Any) -> Json:
    """Return a result with two commands, one of them failed."""
    fold = {"name": "fold", "read_bytes": 13_000_000_000, "seconds": seconds, "peak_bytes": 2_000_000_000, "status": 0}
    return {
        "schema": "pi0-compat/commands",
        "schema_version": 1,
        "run": toy_benchmarks.run(),
        "environment": toy_benchmarks.environment(),
        "size": "full",
        "commands": [fold, {**fold, "name": "diff", "status": 2}],
        **changes,
    }


def write(root: Path, content: Json, name: str = "a") -> Path:
    file = root / NAME / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_a_command_is_measured_as_the_schema_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny checkpoint is inspected; a command that fails is recorded with its status."""

    def two(_: Any, base: Path, __: Path, scratch: Path) -> list[measuring.Task]:
        inspect = ["inspect", str(base)]
        lost = ["inspect", str(scratch / "lost")]
        return [measuring.Task("inspect", inspect, [base]), measuring.Task("lost", lost, [base])]

    monkeypatch.setattr(measuring, "_tasks", two)
    assert (
        measuring.main(
            ["--size", "tiny", "--checkpoints", str(tmp_path / "kept"), "--results", str(tmp_path / "commands")]
        )
        == 1
    )
    (run,) = read_commands(tmp_path / "commands")
    inspected, lost = run.result["commands"]
    assert (inspected["status"], lost["status"]) == (0, 2)
    assert inspected["read_bytes"] > 100_000
    assert inspected["peak_bytes"] > 50_000_000
    assert str(tmp_path) not in json.dumps(run.result)


def test_the_newest_of_a_machine_and_size_is_shown(tmp_path: Path) -> None:
    write(tmp_path, result(12.0), "b")
    later = result(7.0, run=toy_benchmarks.run(started="2026-11-23T08:00:00Z"), ceilings=toy_benchmarks.ceilings())
    later["commands"][0]["limit_s"] = 4.0
    write(tmp_path, later, "a")
    write(tmp_path, result(0.5, size="small"), "c")
    runs = read_commands(tmp_path / "commands")
    rows = commands_table(runs).rows
    dash = "\N{EN DASH}"
    assert [(row[1], row[2], *row[4:7]) for row in rows] == [
        ("full", "fold", "7.00 s", "1.75x", "2.00 GB"),
        ("full", "diff", "failed (2)", dash, dash),
        ("small", "fold", "0.500 s", dash, "2.00 GB"),
        ("small", "diff", "failed (2)", dash, dash),
    ]
    assert f"[a.json](reports/{NAME}/a.json)" in commands_part(runs, "reports")


def test_pages_show_times_of_commands(tmp_path: Path) -> None:
    root = toy_project.make(tmp_path)
    write(root / "reports", result())
    assert main([], root) == 0
    for page in ("docs/benchmarks.md", "reports/README.md", "reports/index.html"):
        text = (root / page).read_text(encoding="utf-8")
        assert "12.0 s" in text
        assert f"{NAME}/a.json" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "huge"}, "size: 'huge' is not one of"),
        ({"commands": []}, "commands: [] should be non-empty"),
        ({"schema": "another"}, "schema: 'pi0-compat/commands' was expected"),
    ],
)
def test_an_invalid_file_is_rejected_by_name(tmp_path: Path, changes: Json, message: str) -> None:
    file = write(tmp_path, result(**changes))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is asserted below
        read_commands(tmp_path / "commands")
    assert str(error.value).startswith(f"{file}: {message}")


def test_a_truncated_file_is_rejected_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, result())
    file.write_text(file.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.json: expected JSON"):
        read_commands(tmp_path / "commands")
