"""FLOPs from sizes equal those that JAX traces in the reference, product by product, and openpi's known figures."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from benchmarks.cells import flops
from benchmarks.cells.products import tokens
from fixtures.openpi_sizes import model_spec
from fixtures.specs import ModelSpec, tiny, without_lora
from fixtures.writers.openpi_layout import shapes
from pi0_compat.model import gemma, siglip
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import CAMERAS, Observation
from pi0_compat.model.pi0_fast import FAST_CAMERAS, Pi0Fast
from pi0_compat.training.step import trainable_paths
from tests.benchmarks.traced_flops import traced_flops

LORA = model_spec({"paligemma_variant": "gemma_2b_lora", "action_expert_variant": "gemma_300m_lora"})
FULL = model_spec({})
SPECS = {
    "pi0": tiny(),
    "pi0_lora": tiny(lora="both"),
    "paligemma_lora": tiny(lora="paligemma", num_kv_heads=2),
    "action_expert_lora": tiny(lora="action_expert"),
    "fused_qkv_lora": tiny(lora="both", num_kv_heads=6, depth=5),
    "pi05_lora": tiny("pi05", lora="both"),
    "pi0_fast": tiny("pi0_fast"),
    "pi0_fast_lora": tiny("pi0_fast", lora="both", num_kv_heads=2),
    "real_pi0_lora": LORA,
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def layers_run(*, remat: bool = False, unroll: bool = False) -> Callable[..., Any]:
    """Return a plain version of the library's ``scan_layers``, with or without recomputation."""

    def scan_layers(layers: nnx.Module, step: Callable, carry: Any, xs: Any = None, **_: Any) -> Any:
        graphdef, state = nnx.split(layers)

        def body(carry: Any, inputs: tuple) -> Any:
            return step(nnx.merge(graphdef, inputs[0]), carry, inputs[1])

        return jax.lax.scan(jax.checkpoint(body) if remat else body, carry, (state, xs), unroll=unroll)

    return scan_layers


@pytest.fixture
def run_layers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes the library run its layers this way, whatever it does otherwise."""

    def patch(**how: bool) -> None:
        for module in (gemma, siglip):
            monkeypatch.setattr(module, "scan_layers", layers_run(**how))

    patch()
    return patch


def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """Return an array that takes no memory."""
    return jax.ShapeDtypeStruct(shape, dtype)


def inputs(spec: ModelSpec) -> tuple[Observation, jax.ShapeDtypeStruct]:
    """Return one observation and its actions, or noise of their shape."""
    size, prompt = spec["image_size"], spec["max_token_len"]
    fast = spec["family"] == "pi0_fast"
    cameras = FAST_CAMERAS if fast else CAMERAS
    observation = Observation(
        images={camera: array(1, size, size, 3) for camera in cameras},
        image_masks={camera: array(1, dtype=bool) for camera in cameras},
        state=array(1, spec["action_dim"]),
        tokenized_prompt=array(1, prompt, dtype=jnp.int32),
        tokenized_prompt_mask=array(1, prompt, dtype=bool),
        token_ar_mask=array(1, prompt, dtype=jnp.int32) if fast else None,
        token_loss_mask=array(1, prompt, dtype=bool) if fast else None,
    )
    return observation, array(1, spec["action_horizon"], spec["action_dim"])


def loss_and_arguments(spec: ModelSpec, trainable: frozenset[str]) -> tuple[Callable, tuple]:
    """Return the library's loss of trained parameters, frozen ones and a batch of one, and arguments to trace it."""
    config = Pi0Config.from_json(spec)
    params = config.abstract_params()
    observation, actions = inputs(spec)

    def loss(trained: dict, frozen: dict, observation: Any, actions: Any, noise: Any, time: Any) -> jax.Array:
        model = config.merge(frozen | trained)
        if isinstance(model, Pi0Fast):
            return jnp.mean(model.compute_loss(jax.random.key(0), observation))
        return jnp.mean(model.compute_loss(jax.random.key(0), observation, actions, noise=noise, time=time))

    trained = {path: leaf for path, leaf in params.items() if path in trainable}
    frozen = {path: leaf for path, leaf in params.items() if path not in trainable}
    return loss, (trained, frozen, observation, actions, actions, array(1))


