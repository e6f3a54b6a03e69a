"""A config and the parameters of its model: their experts, which are frozen, and which fit."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fixtures.golden_cases import full_size
from fixtures.specs import LoraPlacement, tiny
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import Pi0
from pi0_compat.model.pi0_spec import ParamsMismatchError
from pi0_compat.params import leaves_of, unflatten
from pi0_compat.paths import detect_family, expert_of, is_adapter
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import BASE, LORA, PI05, Q_EINSUM, Params, base_params, lora_params

MODELS = full_size()


def frozen(name: str) -> set[str]:
    """Return openpi's frozen parameters of a real-size model, from a table that the library does not have."""
    return set(MODELS[name].parameters) - MODELS[name].trainable


def test_expert_0_is_what_lora_on_paligemma_freezes() -> None:
    """With LoRA on PaliGemma alone, openpi freezes exactly the parameters of expert 0."""
    base = [path for path in MODELS["pi0_libero"].parameters if expert_of(path) == 0]
    assert set(base) == frozen("pi0 with lora on paligemma only")


def test_expert_1_is_what_lora_on_the_action_expert_freezes() -> None:
    """With LoRA on the action expert alone, openpi freezes exactly the parameters of expert 1."""
    base = [path for path in MODELS["pi0_libero"].parameters if expert_of(path) == 1]
    assert set(base) == frozen("pi0 with lora on the action expert only")


def test_both_experts_are_what_lora_on_both_freezes() -> None:
    """In pi05 with LoRA on both, openpi freezes exactly the parameters of either expert."""
    base = [path for path in MODELS["pi05_libero"].parameters if expert_of(path) is not None]
    assert set(base) == frozen("pi05 with lora on both")


@pytest.mark.parametrize(
    ("path", "expert"),
    [
        ("PaliGemma/llm/layers/pre_ffw_norm_1/Dense_0/kernel", 1),
        ("PaliGemma/llm/layers/pre_ffw_norm/Dense_1/kernel", 0),
        ("PaliGemma/llm/layers/mlp_10/linear", 0),
        ("PaliGemma/llm/layers/attn/q_einsum_1/lora_a", 1),
        ("PaliGemma/llm/embedder/input_embedding", 0),
        ("PaliGemma/img/Transformer/encoderblock/LayerNorm_1/scale", None),
        ("PaliGemma/llm_1/final_norm_1/scale", None),
        ("action_out_proj_1/kernel", None),
    ],
)
def test_experts_are_recognized_by_whole_components(path: str, expert: int | None) -> None:
    """``_10`` and ``Dense_1`` do not mean the action expert, and only the language model has experts."""
    assert expert_of(path) == expert


@pytest.mark.parametrize("family", ["pi0", "pi05"])
@pytest.mark.parametrize("lora", ["none", "both", "paligemma", "action_expert"])
def test_the_freeze_filter_equals_is_frozen(family: str, lora: LoraPlacement) -> None:
    """On the paths of the nnx model the filter selects exactly those for which ``is_frozen`` is true."""
    config = Pi0Config.from_json({**tiny(family, lora=lora)})  # type: ignore[arg-type]
    state = nnx.state(config.create(0))
    by_filter, rest = nnx.split_state(state, config.freeze_filter(), ...)
    filtered = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(by_filter)}
    assert filtered == {path for path in config.param_spec() if config.is_frozen(path)}
    assert len(nnx.to_flat_state(rest)) == len(config.param_spec()) - len(filtered)


@pytest.mark.parametrize("lora", ["both", "paligemma", "action_expert"])
def test_adapters_are_never_frozen(lora: LoraPlacement) -> None:
    """With LoRA anywhere, something is frozen and no adapter is."""
    config = Pi0Config.from_json({**tiny(lora=lora)})
    frozen_paths = [path for path in config.param_spec() if config.is_frozen(path)]
    assert frozen_paths
    assert not any(map(is_adapter, frozen_paths))


def test_a_config_without_lora_freezes_nothing() -> None:
    """Without LoRA every parameter is trained."""
    assert not any(BASE.is_frozen(path) for path in BASE.param_spec())


def test_param_spec_can_be_changed_by_its_caller() -> None:
    """Every call returns a new dictionary, sorted by path."""
    spec = LORA.param_spec()
    assert list(spec) == sorted(spec)
    spec.clear()
    assert LORA.param_spec()


def test_only_requested_parameters_are_initialized() -> None:
    """With ``only``, exactly these parameters are initialized, with the values of the whole model."""
    some = ["action_in_proj/kernel", f"{Q_EINSUM}/lora_a"]
    fresh = LORA.init_params(0, only=some)
    assert leaves_of(fresh) == {path: leaves_of(LORA.param_spec())[path] for path in some}
    pair = LORA.init_params(0, only=some[:1])
    assert_same_bits(pair, {some[0]: fresh[some[0]]})


def test_an_unknown_path_cannot_be_initialized() -> None:
    """A path that the model does not have is refused by name."""
    with pytest.raises(KeyError, match="nowhere"):
        LORA.init_params(0, only=["nowhere"])


def params_of(model: Pi0) -> Params:
    return {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(model))}


