"""The command that updates expectations writes entries that explain a run, and asks for what it cannot know."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suite.session.causes import case_patterns, cause, shared_text
from suite.session.expect import main
from suite.session.expectations import Expectation, read

REST = {"kind": "theirs", "reason": "It flies.", "link": "https://example.org/1", "since": "1.0"}
WIDE = "refused, but without naming ['.../params']: ValueError: head/{}: expected {}, found 8 (at .../io.py:{})"


def row(contract: str, case: str = "", outcome: str = "fail", **changes: Any) -> dict[str, Any]:
    """Return a row of the subject toy; a failure is silent, by an assertion of the suite."""
    failure = {"severity": "silent", "raised": "AssertionError", "message": "AssertionError: 2 of 3 parameters differ"}
    base = {"kind": "row", "contract": contract, "case": case, "subject": "toy", "outcome": outcome, "message": ""}
    return base | (failure if outcome in ("fail", "known") else {}) | changes


def entry(contract: str, **changes: str) -> dict[str, str]:
    """Return an entry that explains ``row``."""
    return {
        "contract": contract,
        "severity": "silent",
        "raises": "AssertionError",
        "match": "differ",
        **REST,
        **changes,
    }


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the command on rows and entries, and returns status, output and the file."""

    def run(rows: Sequence[dict[str, Any]], entries: Sequence[dict[str, str]], *options: str) -> tuple[int, str, Path]:
        header = {"kind": "header", "schema_version": 2, "subjects": [{"name": "toy", "version": "1.2"}]}
        results, file = tmp_path / "rows.jsonl", tmp_path / "toy.toml"
        results.write_text("".join(json.dumps(record) + "\n" for record in (header, *rows)))
        texts = ["\n".join(f"{key} = {json.dumps(value)}" for key, value in each.items()) for each in entries]
        file.write_text("# Toys.\n\n" + "\n\n".join(f"[[expect]]\n{text}" for text in texts) + "\n")
        status = main([str(results), "--file", str(file), *options])
        return status, capsys.readouterr().out, file

    return run


def written(file: Path) -> tuple[Expectation, ...]:
    """Return the entries of a file after a person has filled in what the command left open."""
    file.write_text(file.read_text().replace('link = "TODO"', 'link = "https://example.org/2"').replace("TODO", "Now"))
    return read(file, "1.2")


def test_a_new_failure_is_an_entry_to_complete(ask: Any) -> None:
    """Failures with one cause are one entry per contract, with a pattern, and the file is rejected until it has a
    reason."""
    rows = [row("load.is_whole", case) for case in ("a-openpi", "b-openpi")] + [row("load.is_whole", "a-peft", "pass")]
    status, output, file = ask(rows, [], "--write")
    assert (status, "new: 1" in output) == (1, True)
    with pytest.raises(ValueError, match=r"load\.is_whole: reason, link: still TODO"):
        read(file, "1.2")
    [made] = written(file)
    assert file.read_text().startswith("# Toys.\n\n[[expect]]\n")
    assert (made.contract, made.case, made.severity, made.raises) == (
        "load.is_whole",
        "*-openpi",
        "silent",
        "AssertionError",
    )
    assert (made.match, made.since) == ("2 of 3 parameters differ", "1.2")


def test_without_write_nothing_is_written(ask: Any) -> None:
    """The entries are printed, and the status says that something has to change."""
    status, output, file = ask([row("load.is_whole")], [])
    assert status == 1
    assert '    contract = "load.is_whole"' in output
    assert "[[expect]]" not in file.read_text()


def test_entries_that_hold_stay_as_they_are(ask: Any) -> None:
    """A run that the entries explain changes nothing, nor does one of other contracts or of another version."""
    entries = [entry("load.is_whole"), entry("save.is_whole"), entry("load.is_whole", versions=">=2", match="other")]
    before = (status_output_file := ask([row("load.is_whole", outcome="known")], entries, "--write"))[2].read_text()
    status, output, file = status_output_file
    assert (status, file.read_text()) == (0, before)
    assert "not asked by this run: 1\n    save.is_whole" in output


def test_another_severity_keeps_the_reason(ask: Any) -> None:
    """Only the severity of an entry changes if type and text are the same."""
    _, _, file = ask([row("load.is_whole", severity="crash")], [entry("load.is_whole")], "--write")
    assert read(file, "1.2") == (Expectation(**entry("load.is_whole", severity="crash")),)


