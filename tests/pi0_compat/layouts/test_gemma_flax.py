"""The official Gemma layout beyond its contracts: names, damage, and checkpoints of something else."""

from pathlib import Path

import numpy as np
import pytest

from fixtures.writers import gemma_flax
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.gemma_flax import _plain_name, open_gemma, require_sizes
from pi0_compat.loading.loaders import GemmaWeightLoader
from pi0_compat.params import join
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.conftest import reads_damage
from tests.pi0_compat.tiny_models import BASE, BASE_SPEC

ARRAYS = gemma_flax.arrays(gemma_flax.contents(BASE_SPEC))


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (("transformer/layer_0/attn/q_einsum", "w"), "layer_0/attn/q_einsum/w"),
        (("layer_0", "attn", "q_einsum", "w"), "layer_0/attn/q_einsum/w"),
        (("transformer/layer_10/mlp/linear", "w"), "layer_10/mlp/linear"),
        (("layer_10", "mlp", "linear"), "layer_10/mlp/linear"),
        (("transformer/embedder", "input_embedding"), "embedder/input_embedding"),
    ],
)
def test_both_forms_have_the_same_names(keys: tuple[str, ...], name: str) -> None:
    assert _plain_name(join(keys)) == name


def test_one_array_in_both_forms_is_refused(tmp_path: Path) -> None:
    tree = {"transformer/final_norm/scale": np.ones(3), "final_norm/scale": np.ones(3)}
    gemma_flax.write(tree, tmp_path / "gemma", form="nested")
    with pytest.raises(CheckpointError, match="two arrays have the same name"):
        open_gemma(tmp_path / "gemma")


def test_all_that_is_missing_is_listed(tmp_path: Path) -> None:
    gone = ("layer_0/mlp/linear", "layer_1/attn/q_einsum/w")
    gemma_flax.write({name: x for name, x in ARRAYS.items() if name not in gone}, tmp_path / "gemma")
    with pytest.raises(LoadError) as caught:
        open_gemma(tmp_path / "gemma")
    assert all(f"- {name}: expected, found nothing" in str(caught.value) for name in gone)


def test_sizes_of_an_incomplete_gemma_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    gemma_flax.write({"final_norm/scale": ARRAYS["final_norm/scale"]}, tmp_path / "gemma")
    require_sizes(open_gemma(tmp_path / "gemma"), BASE)


def test_each_array_is_read_in_its_own_dtype(tmp_path: Path) -> None:
    written = gemma_flax.build(BASE_SPEC, tmp_path / "gemma", dtype="bfloat16")
    source = open_gemma(tmp_path / "gemma")
    assert_same_bits({path: source.read(path) for path in written}, written)


@reads_damage
def test_damaged_metadata_are_refused_by_name(tmp_path: Path) -> None:
    gemma_flax.write(ARRAYS, tmp_path / "gemma")
    (tmp_path / "gemma" / "_METADATA").write_text("{")
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        open_gemma(tmp_path / "gemma")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        GemmaWeightLoader(tmp_path).load(BASE)
