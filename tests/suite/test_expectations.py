"""Expectations are strict: an entry explains one failure of one subject, or it breaks the run."""

import json
from pathlib import Path

import jsonschema
import pytest

from suite.session import expectations
from suite.session.expectations import FOLDER, Expectation, find_problems, holds_for, read
from suite.subjects.process.harness_files import foreign_names

pytest_plugins = ["pytester"]

SCHEMA = json.loads((Path(__file__).parents[2] / "reports/schema/rows.schema.json").read_text())
HARNESS = """
from suite.subjects.protocol import SubjectError
NAME, TRAITS = "toy", ("lora",)
def describe(): return {"version": "1.2"}
def init(model, seed): return {"a/w": 1}
def fold(model, params): raise SubjectError("KeyError", "'w'")
"""
CONTRACTS = '''
import pytest
from suite.session.registry import contract

@contract(source="Newton", needs=("init",))
@pytest.mark.parametrize("height", ["low", "high"])
def test_apples_fall(subject, height):
    """Apples fall."""
    assert height == "low", "apples fly"

@contract(source="Newton", needs=("fold",))
def test_pears_fall(subject):
    """Pears fall."""
    subject.fold({}, {})

@contract(source="Newton", needs=("save",))
def test_birds_fly(subject):
    """Birds fly."""
'''
APPLES = {
    "contract": "sky.apples_fall",
    "case": "high",
    "severity": "silent",
    "raises": "AssertionError",
    "match": "apples fly",
}
PEARS = {"contract": "sky.pears_fall", "severity": "crash", "raises": "KeyError", "match": "'w'"}
REST = {"kind": "theirs", "reason": "It flies.", "link": "https://example.org/1", "since": "1.0"}


def toml(*entries: dict[str, str]) -> str:
    """Return entries as the text of a file."""
    tables = ["\n".join(f"{key} = {json.dumps(value)}" for key, value in (REST | entry).items()) for entry in entries]
    return "".join(f"[[expect]]\n{table}\n" for table in tables)


def ask(pytester: pytest.Pytester, *entries: dict[str, str], options: tuple[str, ...] = ()) -> pytest.RunResult:
    """Run toy contracts on a toy subject with expected failures."""
    pytester.makepyfile(test_sky=CONTRACTS, toy=HARNESS)
    (pytester.path / "toy.toml").write_text(toml(*entries))
    arguments = ("--subject", "./toy.py", "--expectations", "toy.toml", "--results", "rows.jsonl", *options)
    return pytester.runpytest_inprocess("-p", "suite.session.plugin", *arguments)


def outcomes(pytester: pytest.Pytester) -> dict[tuple[str, str], str]:
    """Return the outcome of each case, with every line validated."""
    lines = [json.loads(line) for line in (pytester.path / "rows.jsonl").read_text().splitlines()]
    for line in lines:
        jsonschema.Draft202012Validator(SCHEMA).validate(line)
    return {(row["contract"], row["case"]): row["outcome"] for row in lines if row["kind"] == "row"}


def test_a_known_failure_is_known(pytester: pytest.Pytester) -> None:
    """A failure with an entry is known and has the entry's reason, and the run succeeds."""
    result = ask(pytester, APPLES, PEARS)
    assert result.ret == pytest.ExitCode.OK
    assert outcomes(pytester) == {
        ("sky.apples_fall", "low"): "pass",
        ("sky.apples_fall", "high"): "known",
        ("sky.pears_fall", ""): "known",
        ("sky.birds_fly", ""): "absent",
    }
    result.stdout.fnmatch_lines(["known, silent: sky.apples_fall[[]high[]] It flies. (https://example.org/1)"])


def test_message_shows_the_original_exception(pytester: pytest.Pytester) -> None:
    """A row's message has the type and text of the original exception, without the class that transported it."""
    ask(pytester, options=("-k", "pears"))
    lines = [json.loads(line) for line in (pytester.path / "rows.jsonl").read_text().splitlines()]
    assert [line["message"] for line in lines if line["kind"] == "row"] == ["KeyError: 'w'"]