def test_another_failure_asks_for_its_reason(ask: Any) -> None:
    """An entry whose type or text changed gets the new ones, keeps its link, and shows its old reason as a TODO."""
    failure = {"raised": "KeyError", "severity": "crash", "message": "KeyError: 'head/w'"}
    _, output, file = ask([row("load.is_whole", **failure)], [entry("load.is_whole")], "--write")
    assert "changed: 1" in output
    with pytest.raises(ValueError, match="reason: still TODO"):
        read(file, "1.2")
    [made] = written(file)
    assert (made.raises, made.match, made.severity, made.link) == ("KeyError", "'head/w'", "crash", REST["link"])
    assert made.reason == "Now: was: It flies."


def test_what_is_fixed_is_dropped(ask: Any) -> None:
    """An entry without a failure goes; of one that is partly fixed, the rest stays under a narrower pattern."""
    rows = [
        row("load.is_whole", "a-1", "fixed"),
        *(row("load.is_whole", case, "known") for case in ("b-1", "b-2")),
        row("save.is_whole", "", "fixed"),
        row("save.is_quick", "", "absent"),
    ]
    entries = [entry("load.is_whole"), entry("save.is_quick"), entry("save.is_whole")]
    _, output, file = ask(rows, entries, "--write")
    assert "dropped: 2\n    save.is_quick\n    save.is_whole" in output
    assert read(file, "1.2") == (Expectation(**entry("load.is_whole", case="b-*")),)


def test_a_whole_run_drops_what_no_longer_exists(ask: Any) -> None:
    """With --whole, an entry of a contract that the run lacks goes."""
    _, _, file = ask(
        [row("load.is_whole", outcome="known")], [entry("load.is_whole"), entry("old.law")], "--whole", "--write"
    )
    assert [each.contract for each in read(file, "1.2")] == ["load.is_whole"]


def test_causes_are_kept_apart(ask: Any) -> None:
    """Cases of a contract that fail in several ways are several entries, none of which overlap."""
    crash = {"raised": "KeyError", "severity": "crash", "message": "KeyError: 'head/w'"}
    rows = [
        row("a.law", "x-1", **crash),
        row("a.law", "x-2", **crash),
        row("a.law", "y-1"),
        row("a.law", "z-1", "pass"),
    ]
    _, _, file = ask(rows, [], "--write")
    assert {(each.case, each.severity) for each in written(file)} == {("x-*", "crash"), ("y-1", "silent")}


def test_written_entries_explain_the_run(ask: Any) -> None:
    """A second run of the command changes nothing."""
    messages = [WIDE.format(name, *numbers) for name, numbers in {"w": (4, 12), "b": (16, 90)}.items()]
    rows = [row("a.law", str(n), message=f"AssertionError: {text}") for n, text in enumerate(messages)]
    _, _, file = ask([*rows, row("a.law", "2", "pass")], [], "--write")
    found = written(file)
    for each, case in zip(rows, "01", strict=True):
        [covering] = [one for one in found if one.covers("a.law", case)]
        assert covering.explains("AssertionError", each["message"], "silent")
        assert "found 8" in covering.match


@pytest.mark.parametrize("version", [1, None])
def test_rows_without_severity_are_rejected(tmp_path: Path, version: int | None) -> None:
    """A results file of an older version, or something else, is named."""
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"kind": "header" if version else "row", "schema_version": version})
    )
    assert main([str(tmp_path / "rows.jsonl")]) == 2


@pytest.mark.parametrize(
    ("cases", "others", "patterns"),
    [
        (["a", "b"], [], ["*"]),
        (["pi0-x", "pi0-y"], ["pi05-x"], ["pi0-*"]),
        (["x-pi0", "y-pi0"], ["x-pi05"], ["*-pi0"]),
        (["a-w-1", "b-w-2"], ["a-v-1"], ["*w*"]),
        (["a", "z"], ["m"], ["a", "z"]),
        (["a"], ["ab"], ["a"]),
    ],
)
def test_patterns_cover_the_cases_and_no_other(cases: list[str], others: list[str], patterns: list[str]) -> None:
    """A pattern is as short as it can be, and without one the cases are named."""
    assert case_patterns(cases, others) == patterns


def test_a_cause_has_no_numbers_and_names() -> None:
    """Two failures that differ in folders, numbers and quoted names have one cause; a type of its own is another."""
    one, two = (row("a.law", message=f"AssertionError: {WIDE.format('w', number, 1)}") for number in (3, 4))
    assert cause(one) == cause(two) != cause(one | {"raised": "KeyError"})


def test_a_shared_text_is_stable() -> None:
    """No folder, place or fraction is in the text that several messages share."""
    rows = [
        row("a.law", message=f"ValueError: .../{name}: bad header 0.12{n} in w", raised="ValueError")
        for n, name in enumerate("ab")
    ]
    assert shared_text(rows) == "bad header"
