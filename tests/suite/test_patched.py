"""Patched copies of the reference: changed where the patch applies, and shared where it has no influence."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pi0_compat
from fixtures.specs import tiny
from suite.subjects.patches.patched import Patch, dependents, fresh_harness, patched_harness, patched_sources

reference: Any = importlib.import_module("suite.subjects.reference")
REFERENCE = Path(pi0_compat.__file__).parent
SCALE = Patch(
    "model/specs.py",
    "return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)",
    "return 42.0",
)


def modules() -> dict[str, object]:
    return {name: module for name, module in sys.modules.items() if name.startswith(("pi0_compat", "suite.subj"))}


def test_only_the_copy_is_patched() -> None:
    harness: Any = patched_harness("copy", [SCALE])
    model = tiny(lora="both")
    scales = [a.Pi0Config.from_json(model).paligemma.lora_attn.scale for a in (harness, reference)]
    assert scales == [42.0, 10.0 / 4]
    assert harness.NAME == "copy"
    assert reference.NAME == "reference"


def test_the_imported_modules_are_unchanged() -> None:
    before = modules()
    patched_harness("copy", [SCALE])
    assert modules() == before
    for name, module in before.items():
        package, _, attribute = name.rpartition(".")
        assert not package or getattr(sys.modules[package], attribute) is module


def test_only_modules_that_depend_on_the_patch_are_imported_again() -> None:
    harness: Any = patched_harness("copy", [Patch("training/step.py", "def trainable_paths(", "def trainable_paths(")])
    assert harness.training is not reference.training
    assert harness.Pi0Config is reference.Pi0Config
    assert harness.checkpoints is reference.checkpoints


def test_a_fresh_harness_shares_nothing() -> None:
    harness: Any = fresh_harness()
    assert harness.Pi0Config is not reference.Pi0Config
    assert harness.checkpoints is not reference.checkpoints


def test_importers_of_a_patched_module_depend_on_it() -> None:
    importers = dependents([REFERENCE / "params.py"])
    assert {"pi0_compat.params", "pi0_compat.model.config", "suite.subjects.reference"} <= importers
    assert "pi0_compat.model.specs" not in importers


# The command and the package's public names are imported on first use, and never by the reference's harness.
LATE = {REFERENCE / "__init__.py", REFERENCE / "cli" / "main.py"}


@pytest.mark.parametrize(
    "file", sorted({*REFERENCE.rglob("*.py")} - LATE), ids=lambda file: str(file.relative_to(REFERENCE))
)
def test_the_reference_imports_itself_at_the_top_and_by_from(file: Path) -> None:
    """``dependents`` reads imports from the source, and a late import would find the unpatched module."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    late = [node for node in imports(tree) if node not in tree.body and "pi0_compat" in ast.unparse(node)]
    assert not late
    assert not [node for node in imports(tree) if isinstance(node, ast.Import) and "pi0_compat" in ast.unparse(node)]


def imports(tree: ast.Module) -> Iterator[ast.stmt]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def test_traits_can_be_taken_away() -> None:
    assert set(reference.TRAITS) - set(patched_harness("copy", [], frozenset({"lora"})).TRAITS) == {"lora"}


@pytest.mark.parametrize(
    ("old", "count"), [("no such line anywhere", "0"), ("return", r"\d+")], ids=["not_there", "more_than_once"]
)
def test_a_patch_that_does_not_fit_is_rejected(old: str, count: str) -> None:
    with pytest.raises(ValueError, match=rf"specs\.py: .* there {count} times"):
        patched_sources([Patch("model/specs.py", old, "pass")])


def test_two_patches_of_one_file_are_both_applied() -> None:
    (text,) = patched_sources([SCALE, Patch("model/specs.py", "rslora: bool = False", "rslora: bool = True")]).values()
    assert "return 42.0" in text
    assert "rslora: bool = True" in text
