"""The README and the guides run as written, from the root of a clone."""

import re
from pathlib import Path
from typing import Any

import pytest

from pi0_compat import LoadReport, Pi0, Pi0Fast, TrainState
from pi0_compat.cli.main import main
from pi0_compat.loading.report import Status
from tests.docs.pages import CONTRIBUTING, README, ROOT, blocks, commands, text_of

WITH_COMMANDS = [README, *(ROOT / "docs" / f"{name}.md" for name in ("quickstart", "convert", "norm_stats"))]
WITH_PYTHON = [
    README,
    *(ROOT / "docs" / f"{name}.md" for name in ("quickstart", "loading", "lora", "pi0_fast", "norm_stats")),
]
MAX_README_BYTES = 8000
MAX_RECIPE_LINES = 8


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a writable folder that has the fixtures of a clone."""
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)


def run_python(page: Path) -> dict[str, Any]:
    """Run the Python of a page from top to bottom; return the names that it defines."""
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(block, names)  # noqa: S102 - our own page
    return names


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_python_runs(page: Path) -> None:
    assert blocks(page, "python")
    run_python(page)


def test_a_base_checkpoint_loads_into_the_lora_config() -> None:
    """The README returns a model; the quickstart also a train state and a report of fresh parameters."""
    assert isinstance(run_python(README)["model"], Pi0)
    names = run_python(ROOT / "docs" / "quickstart.md")
    assert isinstance(names["state"], TrainState)
    assert isinstance(names["report"], LoadReport)
    assert sorted(names["lora"]) == names["report"].paths(Status.INITIALIZED)


def test_the_readme_s_recipe_works_for_fast() -> None:
    """With the names of pi0-FAST in place of pi0's, the README's base goes into the LoRA config just as well."""
    names: dict[str, Any] = {}
    block = next(block for block in blocks(README, "python") if "merge_parameters" in block)
    exec(block.replace("pi0_libero", "pi0_fast_libero").replace("pi0_base", "pi0_fast_base"), names)  # noqa: S102
    assert isinstance(names["model"], Pi0Fast)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_commands_run(page: Path) -> None:
    """Each `pi0-compat` command answers yes or no, in the order of the page; none refuses."""
    lines = list(commands(page))
    assert lines
    assert [line for line in lines if main(line) not in (0, 1)] == []


def test_the_readme_is_short() -> None:
    """The README has at most 8,000 bytes, and a recipe at most eight lines."""
    assert len(README.read_bytes()) <= MAX_README_BYTES
    recipes = [block for language in ("python", "bash") for block in blocks(README, language)]
    assert [block for block in recipes if len(block.splitlines()) > MAX_RECIPE_LINES] == []


@pytest.mark.parametrize("page", [README, CONTRIBUTING], ids=lambda page: page.stem)
def test_every_session_it_names_exists(page: Path) -> None:
    """Each `nox -s NAME` is a session of the noxfile."""
    named = set(re.findall(r"nox -s (\w+)", text_of(page)))
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    defined = set(re.findall(r"^def (\w+)\(session", noxfile, flags=re.MULTILINE))
    assert named
    assert named <= defined


def test_ci_runs_the_commands_of_contributing() -> None:
    """`.ci/run` calls exactly the commands that CONTRIBUTING names."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    compat = "nox -s compat -- --subject reference --subject transformers --subject peft"
    steps = ("nox -s tests", "nox -s lint", compat, "nox -s report -- --check", "nox -s pages", "nox -s docs")
    for command in steps:
        assert command in text_of(CONTRIBUTING)
        assert f"step {command}\n" in script
