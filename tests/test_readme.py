"""The README does what it says: its Python runs as written, and its commands exist."""

import re
from pathlib import Path
from typing import Any

import pytest

from pi0_compat import LoadReport, Pi0, TrainState
from pi0_compat.loading.report import Status

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_base_checkpoint_loads_into_the_lora_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that load a base checkpoint into a LoRA config give a model, a train state and a report."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, names)  # noqa: S102 - our own README
    assert isinstance(names["model"], Pi0)
    assert isinstance(names["state"], TrainState)
    assert isinstance(names["report"], LoadReport)
    assert sorted(names["lora"]) == names["report"].paths(Status.INITIALISED)


def test_every_session_it_names_exists() -> None:
    """Each `nox -s NAME` of the README is a session of the noxfile."""
    named = set(re.findall(r"nox -s (\w+)", README))
    defined = set(
        re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert named
    assert named <= defined


def test_ci_runs_its_test_command() -> None:
    """`.ci/run` calls exactly the README's commands."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    compat = "nox -s compat -- --subject reference --subject transformers --subject peft"
    for command in ("nox -s tests", "nox -s lint", compat, "nox -s report -- --check", "nox -s pages"):
        assert command in README
        assert f"step {command}\n" in script
