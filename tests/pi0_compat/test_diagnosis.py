"""Why parameters do not fit, in words: the family, what is missing, what would be lost, and a suggestion."""

import numpy as np
import pytest

from pi0_compat.diagnosis import advice
from pi0_compat.params import Differences, Leaf, differences
from pi0_compat.paths import PATCH_KERNEL, TOKEN_TABLE, looks_like_an_adapter
from tests.pi0_compat.tiny_models import LORA

LEAF = Leaf((2,), np.dtype(np.float32))
PI0 = {"action_in_proj/kernel", "action_time_mlp_in/kernel", "PaliGemma/img/head/bias"}
ADAPTER = "PaliGemma/llm/layers/attn/q_einsum/lora_a"


def wrong(*, missing: tuple[str, ...] = (), unexpected: tuple[str, ...] = ()) -> Differences:
    """Return differences in which only the paths matter."""
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
        "q_proj.lora_magnitude_vector.default.weight",
        "embed_tokens.lora_embedding_A",
    ],
)
def test_adapters_are_recognized_by_any_name(path: str) -> None:
    """openpi's, PEFT's and Gemma's names of LoRA matrices are recognized."""
    assert looks_like_an_adapter(path)


@pytest.mark.parametrize(
    "path", ["explorations/kernel", "lorax/a", "lora_alpha", "flora_b/kernel", "a/b", "lora/kernel"]
)
def test_other_names_are_not_adapters(path: str) -> None:
    """A name that contains lora, or is a, does not make an adapter."""
    assert not looks_like_an_adapter(path)


def test_a_base_for_lora_gets_the_call_that_adds_adapters() -> None:
    """If only adapters are missing, the advice is how to add them."""
    assert "initialize_lora_parameters" in advice("pi0", PI0, wrong(missing=(ADAPTER,)))


def test_lost_adapters_are_counted() -> None:
    """If adapters are left over, the advice is the LoRA config or a fold; PEFT's names count too."""
    text = advice("pi0", PI0, wrong(unexpected=(ADAPTER, "q/lora_B")))
    assert "2 matrices would be lost" in text
    assert "fold(params, lora_config)" in text


def test_an_official_release_is_not_another_family() -> None:
    """A release has no projections; if none are missing, the family is not blamed for a difference."""
    text = advice("pi0", {TOKEN_TABLE, PATCH_KERNEL}, wrong(missing=("PaliGemma/img/head/kernel",)))
    assert text == "the parameters (of pi0-FAST or PaliGemma) are not those of the config"


def test_pi0_fast_is_another_family() -> None:
    """If projections are missing, parameters of PaliGemma alone are named as such."""
    text = advice("pi05", {TOKEN_TABLE, PATCH_KERNEL}, wrong(missing=("action_in_proj/kernel",)))
    assert text.startswith("these are parameters of pi0-FAST or PaliGemma, the config is pi05:")


def test_foreign_names_belong_to_no_family() -> None:
    """Unknown names belong to no pi0 model."""
    assert "no pi0 model" in advice("pi0", {"net/w"}, wrong(missing=("action_in_proj/kernel",), unexpected=("net/w",)))


@pytest.mark.parametrize("place", ["PaliGemma/llm/layers/{}/", "PaliGemma/llm/layers_{}/", "PaliGemma/llm/layer_{}/"])
def test_layers_one_by_one_are_named(place: str) -> None:
    """Layers that were not stacked are named as such, with how to stack them."""
    stacked = {path: leaf for path, leaf in LORA.param_spec().items() if path.startswith("PaliGemma/llm/layers/")}
    rest = {path: leaf for path, leaf in LORA.param_spec().items() if path not in stacked}
    single = {
        path.replace("PaliGemma/llm/layers/", place.format(layer)): Leaf(leaf.shape[1:], leaf.dtype)
        for path, leaf in stacked.items()
        for layer in range(leaf.shape[0])
    }
    found = rest | single
    words = advice("pi0", found, differences(LORA.param_spec(), found, dtypes=False))
    assert words == (
        f"{len(single)} parameters are of single layers, for example {min(single)}: layers are stored one by one, and "
        "are expected stacked along the first axis of one array: stack them in order (numpy.stack), and save them "
        "with save_params"
    )
