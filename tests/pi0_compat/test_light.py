"""What works on files works without jax, flax, optax and orbax, and what needs them says how to install them."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fixtures.golden_cases import GOLDEN
from pi0_compat.cli import COMMANDS
from pi0_compat.errors import CheckpointError
from pi0_compat.extras import EXTRAS, extra_of, install_line
from pi0_compat.storage.download import fetch

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE, LORA = str(GOLDEN / "pi0_base" / "params"), str(GOLDEN / "pi0_lora" / "params")
CONFIG = ("--config", "pi0_base_tiny")
LORA_CONFIG = ("--config", "pi0_libero_low_mem_finetune_tiny")
# Each is a run in a folder of its own, one command after the other.
RUNS = {
    "inspect": [("inspect", BASE), ("inspect", LORA, "--json")],
    "check": [("check", BASE, *CONFIG)],
    "diff": [("diff", BASE, BASE)],
    "fold": [("fold", LORA, "-o", "out", *LORA_CONFIG), ("inspect", "out")],
    "extract_and_attach": [
        ("extract", LORA, "-o", "adapters", *LORA_CONFIG),
        ("attach", "adapters", "--to", BASE, "-o", "out"),
        ("check", "out", *LORA_CONFIG),
    ],
    "convert": [
        ("convert", BASE, "-o", "torch", "--to", "openpi_pytorch", *CONFIG),
        ("convert", "torch", "-o", "out", "--to", "openpi", *CONFIG),
        ("diff", BASE, "out"),
    ],
    "convert_a_part": [
        ("convert", BASE, "-o", "whole.npz", "--to", "paligemma_npz", "--drop", *CONFIG),
        ("convert", LORA, "-o", "peft", "--to", "peft", *LORA_CONFIG),
        ("inspect", "peft"),
    ],
}
# The code is what a base install runs: nothing of the extra `jax` can be imported.
WITHOUT_JAX = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS["jax"]}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run(code: str, folder: Path) -> str:
    """Run code in an interpreter of its own that has no jax; return what it prints."""
    code = f"{WITHOUT_JAX}sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", RUNS)
def test_commands_need_no_jax(name: str, tmp_path: Path) -> None:
    """Every command does its work on real checkpoints where nothing of the extra ``jax`` is installed."""
    run(
        "from pi0_compat.cli.main import main\n"
        f"for arguments in {RUNS[name]!r}:\n"
        "    status = main(list(arguments))\n"
        "    assert status == 0, (arguments, status)\n",
        tmp_path,
    )


def test_help_needs_no_jax(tmp_path: Path) -> None:
    """The help of the program and of every command is shown without it."""
    shown = run(
        "from pi0_compat.cli.main import main\n"
        f"for arguments in [['--help'], *([name, '--help'] for name in {list(COMMANDS)!r})]:\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit as end:\n"
        "        assert not end.code\n",
        tmp_path,
    )
    assert shown.count("usage: pi0-compat") == 1 + len(COMMANDS)


def test_importing_the_package_imports_next_to_nothing(tmp_path: Path) -> None:
    """Public names are imported when they are used: until then neither numpy nor tensorstore is loaded."""
    loaded = run("import pi0_compat\nprint(*sorted(sys.modules))", tmp_path).split()
    assert not {"numpy", "tensorstore", "fsspec", "rich", "zstandard"} & set(loaded)


def test_a_name_that_needs_jax_says_how_to_install_it(tmp_path: Path) -> None:
    """Of all public names, those that need the extra name the line that installs it; the others are there."""
    shown = run(
        "import pi0_compat\n"
        "for name in pi0_compat.__all__:\n"
        "    try:\n"
        "        getattr(pi0_compat, name)\n"
        "    except ImportError as error:\n"
        "        print(error)\n",
        tmp_path,
    )
    lines = shown.splitlines()
    assert {line.split()[0].removeprefix("pi0_compat.") for line in lines} == {
        *("Observation", "Pi0", "Pi0Config", "Pi0Fast", "TrainConfig", "TrainState", "get_config", "init_train_state"),
        *("make_train_step", "open_run", "restore_params", "resume_train_state", "save_params", "save_train_state"),
        "trainable_paths",
    }
    assert all(line.endswith("install it: pip install 'pi0-compat[jax]'") for line in lines)


def test_a_bucket_says_how_to_install_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without gcsfs, a URL of Google's storage is rejected with the line that installs it."""
    importlib.import_module("fsspec.registry")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    # fsspec keeps the class that it has imported for another test.
    monkeypatch.delitem(vars(sys.modules["fsspec.registry"])["_registry"], "gs", raising=False)
    with pytest.raises(CheckpointError, match=r"gs:// .*pip install 'pi0-compat\[gcs\]'\); or pass a local path"):
        fetch("gs://bucket/checkpoint")


def test_extras_are_those_of_the_project() -> None:
    """The table has the extras of pyproject.toml, and every package of theirs that is imported."""
    declared = PROJECT["optional-dependencies"]
    assert declared.keys() == EXTRAS.keys()
    for extra, packages in EXTRAS.items():
        names = " ".join(declared[extra])
        # jaxlib comes with jax.
        assert all(package.removesuffix("lib") in names for package in packages)
        assert install_line(extra) == f"pip install 'pi0-compat[{extra}]'"


@pytest.mark.parametrize(
    ("module", "extra"),
    [("jax", "jax"), ("orbax.checkpoint", "jax"), ("gcsfs", "gcs"), ("jaxtyping", None), ("numpy", None), (None, None)],
)
def test_a_module_is_found_in_its_extra(module: str | None, extra: str | None) -> None:
    """A missing module is attributed to an extra by its top-level package."""
    assert extra_of(module) == extra