def model_params(config: Pi0Config, params: Params) -> Params:
    return params_of(config.load(params))


@pytest.mark.parametrize("config", [LORA, PI05], ids=["pi0", "pi05"])
def test_a_created_model_holds_fresh_parameters(config: Pi0Config) -> None:
    """``create`` builds the model from the values of ``init_params``, and no parameter keeps flax's value."""
    fresh = config.init_params(5)
    assert_same_bits(params_of(config.create(5)), fresh)
    assert leaves_of(fresh) == leaves_of(config.param_spec())
    assert {type(array) for array in fresh.values()} == {np.ndarray}


@pytest.mark.parametrize("form", [dict, unflatten])
def test_a_loaded_model_holds_the_parameters(form: type) -> None:
    """Flat or nested, each parameter is placed unchanged at its path in the model."""
    params = lora_params()
    assert_same_bits(model_params(LORA, form(params)), params)


def test_a_loaded_model_keeps_the_dtypes() -> None:
    """Loading casts nothing."""
    params = {path: x.astype(np.float16) for path, x in base_params().items()}
    assert {x.dtype for x in model_params(BASE, params).values()} == {np.dtype(np.float16)}


def test_a_loaded_model_shares_no_memory_with_the_caller() -> None:
    """On a CPU, jax shares the memory of an aligned numpy array unless told not to."""
    memory = np.zeros(4 * 9 + 64, np.uint8)
    start = -memory.ctypes.data % 64
    bias = memory[start : start + 4 * 9].view(np.float32)
    model = BASE.load(base_params() | {"action_out_proj/bias": bias})
    bias[:] = 7
    assert not np.asarray(model.action_out_proj.bias[...]).any()


@pytest.mark.parametrize("place", [np.asarray, jnp.asarray], ids=["host", "device"])
def test_a_loaded_model_can_be_compiled(place: Callable) -> None:
    """A model that was loaded from host or device arrays runs under ``jax.jit``."""
    model = BASE.load({path: place(array) for path, array in base_params().items()})
    tokens = np.zeros((1, 2), np.int32)
    assert jax.jit(model.PaliGemma.llm.embed)(tokens).shape == (1, 2, 56)


def refusal(config: Pi0Config, params: Params) -> ParamsMismatchError:
    with pytest.raises(ParamsMismatchError) as caught:
        config.load(params)
    return caught.value


def test_base_for_lora_says_how_to_add_adapters() -> None:
    """A base for a LoRA config is refused with the call that adds adapters, and lists them all."""
    error = refusal(LORA, base_params())
    assert "20 adapter matrices are missing" in str(error)
    assert "initialize_lora_parameters(base, config, seed=0)" in str(error)
    assert f"- {Q_EINSUM}/lora_a: expected float32[3, 6, 56, 4], found nothing" in str(error)
    assert len(error.differences.missing) == 20


def test_lora_for_base_says_what_would_be_lost() -> None:
    """A LoRA checkpoint for a base config is refused with both solutions."""
    text = str(refusal(BASE, lora_params()))
    assert "20 matrices would be lost" in text
    assert "fold(params, lora_config)" in text
    assert f"+ {Q_EINSUM}/lora_a: found float32[3, 6, 56, 4], expected nothing" in text


@pytest.mark.parametrize(("config", "params", "family"), [(PI05, base_params(), "pi0")])
def test_another_family_is_named(config: Pi0Config, params: Params, family: str) -> None:
    """Parameters of another family are refused with both families."""
    expected = f"these are parameters of {family}, the config is {config.family}"
    assert str(refusal(config, params)).startswith(expected)


def test_an_empty_dictionary_is_refused() -> None:
    """Missing parameters are not mistaken for another family."""
    assert str(refusal(BASE, {})).startswith("there are no parameters at all")


def test_shapes_are_refused_with_both() -> None:
    """A parameter of another shape is refused with the expected and the actual one."""
    text = str(refusal(BASE, base_params() | {"action_out_proj/bias": np.zeros(3, np.float32)}))
    assert re.search(r"~ action_out_proj/bias: expected float32\[9\], found float32\[3\]", text)


@pytest.mark.parametrize(("model", "family"), [("pi0_libero", "pi0"), ("pi05_libero", "pi05")])
def test_families_are_recognized_by_their_paths(model: str, family: str) -> None:
    """openpi's own paths distinguish pi0 from pi05."""
    assert detect_family(MODELS[model].parameters) == family


def test_other_models_are_not_taken_for_pi0() -> None:
    """PaliGemma's paths and foreign ones do not belong to a pi0 model."""
    paligemma = [path for path in base_params() if path.startswith("PaliGemma/") and expert_of(path) != 1]
    assert detect_family(paligemma) == "pi0-FAST or PaliGemma"
    assert detect_family(["model.layers.0.weight"]) == "no pi0 model"


def test_equal_configs_share_their_structure() -> None:
    """A config is a static argument: equal ones are the same key, and none contains an array."""
    assert hash(LORA) == hash(Pi0Config.from_json(LORA.to_json()))
    assert not [x for x in jax.tree.leaves(LORA.to_json()) if isinstance(x, jax.Array)]
