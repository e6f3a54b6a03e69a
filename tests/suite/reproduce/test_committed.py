"""The committed reproducers need nothing of this project, and say what was seen."""

import ast
import json
import re
from pathlib import Path

import pytest

from suite.reproduce.causes import FOLDER, Cause, read_causes

CAUSES = read_causes()
WITH_SCRIPT = [cause for cause in CAUSES if not cause.in_words]
every_script = pytest.mark.parametrize("cause", WITH_SCRIPT, ids=[cause.place for cause in WITH_SCRIPT])
# An absolute path of a machine; not a URL, nor the shortened paths in what scripts printed.
MACHINE_PATH = re.compile(r"(?<![\w.:/*-])/(?:tmp|home|root|work|usr|opt|Users)/")
OURS = {"suite", "fixtures", "pi0_compat", "tests", "benchmarks", "reports"}


def imported(script: str) -> set[str]:
    """Return the packages that a script imports."""
    nodes = list(ast.walk(ast.parse(script)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


@every_script
def test_a_script_is_short_and_calls_the_implementation_alone(cause: Cause) -> None:
    """At most 60 lines of at most 280 characters (names are long), without an import of this project."""
    lines = (FOLDER / cause.place / "reproduce.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 280
    assert not imported("\n".join(lines)) & OURS
    assert cause.subject.partition("-")[0] in imported("\n".join(lines))


@every_script
def test_a_folder_says_what_was_seen(cause: Cause) -> None:
    """The facts are those of the list's law; the output has what is wrong and what is right, as in the issue."""
    facts = json.loads((FOLDER / cause.place / "facts.json").read_text(encoding="utf-8"))
    assert (facts["subject"], facts["law"], facts["title"]) == (cause.subject, cause.law, cause.title)
    for word in ("wrong: ", "right: "):
        assert any(line.startswith(word) for line in facts["printed"])
    assert {"python", cause.subject.partition("-")[0]} <= facts["versions"].keys()
    issue = (FOLDER / cause.place / "issue.md").read_text(encoding="utf-8")
    assert "\n".join(facts["printed"]) in issue
    assert issue.startswith(f"# {cause.title}\n")


@every_script
def test_a_folder_is_small_and_names_no_machine(cause: Cause) -> None:
    """At most 180 kB, of which orbax takes 80 for its own files, and no path of the machine in any file."""
    files = [file for file in (FOLDER / cause.place).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 180_000
    for file in files:
        assert not MACHINE_PATH.search(file.read_bytes().decode("latin-1")), file


def test_every_folder_is_listed() -> None:
    """A folder that the list does not have is left over."""
    folders = {str(file.parent.relative_to(FOLDER)) for file in FOLDER.rglob("reproduce.py")}
    assert folders == {cause.place for cause in WITH_SCRIPT}


def test_places_and_titles_are_unique() -> None:
    """Two entries of one folder would write over each other."""
    assert len({cause.place for cause in CAUSES}) == len(CAUSES)
    assert all(not cause.title.endswith(".") and cause.cause.endswith(".") for cause in CAUSES)


def test_paths_of_machines_are_recognized() -> None:
    """The pattern finds what it is for."""
    assert MACHINE_PATH.search("loading /" + "tmp/x/model.safetensors")
    assert not MACHINE_PATH.search("loading .../model.safetensors of https://github.com/tmp/x")
    assert Path(FOLDER).is_dir()
