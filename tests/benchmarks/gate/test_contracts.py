"""Which contracts the gate runs before it measures, and what it makes of their results."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.gate import contracts
from benchmarks.gate.sides import Side
from benchmarks.measure.process import ROOT

Changed = Callable[..., Side]


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """Return a function that makes a checkout with a copy of the library, some of its files changed."""

    def make(*files: str) -> Side:
        for file in (ROOT / "pi0_compat").rglob("*.py"):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text()
            copy.write_text(
                text + "\n# changed\n" if file.relative_to(ROOT / "pi0_compat").as_posix() in files else text
            )
        return Side("changed", tree=tmp_path)

    return make


def test_unchanged_code_needs_no_contract(changed: Changed) -> None:
    assert contracts.contracts_of(Side("old"), changed(), "reference") == []


def test_the_contracts_of_a_changed_file_are_chosen(changed: Changed) -> None:
    chosen = contracts.contracts_of(Side("old"), changed("layouts/gemma_flax.py"), "reference")
    assert "suite/contracts/test_gemma_flax.py::test_missing_layer_is_refused_by_name" in chosen
    assert not any("test_forward" in contract for contract in chosen)


def test_the_chosen_contracts_exist(changed: Changed) -> None:
    for contract in contracts.contracts_of(
        Side("old"), changed("layouts/orbax/restore.py", "lora/fold.py"), "reference"
    ):
        file, _, test = contract.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text()


def test_a_file_without_faults_needs_all_contracts(changed: Changed) -> None:
    assert contracts.contracts_of(Side("old"), changed("errors.py"), "reference") == ["suite/contracts"]


def test_other_packages_need_all_contracts(tmp_path: Path) -> None:
    side = Side("orbax-checkpoint==0.11.22", packages=tmp_path)
    assert contracts.contracts_of(Side("old"), side, "reference") == ["suite/contracts"]


@pytest.mark.parametrize("subject", ["openpi=python3", f"{ROOT / 'suite/subjects/template.py'}=python3"])
def test_other_implementations_get_the_common_contracts(subject: str) -> None:
    chosen = contracts.contracts_of(Side("old"), Side("new"), subject)
    assert all((ROOT / file).is_file() for file in chosen)
    assert "suite/contracts/test_restore.py" in chosen


@pytest.mark.parametrize(("status", "verdict"), [(0, "same"), (1, "regressed"), (2, "error"), (5, "error")])
def test_the_verdict_follows_the_status_of_pytest(monkeypatch: pytest.MonkeyPatch, status: int, verdict: str) -> None:
    calls = []

    def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        calls.append((command, settings))
        return subprocess.CompletedProcess(command, status, "F.\n=== 1 failed ===\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    finding = contracts.ask(Side("new", packages=Path("somewhere")), "reference", ["suite/contracts/test_load.py"])
    assert (finding.verdict, finding.note.partition("\n")[0]) == (verdict, "1 failed")
    command, settings = calls[0]
    assert command[-1] == "suite/contracts/test_load.py"
    assert settings["env"]["PYTHONPATH"] == "somewhere"  # type: ignore[index]


def test_another_implementation_runs_in_its_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        calls.append((command, settings))
        return subprocess.CompletedProcess(command, 0, "1 passed", "")

    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "src").mkdir()
    contracts.ask(Side("new", tree=tmp_path), "openpi=python3", ["suite/contracts/test_load.py"])
    command, settings = calls[0]
    assert command[command.index("--subject") + 1] == "openpi=python3"
    assert settings["env"]["PYTHONPATH"] == str(tmp_path / "src")  # type: ignore[index]
    assert settings["cwd"] == ROOT
