"""The template harness keeps its docstring's promise: it runs a copy of the reference in another interpreter."""

import shutil
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]


# Four cases of save need a loss, which the template leaves out.
@pytest.mark.parametrize(("area", "at_least"), [("restore", 10), ("load", 5), ("start", 6), ("save", 9)])
def test_the_template_keeps_contracts_elsewhere(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, area: str, at_least: int
) -> None:
    """Copied, and sent to an interpreter that finds a copy of the reference, it passes the contracts."""
    shutil.copytree(ROOT / "pi0_compat", pytester.path / "copy/pi0_compat")
    shutil.copy(ROOT / "suite/subjects/template.py", pytester.path / "my_harness.py")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path / "copy"))
    contracts = str(ROOT / "suite/contracts" / f"test_{area}.py")
    options = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-q")
    result = pytester.runpytest_subprocess(contracts, *options, "--subject", f"./my_harness.py={sys.executable}")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= at_least
    assert not {"failed", "errors"} & outcomes.keys()
