"""The sizes of benchmarks without an accelerator."""

import math
from collections import Counter

import pytest

from fixtures import openpi_layout, openpi_sizes
from fixtures.specs import GemmaSpec, small, tiny

# Square by definition: image patches, and layers from a width to itself.
SQUARE = ("img/embedding/kernel", "time_mlp_in/kernel", "time_mlp_out/kernel")


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_small_has_a_hundred_million(family: str) -> None:
    """There are about 100 million parameters, and no part has nearly all of them."""
    sizes = {path: math.prod(shape) for path, shape in openpi_layout.shapes(small(family)).items()}  # type: ignore[arg-type]
    assert sum(sizes.values()) == {"pi0": 98_201_488, "pi05": 109_721_968}[family]
    assert sizes["PaliGemma/llm/embedder/input_embedding"] < 0.15 * sum(sizes.values())
    assert 0.1 < sum(size for path, size in sizes.items() if "/img/" in path) / sum(sizes.values()) < 0.15


def test_small_axes_are_distinct() -> None:
    """No two axes of an array are equal, but for those that are square by definition; heads together are no width."""
    spec = small(lora="both")
    for path, shape in openpi_layout.shapes(spec).items():
        assert any(part in path for part in SQUARE) or max(Counter(shape).values()) == 1, f"{path}: {shape}"
    widths = {spec["siglip"]["width"], spec["paligemma"]["width"], spec["action_expert"]["width"]}
    assert len(widths) == 3
    assert spec["paligemma"]["num_heads"] * spec["paligemma"]["head_dim"] not in widths


def test_small_adapters_are_openpis() -> None:
    """Ranks and alphas are those of openpi's variants; without them it is a base model, and specs share no dict."""
    spec = small(lora="both")
    theirs: list[GemmaSpec] = [openpi_sizes.gemma_spec(name) for name in ("gemma_2b_lora", "gemma_300m_lora")]
    assert [spec["paligemma"]["lora"], spec["action_expert"]["lora"]] == [gemma["lora"] for gemma in theirs]
    assert small()["paligemma"]["lora"] is small()["action_expert"]["lora"] is None
    spec["paligemma"]["lora"]["attn"]["rank"] = 99  # type: ignore[index]
    assert small(lora="both") != spec
    assert small(lora="paligemma")["action_expert"]["lora"] is None
    assert small().keys() == tiny().keys()
