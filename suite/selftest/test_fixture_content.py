"""Specs, shapes and numbers of fixtures: sizes that let mistakes show, content that is the same everywhere."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures import content, observations, openpi_layout
from fixtures.golden_cases import FullSizeModel, full_size
from fixtures.params import Array, nested
from fixtures.specs import ModelSpec, tiny, tiny_table, with_lora, without_lora
from suite.asserts import assert_different, assert_same_bits

ROOT = Path(__file__).parents[2]
FULL_SIZE = full_size()
TINY = tiny_table() | {f"{name}_lora": with_lora(spec) for name, spec in tiny_table().items()}
each_tiny_spec = pytest.mark.parametrize("spec", TINY.values(), ids=TINY)

# Square by definition: image patches, layers from a width to itself, keys and values of two heads.
SQUARE = ("img/embedding/kernel", "time_mlp_in/kernel", "time_mlp_out/kernel", "kv_einsum/w")
PATH = "PaliGemma/llm/layers/mlp/linear"


@pytest.mark.parametrize("model", FULL_SIZE.values(), ids=FULL_SIZE)
def test_shapes_equal_openpi(model: FullSizeModel) -> None:
    """The layout has openpi's paths and shapes at real size."""
    expected = {path: shape for path, (shape, _) in model.parameters.items()}
    assert openpi_layout.shapes(model.spec) == expected


def test_six_models_have_real_size() -> None:
    """openpi declared six models at real size, of both families, with and without LoRA."""
    specs = [model.spec for model in FULL_SIZE.values()]
    kinds = {(spec["family"], spec["paligemma"]["lora"] is None) for spec in specs}
    assert len(specs) == 6
    assert len(kinds) >= 3


@each_tiny_spec
def test_axes_are_distinct(spec: ModelSpec) -> None:
    """No two axes of a tiny array are equal, but for those that are square by definition: a transpose shows."""
    for path, shape in openpi_layout.shapes(spec).items():
        repeated = [size for size, times in Counter(shape).items() if times > 1]
        if not any(part in path for part in SQUARE) and not _two_kv_heads(spec, path):
            assert not repeated, f"{path}: {shape}"


def _two_kv_heads(spec: ModelSpec, path: str) -> bool:
    return spec["paligemma"]["num_kv_heads"] == 2 and "kv_einsum" in path


@each_tiny_spec
def test_sizes_are_distinct(spec: ModelSpec) -> None:
    """The heads together are no width, no width is another's, and a spec is plain data."""
    widths = [spec[part]["width"] for part in ("siglip", "paligemma", "action_expert")]
    assert len(set(widths)) == 3
    for gemma in (spec["paligemma"], spec["action_expert"]):
        assert gemma["num_heads"] * gemma["head_dim"] not in widths
    assert json.loads(json.dumps(spec)) == spec


def test_alpha_is_not_rank() -> None:
    """No tiny adapter has alpha == rank, no two sites the same rank; one uses rslora."""
    spec: dict[str, Any] = {**tiny(lora="both")}
    sites = [spec[expert]["lora"][site] for expert in ("paligemma", "action_expert") for site in ("attn", "ffn")]
    assert all(site["alpha"] != site["rank"] for site in sites)
    assert len({site["rank"] for site in sites}) == len(sites)
    assert {site["rslora"] for site in sites} == {True, False}


def test_specs_share_no_dict() -> None:
    """A spec is its caller's: changing one changes no other."""
    base, adapted = tiny(), tiny(lora="both")
    lora: Any = adapted["paligemma"]["lora"]
    lora["attn"]["rank"] = 99
    assert adapted != tiny(lora="both")
    with_lora(base)
    assert base == tiny() == without_lora(tiny(lora="both"))


@pytest.mark.parametrize("dtype", content.DTYPES)
@each_tiny_spec
def test_no_number_is_zero(spec: ModelSpec, dtype: str) -> None:
    """No number of a model is zero or not finite, in any dtype: every parameter matters."""
    for path, array in content.params(spec, dtype=dtype).items():
        assert array.dtype.name == dtype, path
        assert array.all(), path
        assert np.isfinite(array.astype(np.float32)).all(), path


def test_content_depends_on_path_and_seed() -> None:
    """Another path or seed gives other numbers, the same ones the same, whatever else is in the model."""
    array = content.array(PATH, (2, 3), seed=1)
    assert_same_bits({PATH: content.array(PATH, (2, 3), seed=1)}, {PATH: array})
    assert_different(array, content.array(PATH, (2, 3), seed=2))
    assert_different(array, content.array(f"{PATH}_lora_a", (2, 3), seed=1))
    base, adapted = content.params(tiny(), seed=1), content.params(tiny(lora="both"), seed=1)
    assert_same_bits({path: adapted[path] for path in base}, base)


def test_content_is_the_same_in_every_process() -> None:
    """Content does not depend on the process, as a hash of a str would."""
    digest = "hashlib.sha256(content.array('a/w', (5, 7), seed=3).tobytes()).hexdigest()"
    code = f"import hashlib; from fixtures import content; print({digest})"
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    here = hashlib.sha256(content.array("a/w", (5, 7), seed=3).tobytes()).hexdigest()
    assert result.stdout.strip() == here


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_content_is_rounded(dtype: type) -> None:
    """float16 and bfloat16 content is the float32 content, rounded to nearest even."""
    name = np.dtype(dtype).name
    expected: Array = content.array(PATH, (40, 30)).astype(dtype)
    assert_same_bits({PATH: content.array(PATH, (40, 30), name)}, {PATH: expected})


def test_batches_hide_something() -> None:
    """A batch depends on its seed and has a masked camera and a padded prompt, in its last sample only."""
    spec = tiny()
    batch, again, other = (observations.batch(spec, size=3, seed=seed) for seed in (0, 0, 1))
    assert_same_bits(again, batch)
    assert_different(batch["actions"], other["actions"])
    assert batch["image_mask/right_wrist_0_rgb"].tolist() == [True, True, False]
    assert batch["tokenized_prompt_mask"].all(axis=1).tolist() == [True, True, False]
    assert batch["tokenized_prompt"].max() < spec["vocab_size"]


@pytest.mark.parametrize("paths", [["a", "a/b"], ["a/b", "a"]])
def test_leaf_is_no_branch(paths: list[str]) -> None:
    """A path that is both a leaf and a branch is refused by name, in either order."""
    with pytest.raises(ValueError, match=r"^a(/b)?: .* leaf"):
        nested(dict.fromkeys(paths, np.ones(1)))
