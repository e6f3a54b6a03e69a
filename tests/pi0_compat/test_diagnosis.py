"""Why parameters do not fit, in words: the family, what is missing, what would be lost, and the way out."""

import numpy as np
import pytest

from pi0_compat.diagnosis import advice
from pi0_compat.params import Differences, Leaf
from pi0_compat.paths import looks_like_an_adapter

LEAF = Leaf((2,), np.dtype(np.float32))
PI0 = {"action_in_proj/kernel", "action_time_mlp_in/kernel", "PaliGemma/img/head/bias"}
ADAPTER = "PaliGemma/llm/layers/attn/q_einsum/lora_a"


def wrong(*, missing: tuple[str, ...] = (), unexpected: tuple[str, ...] = ()) -> Differences:
    """Differences of which only the paths matter."""
    return Differences(dict.fromkeys(missing, LEAF), dict.fromkeys(unexpected, LEAF), {})


@pytest.mark.parametrize(
    "path",
    [
        ADAPTER,
        "PaliGemma/llm/layers/mlp/linear_lora_b",
        "q_einsum/lora_A",
        "layers.0.self_attn.q_proj.lora_A.weight",
        "layer_0/attn/_LoRAEinsum_0/lora/a",
        "head.lora_B.default.weight",
    ],
)
def test_adapters_are_known_by_any_name(path: str) -> None:
    """openpi's, PEFT's and Gemma's names of LoRA matrices are known."""
    assert looks_like_an_adapter(path)


@pytest.mark.parametrize(
    "path", ["explorations/kernel", "lorax/a", "lora_alpha", "flora_b/kernel", "a/b", "lora/kernel"]
)
def test_other_names_are_no_adapters(path: str) -> None:
    """What has lora in it, or is called a, is no adapter for that."""
    assert not looks_like_an_adapter(path)


def test_a_base_for_lora_is_told_what_to_call() -> None:
    """Where only adapters are missing, the advice is how to add them."""
    assert "initialize_lora_parameters" in advice("pi0", PI0, wrong(missing=(ADAPTER,)))


def test_lost_adapters_are_counted() -> None:
    """Where adapters are left over, the advice is the LoRA config or a fold; PEFT's names count too."""
    text = advice("pi0", PI0, wrong(unexpected=(ADAPTER, "q/lora_B")))
    assert "2 matrices would be lost" in text
    assert "fold(params, lora_config)" in text


def test_an_official_release_is_of_no_other_family() -> None:
    """A release has no projections; where none are missed, a difference is not blamed on the family."""
    text = advice("pi0", {"PaliGemma/img/head/bias"}, wrong(missing=("PaliGemma/img/head/kernel",)))
    assert text == "the parameters (of pi0-FAST or PaliGemma) are not those of the config"


def test_pi0_fast_is_of_another_family() -> None:
    """Where the projections are missed, PaliGemma alone is called what it is."""
    text = advice("pi05", {"PaliGemma/img/head/bias"}, wrong(missing=("action_in_proj/kernel",)))
    assert text.startswith("these are parameters of pi0-FAST or PaliGemma, the config is pi05:")


def test_foreign_names_are_of_no_family() -> None:
    """Of names that nobody knows no family is told."""
    assert "no pi0 model" in advice("pi0", {"net/w"}, wrong(missing=("action_in_proj/kernel",), unexpected=("net/w",)))
