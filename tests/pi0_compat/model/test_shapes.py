"""The table of a model's parameters equals the flax model's parameters."""

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_compat.model.config import Pi0Config
from pi0_compat.model.named import named_models
from pi0_compat.model.pi0 import Pi0
from pi0_compat.model.pi0_fast import Pi0Fast
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import ExpertLoRA, GemmaSpec, LoRASpec, SiglipSpec
from pi0_compat.params import Leaf


def of_flax(spec: Pi0Spec) -> dict[str, Leaf]:
    """Return the path, shape and dtype of the flax model's parameters, without allocating them."""
    kind = Pi0 if spec.action_expert else Pi0Fast
    state = nnx.state(nnx.eval_shape(lambda: kind(spec)))
    return {"/".join(map(str, path)): Leaf(leaf.shape, np.dtype(leaf.dtype)) for path, leaf in nnx.to_flat_state(state)}


@pytest.mark.parametrize("name", named_models())
def test_the_table_of_a_named_model_equals_flax(name: str) -> None:
    """For every named config, the table has the paths, shapes and dtypes of the flax model, sorted by path."""
    spec = named_models()[name]
    assert spec.param_spec() == of_flax(spec)
    assert list(spec.param_spec()) == sorted(spec.param_spec())


sizes = st.integers(1, 6)
loras = st.none() | st.builds(LoRASpec, rank=st.just(1), alpha=st.just(1.0))
experts_lora = st.none() | st.builds(ExpertLoRA, attn=loras, ffn=loras)


@st.composite
def specs(draw: st.DrawFn) -> Pi0Spec:
    """Draw a model of any small sizes."""
    kv_heads, depth = draw(sizes), draw(sizes)
    shared = {
        "depth": depth,
        "num_heads": kv_heads * draw(st.integers(1, 3)),
        "num_kv_heads": kv_heads,
        "head_dim": 2 * draw(sizes),
    }

    def expert() -> GemmaSpec:
        return GemmaSpec(width=draw(sizes), mlp_dim=draw(sizes), lora=draw(experts_lora), **shared)

    heads, patch_size = draw(sizes), draw(sizes)
    siglip = SiglipSpec(
        width=heads * draw(sizes), depth=draw(sizes), mlp_dim=draw(sizes), num_heads=heads, patch_size=patch_size
    )
    return Pi0Spec(
        family=draw(st.sampled_from(["pi0", "pi05"])),
        dtype=draw(st.sampled_from(["float32", "bfloat16"])),
        vocab_size=draw(sizes),
        image_size=patch_size * draw(st.integers(1, 3)),
        siglip=siglip,
        paligemma=expert(),
        action_expert=expert(),
        action_dim=draw(sizes),
        action_horizon=draw(sizes),
        max_token_len=draw(sizes),
    )


@given(spec=specs())
@settings(max_examples=15, deadline=None)
def test_the_table_of_any_sizes_equals_flax(spec: Pi0Spec) -> None:
    """For any sizes, family and adapters, the table equals the flax model's parameters."""
    assert spec.param_spec() == of_flax(spec)


def test_a_config_of_a_spec_has_its_sizes() -> None:
    """``Pi0Config.of`` copies every field, and the model's parameters fit the table."""
    spec = named_models()["pi05_libero_low_mem_finetune_tiny"]
    config = Pi0Config.of(spec)
    assert config.to_json() == spec.to_json()
    assert len(jax.tree.leaves(nnx.state(config.create(0)))) == len(spec.param_spec())
