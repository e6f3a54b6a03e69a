"""Fuzzing of the commands: none of 300 damaged checkpoints has a wrong outcome, and every wrong one is detected."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fixtures.layouts import LAYOUTS
from suite.mutation.commands import CommandFuzzer, Outcome, fuzz_commands, wrong_end

# Seeds whose damage to a checkpoint of openpi's layout is a weight of int8, and damage to a file.
SENSELESS, OF_FILES = 25, 0


def test_the_commands_answer_damaged_checkpoints() -> None:
    """Each of 300 damaged checkpoints, of all layouts, is answered rightly or refused clearly, by one command each."""
    assert fuzz_commands(300, each=False) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_case_goes_to_every_command(tmp_path: Path, layout: str) -> None:
    """A case runs all commands, leaves nothing, and its damage is that of its seed."""
    lines: list[Sequence[str]] = []

    def record(line: Sequence[str]) -> int:
        lines.append(line)
        print(line[1], file=sys.stderr)
        return 2

    fuzzer = CommandFuzzer(tmp_path, record)
    assert fuzzer.run(layout, 3) == []
    assert [line[0] for line in lines] == ["inspect", "check", "convert", "diff"]
    assert [path.name for path in tmp_path.iterdir()] == ["intact"]


def raising(line: Sequence[str]) -> int:
    raise KeyError("w")


def leaving(line: Sequence[str]) -> int:
    if "-o" in line:
        Path(line[line.index("-o") + 1]).with_name(".out.unfinished").mkdir()
    print(line[1], file=sys.stderr)
    return 2


def changing(line: Sequence[str]) -> int:
    file = next(path for path in [Path(line[1]), *Path(line[1]).rglob("*")] if path.is_file())
    file.write_bytes(file.read_bytes() + b"x")
    return 1


@pytest.mark.parametrize(
    ("run", "wrong"),
    [
        (raising, "KeyError: 'w'"),
        (leaving, "left behind: ['.out.unfinished']"),
        (changing, "a file was changed, or left"),
    ],
)
def test_a_wrong_outcome_is_a_failure(tmp_path: Path, run: Callable[[Sequence[str]], int], wrong: str) -> None:
    """A traceback, a leftover and a changed input are reported, with the case and the damage."""
    (found,) = CommandFuzzer(tmp_path, run).run("openpi", OF_FILES, ["convert"])
    assert found["wrong"] == wrong
    assert (found["layout"], found["seed"], found["command"]) == ("openpi", OF_FILES, "convert")
    assert found["damage"]


def test_converting_what_makes_no_sense_is_a_failure(tmp_path: Path) -> None:
    """Exit status 0 is wrong for arrays that no loader can make sense of."""
    (found,) = CommandFuzzer(tmp_path, lambda line: 0).run("openpi", SENSELESS, ["convert"])
    assert found["wrong"] == "converted"


@pytest.mark.parametrize(
    ("outcome", "wrong"),
    [
        (Outcome(0, "complete", ""), None),
        (Outcome(1, "no", ""), None),
        (Outcome(2, "", "pi0-compat inspect: PATH: is damaged"), None),
        (Outcome(3, "", ""), "exit status 3"),
        (Outcome(1, "", "Traceback (most recent call last):"), "a traceback: Traceback (most recent call last):"),
        (Outcome(2, "", "something is wrong"), "refused without naming the path: something is wrong"),
        (Outcome(None, "", "", "_TooLong: more than 60 seconds"), "_TooLong: more than 60 seconds"),
    ],
)
def test_how_a_command_may_end(outcome: Outcome, wrong: str | None) -> None:
    """A command may answer 0 or 1, or refuse with 2 and the path; it prints no traceback."""
    assert wrong_end(outcome, Path("PATH")) == wrong
