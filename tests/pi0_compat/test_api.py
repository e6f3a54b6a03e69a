"""The public names: what ``import pi0_compat`` offers, and what the verbs on whole checkpoints return."""

import ast
import inspect
from pathlib import Path

import pytest

import pi0_compat
from pi0_compat import CheckpointError, check_checkpoint, convert_checkpoint, diff_checkpoints, inspect_checkpoint

GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden"
BASE, LORA = GOLDEN / "pi0_base" / "params", GOLDEN / "pi0_lora" / "params"
TINY, TINY_LORA = "pi0_libero_tiny", "pi0_libero_low_mem_finetune_tiny"


@pytest.mark.parametrize("name", pi0_compat.__all__)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    """Each name can be imported, has a docstring, and says so to whoever lists the names."""
    value = getattr(pi0_compat, name)
    assert inspect.getdoc(value)
    assert name in dir(pi0_compat)


def test_only_public_names_are_listed() -> None:
    """What the package imports for itself is not offered to whoever lists the names."""
    assert [name for name in dir(pi0_compat) if not name.startswith("_")] == sorted(pi0_compat.__all__)


def test_type_checkers_and_python_see_the_same_names() -> None:
    """The imports that only a type checker reads name what is looked up when a name is used, and nothing else."""
    tree = ast.parse(Path(pi0_compat.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == pi0_compat._HOMES
    assert sorted(typed) == sorted(pi0_compat.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'pi0_compat' has no attribute 'fold_and_report'"):
        pi0_compat.fold_and_report  # noqa: B018 - looking it up is the test


def test_inspect_describes() -> None:
    described = inspect_checkpoint(LORA)
    assert (described.family, described.layout) == ("pi0", "openpi")
    assert described.path == LORA
    assert set(described.ranks) == {"paligemma", "action_expert"}
    assert described.missing == ()


def test_inspect_takes_a_url(tmp_path: Path) -> None:
    """A URL is what the description is called by; its path is that of an outline."""
    described = inspect_checkpoint(BASE.as_uri())
    assert described.name == BASE.as_uri()
    assert described.leaves == inspect_checkpoint(str(BASE)).leaves


def test_check_answers_for_a_named_config() -> None:
    check = check_checkpoint(BASE, TINY_LORA)
    (fit,) = check.fits.values()
    assert list(check.fits) == [TINY_LORA]
    assert (fit.training.loads, fit.inference.loads) == (True, False)
    assert check.loads("training")
    assert not check.loads()
    assert any("CheckpointWeightLoader" in fix for fix in check.fixes)
    assert check.findings is None


def test_check_answers_for_a_model_and_for_all_configs() -> None:
    """Without a config the answer is that of each named one; a model is asked like the config that has it."""
    every = check_checkpoint(BASE)
    model = check_checkpoint(BASE, pi0_compat.named_model(TINY))
    assert len(every.fits) > 5
    assert every.loads()
    assert model.loads()
    assert list(model.fits.values()) == [every.fits[TINY]]


def test_check_reads_values_when_asked() -> None:
    """A fresh lora_b is unusual and expected, so the checkpoint still loads."""
    check = check_checkpoint(LORA, TINY_LORA, values=True)
    assert check.findings is not None
    assert check.loads()


def test_diff_compares() -> None:
    """Adapters are on one side only; the base weights of both goldens are equal."""
    diff = diff_checkpoints(BASE, GOLDEN / "pi0_lora_paligemma_only" / "params")
    different = diff.differing()
    assert {pair.path.rpartition("/")[2].rpartition("lora_")[1] for pair in different} == {"lora_"}
    assert all(pair.left is None for pair in different)
    assert len(diff.pairs) - len(different) == len(inspect_checkpoint(BASE).leaves)
    assert diff.unused == []


def test_diff_crosses_layouts_and_takes_a_tolerance(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="norm stats"):
        convert_checkpoint(BASE, tmp_path / "half", config=TINY, dtype="bfloat16")
    diff = diff_checkpoints(BASE, tmp_path / "half", config=TINY)
    assert diff.differing()
    assert diff.differing(tolerance=1e-2) == []


@pytest.mark.parametrize("verb", [inspect_checkpoint, check_checkpoint, lambda path: diff_checkpoints(path, BASE)])
def test_no_checkpoint_is_an_error(verb, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        verb(tmp_path / "nothing")


@pytest.mark.parametrize(
    "verb",
    [
        lambda name, _: check_checkpoint(BASE, name),
        lambda name, _: diff_checkpoints(BASE, BASE, config=name),
        lambda name, out: convert_checkpoint(BASE, out, config=name),
        lambda name, out: pi0_compat.fold_checkpoint(LORA, out, config=name),
    ],
    ids=["check", "diff", "convert", "fold"],
)
def test_an_unknown_config_is_named_with_the_closest(verb, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no config 'pi0_liber'; the closest names are pi0_libero"):
        verb("pi0_liber", tmp_path / "out")
    assert not (tmp_path / "out").exists()