def test_a_failure_that_is_fixed_breaks_the_run(pytester: pytest.Pytester) -> None:
    """A case that passes although a failure is expected is fixed, and the run says to remove the entry."""
    result = ask(pytester, APPLES | {"case": "*"}, PEARS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes(pytester)["sky.apples_fall", "low"] == "fixed"
    result.stdout.fnmatch_lines(["fixed: sky.apples_fall[[]low[]]*remove the entry*"])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"raises": "KeyError"}, "KeyError, silent, with 'apples fly' in its text"),
        ({"match": "apples swim"}, "AssertionError, silent, with 'apples swim' in its text"),
        ({"severity": "crash"}, "AssertionError, crash, with 'apples fly' in its text"),
    ],
    ids=["type", "text", "severity"],
)
def test_another_failure_breaks_the_run(pytester: pytest.Pytester, other: dict[str, str], expected: str) -> None:
    """An exception of another type, text or severity than expected is a failure, and the run says what was expected."""
    result = ask(pytester, APPLES | other, PEARS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes(pytester)["sky.apples_fall", "high"] == "fail"
    result.stdout.fnmatch_lines([f"sky.apples_fall[[]high[]]: expected {expected}; found AssertionError, silent"])


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"contract": "sky.apples_rise"}, "sky.apples_rise[[]high[]]: no such contract or case"),
        ({"case": "highest"}, "sky.apples_fall[[]highest[]]: no such contract or case"),
        ({"contract": "sky.birds_fly", "case": "*"}, "sky.birds_fly: not run, because the subject lacks *"),
        ({"case": "h*"}, "sky.apples_fall[[]high[]]: covered by several entries"),
    ],
)
def test_an_entry_that_explains_nothing_breaks_the_run(
    pytester: pytest.Pytester, entry: dict[str, str], problem: str
) -> None:
    """An entry without a case, for a case that did not run, or in addition to another one fails the run."""
    result = ask(pytester, APPLES, PEARS, APPLES | entry)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"error: toy.toml: {problem}"])


@pytest.mark.parametrize(("part", "outcome"), [("pears", "known"), ("low", "pass")])
def test_part_of_the_cases_needs_part_of_the_entries(pytester: pytest.Pytester, part: str, outcome: str) -> None:
    """A run of some contracts, or of some cases of one, ignores the entries of the others."""
    assert ask(pytester, APPLES, PEARS, options=("-k", part)).ret == pytest.ExitCode.OK
    assert set(outcomes(pytester).values()) == {outcome}


def test_another_version_has_its_own_failures(pytester: pytest.Pytester) -> None:
    """An entry for other versions of the subject explains nothing and is no error."""
    assert ask(pytester, APPLES, PEARS | {"versions": ">=2"}).ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes(pytester)["sky.pears_fall", ""] == "fail"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "mine"}, "sky.apples_fall: kind 'mine'; expected one of ours, theirs, never, disputed"),
        ({"severity": "bad"}, "sky.apples_fall: severity 'bad'; expected one of silent, crash, unclear"),
        ({"reason": "TODO"}, "sky.apples_fall: reason: still TODO"),
        ({"link": "somewhere"}, "sky.apples_fall: link 'somewhere'; expected the URL"),
        ({"reason": " "}, "sky.apples_fall: reason must not be empty"),
        ({"cases": "high"}, "sky.apples_fall: got an unexpected keyword argument 'cases'"),
    ],
)
def test_a_wrong_entry_is_rejected(pytester: pytest.Pytester, entry: dict[str, str], message: str) -> None:
    """An invalid entry stops the run; the error names file, contract, and the expected value."""
    result = ask(pytester, APPLES | entry)
    assert result.ret != pytest.ExitCode.OK
    assert f"toy.toml: {message}" in result.stdout.str() + result.stderr.str()


def test_a_missing_file_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """A missing file of expectations is named."""
    result = pytester.runpytest_inprocess("-p", "suite.session.plugin", "--expectations", "toy.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --expectations *toy.toml: no such file"])


@pytest.mark.parametrize(
    ("versions", "version", "holds"),
    [
        ("*", "", True),
        ("*", "5.23.0", True),
        (">=5.4,<5.6", "5.5.4", True),
        (">=5.4,<5.6", "5.6.0", False),
        ("15a9616*", "15a9616+", True),
        ("15a9616", "c23745b", False),
    ],
)
def test_versions(versions: str, version: str, holds: bool) -> None:
    """Versions are specifiers, or globs where they are not numbers."""
    assert holds_for(versions, version) is holds


def test_brackets_in_a_case_are_literal() -> None:
    """A case id with brackets is not a pattern."""
    entry = Expectation(**(REST | PEARS | {"contract": "sky.apples_fall", "case": "[low]-*"}))
    assert entry.covers("sky.apples_fall", "[low]-1")
    assert not entry.covers("sky.apples_fall", "l-1")


@pytest.mark.parametrize("file", [*FOLDER.glob("*.toml")], ids=lambda file: file.stem)
def test_own_expectations_are_readable(file: Path) -> None:
    """Each file of the suite belongs to a harness, has entries, and is read completely."""
    assert file.stem in foreign_names()
    assert file.read_text().count("[[expect]]") >= len(read(file, "no version")) >= 0
    assert not find_problems(read(file, "*"), [], set())


def test_the_reference_has_none() -> None:
    """The reference keeps every contract and has no expectations."""
    assert not (expectations.FOLDER / "reference.toml").exists()