def six_times(_: Any, body: Callable, carry: Any) -> Any:
    """Run the body of a while loop six times: a pi0-FAST writes its first token before the loop."""
    return jax.lax.scan(lambda carry, _: (body(carry), None), carry, length=6)[0]


def time_embedding(spec: ModelSpec) -> int:
    """Return the FLOPs of the outer product of times and frequencies, no matrix product and therefore not counted."""
    return spec["action_expert"]["width"] if "action_expert" in spec else 0


@each_spec
@pytest.mark.parametrize("siglip_is_trained", [True, False])
def test_a_training_sample_equals_what_jax_traces(spec: ModelSpec, siglip_is_trained: bool, run_layers: Any) -> None:
    """Forward, backward and recomputation equal the products in the traced gradient exactly."""
    trainable = flops.trainable_paths(spec, siglip=siglip_is_trained)
    count = flops.training(spec, trainable)
    loss, arguments = loss_and_arguments(spec, trainable)
    assert traced_flops(loss, *arguments) == count.total.forward + time_embedding(spec)
    assert traced_flops(jax.grad(loss), *arguments) == count.model_flops + time_embedding(spec)
    run_layers(remat=True)
    assert traced_flops(jax.grad(loss), *arguments) == count.hardware_flops + time_embedding(spec)


@each_spec
def test_sampling_equals_what_jax_traces(spec: ModelSpec, run_layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefix once and each step of the suffix, or each token, equal the products in the traced call exactly."""
    config = Pi0Config.from_json(spec)
    monkeypatch.setattr(jax.lax, "while_loop", six_times)

    def sample(params: dict, observation: Any, noise: Any) -> jax.Array:
        model = config.merge(params)
        if isinstance(model, Pi0Fast):
            return model.sample_tokens(jax.random.key(0), observation, max_decoding_steps=7)
        return model.sample_actions(jax.random.key(0), observation, num_steps=7, noise=noise)

    traced = traced_flops(sample, config.abstract_params(), *inputs(spec))
    assert traced == flops.sampling(spec, num_steps=7).model_flops + 7 * time_embedding(spec)


def test_xla_counts_the_same(run_layers: Any) -> None:
    """XLA's own count of a step at real widths, without loops, is the same except for operations other than matmuls."""
    spec = copy.deepcopy(LORA)
    for part in ("siglip", "paligemma", "action_expert"):
        spec[part]["depth"] = 2
    run_layers(unroll=True)
    trainable = flops.trainable_paths(spec)
    loss, arguments = loss_and_arguments(spec, trainable)
    counted = jax.jit(jax.value_and_grad(loss)).lower(*arguments).cost_analysis()["flops"]
    assert counted / flops.training(spec, trainable).model_flops == pytest.approx(1.002, abs=0.002)


def test_the_figures_of_openpi() -> None:
    """pi0's LoRA step, without the LoRA matrices, has the FLOPs of an earlier computation; 6N gives a third more."""
    with_siglip = flops.training(LORA).groups
    frozen_siglip = flops.training(LORA, flops.trainable_paths(LORA, siglip=False)).groups
    base = [group for group in with_siglip if not group.endswith("lora")]
    matrices = [group for group in base if not group.endswith("attention")]
    assert sum(with_siglip[group].model for group in base) / 1e12 == pytest.approx(8.83, rel=0.003)
    assert sum(frozen_siglip[group].model for group in base) / 1e12 == pytest.approx(7.52, rel=0.003)
    assert 3 * sum(with_siglip[group].forward for group in matrices) / 1e12 == pytest.approx(11.69, rel=0.003)


def test_the_figures_that_are_reported() -> None:
    """TFLOP per sample of openpi's pi0: LoRA for MFU and HFU, full fine-tuning, and ten steps of sampling."""
    lora, full = flops.training(LORA), flops.training(FULL)
    assert lora.model_flops / 1e12 == pytest.approx(8.968, abs=0.001)
    assert lora.hardware_flops / 1e12 == pytest.approx(11.841, abs=0.001)
    assert full.model_flops / 1e12 == pytest.approx(12.112, abs=0.001)
    assert flops.sampling(FULL).model_flops / 1e12 == pytest.approx(4.379, abs=0.001)


def test_unread_products_of_the_last_layer() -> None:
    """The last layer's prefix needs keys and values only: no queries, attention, output projection or feed-forward."""
    spec = tiny()
    expert, counts = spec["paligemma"], tokens(spec)
    heads = expert["num_heads"] * expert["head_dim"]
    matrices = expert["width"] * (2 * heads + 3 * expert["mlp_dim"])
    forward = 2 * counts.prefix * matrices + 4 * counts.prefix * (counts.prefix + counts.suffix) * heads
    assert flops.training(spec, ()).total.unread == forward
    # With everything trained, every product and every attention has two gradients.
    assert flops.training(spec).total.unread == 3 * forward
    assert flops.training(tiny(num_kv_heads=6), ()).total.unread == forward


def test_without_trained_parameters_there_is_no_backward_pass() -> None:
    """A step without a trainable parameter is its forward pass."""
    total = flops.training(LORA, ()).total
    assert (total.backward, total.recompute) == (0, 0)
    assert total.forward == flops.training(LORA).total.forward


def test_the_backward_pass_ends_at_the_lowest_trained_parameter() -> None:
    """A frozen prefix costs nothing in the backward pass, and the last projection alone only its own gradient."""
    suffix_only = frozenset(path for path in shapes(FULL) if not path.startswith("PaliGemma/img/"))
    suffix_only -= {path for path in suffix_only if path.startswith("PaliGemma/llm/") and "_1/" not in path}
    groups = flops.training(FULL, suffix_only).groups
    assert groups["paligemma"].backward == groups["siglip"].backward == groups["siglip attention"].backward == 0
    assert groups["action_expert"].backward == 2 * groups["action_expert"].forward
    assert flops.training(FULL, {"action_out_proj/kernel"}).total.backward == 2 * 50 * 1024 * 32


def test_unknown_trainable_paths_are_rejected() -> None:
    """A path of another model is named in the error, and not taken for frozen."""
    with pytest.raises(ValueError, match=r"attn_vec_einsum/lora_a and 19 more are not parameters of this model"):
        flops.training(without_lora(LORA), flops.trainable_paths(LORA))


@each_spec
def test_trainable_paths_are_those_of_the_reference(spec: ModelSpec) -> None:
    """The parameters trained by default are those of the reference, and so of openpi."""
    assert flops.trainable_paths(spec) == set(trainable_paths(Pi0Config.from_json(spec)))


def test_parameters_and_tokens() -> None:
    """pi0 has 3.24 G parameters; 867 tokens of a sample attend to each other, 1018 in pi05."""
    counts = flops.parameter_counts(LORA)
    whole = 3_238_048_528
    assert flops.parameter_counts(FULL) == {"total": whole, "frozen": 0, "trainable": whole, "lora": 0}
    assert counts["total"] == whole + counts["lora"] == counts["frozen"] + counts["trainable"]
    siglip_frozen = flops.parameter_counts(LORA, flops.trainable_paths(LORA, siglip=False))
    assert counts["trainable"] - siglip_frozen["trainable"] == sum(
        array.size for path, array in Pi0Config.from_json(LORA).abstract_params().items() if "/img/" in path
    )
    assert flops.tokens_per_sample(FULL) == 3 * 256 + 48 + 51
    assert flops.tokens_per_sample(model_spec({"pi05": True})) == 3 * 256 + 200 + 50
