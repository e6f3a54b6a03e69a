"""The verdict on names and shapes alone: which model, whether it is whole, what has no place."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from fixtures.layouts import LAYOUTS
from fixtures.params import Params
from fixtures.specs import Family, LoraPlacement, tiny
from fixtures.writers import openpi_layout
from pi0_compat.errors import LoadError
from pi0_compat.layouts.layout import Layout
from pi0_compat.layouts.verdict import UNKNOWN, judge
from pi0_compat.params import Leaf, leaves_of

_ONE = Leaf((4, 4), np.dtype(np.float32))
# Names of other models, as their own libraries have them, each in a layout that could be taken for it.
_OTHERS = {
    "SmolVLA": ("model.vlm_with_expert.lm_expert.layers.0.mlp.up_proj.weight", "model.action_in_proj.weight"),
    "ACT": ("model.encoder.layers.0.linear1.weight", "model.backbone.conv1.weight"),
    "ACT, of lerobot": ("model.vae_encoder.layers.0.self_attn.in_proj_weight", "model.action_head.weight"),
    "Diffusion Policy": ("diffusion.unet.down_modules.0.0.conv1.block.0.weight", "diffusion.rgb_encoder.out.weight"),
    "VQ-BeT": ("vqbet.policy.transformer.h.0.attn.c_attn.weight", "vqbet.action_head.vqvae_model.vq_layer.bias"),
    "TD-MPC": ("model._Qs.0.0.weight", "model._encoder.image_enc_layers.0.weight"),
    "GR00T": ("backbone.eagle_model.mlp1.0.weight", "action_head.action_encoder.W1.W"),
    "OpenVLA": ("vision_backbone.featurizer.blocks.0.ls1.scale_factor", "language_model.model.norm.weight"),
    "optimizer": ("state/0/exp_avg", "state/0/step"),
    "state of an optimizer": ("opt_state/0/mu/PaliGemma/a", "opt_state/0/nu/PaliGemma/a"),
    "normalizer of lerobot": ("observation.state.mean", "action.std"),
    "Qwen2-VL": (
        "visual.merger.ln_q.weight",
        "visual.blocks.0.attn.qkv.weight",
        "model.layers.0.self_attn.q_proj.bias",
    ),
    "Qwen2.5-VL": ("model.visual.merger.ln_q.weight", "model.language_model.layers.0.self_attn.q_proj.bias"),
    "Qwen3-VL": ("model.visual.merger.linear_fc1.weight", "model.language_model.layers.0.self_attn.q_norm.weight"),
    "Qwen2 or Qwen2.5": ("model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.gate_proj.weight"),
    "Qwen3": ("model.layers.0.self_attn.q_norm.weight", "model.layers.0.mlp.gate_proj.weight"),
    "Gemma 2": ("model.layers.0.pre_feedforward_layernorm.weight", "model.layers.0.self_attn.q_proj.weight"),
    "Gemma 3": ("model.layers.0.pre_feedforward_layernorm.weight", "model.layers.0.self_attn.q_norm.weight"),
    "Gemma 3n": ("model.language_model.altup_projections.0.weight", "model.language_model.layers.0.laurel.linear"),
    "Gemma 4": ("model.layers.0.layer_scalar", "model.layers.0.self_attn.q_norm.weight"),
    "PaliGemma 2": (
        "language_model.model.layers.0.pre_feedforward_layernorm.weight",
        "vision_tower.vision_model.encoder.layers.0.layer_norm1.weight",
        "multi_modal_projector.linear.weight",
    ),
    "InternVL": ("vision_model.encoder.layers.0.ls1", "mlp1.0.weight"),
    "SmolVLM": ("model.text_model.layers.0.mlp.up_proj.weight", "model.connector.modality_projection.proj.weight"),
    "Florence-2": ("model.vision_tower.blocks.0.0.channel_block.ffn.fn.net.fc1.weight", "lm_head.weight"),
    "Llama 4": ("model.layers.0.feed_forward.shared_expert.up_proj.weight", "model.norm.weight"),
    "Llama, Mistral and Gemma 1": ("model.layers.0.self_attn.q_proj.weight", "model.norm.weight"),
    "mixtures of experts": ("model.layers.0.mlp.experts.0.up_proj.weight", "model.norm.weight"),
    "Phi-3": ("model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"),
    "Mamba": ("backbone.layers.0.mixer.A_log", "backbone.norm_f.weight"),
    "Whisper": ("model.encoder.conv1.weight", "model.decoder.layers.0.encoder_attn.q_proj.weight"),
    "GPT-2": ("h.0.attn.c_attn.weight", "wte.weight"),
    "T5": ("encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"),
    "BERT": ("bert.encoder.layer.0.attention.self.query.weight",),
    "CLIP or SigLIP": ("text_model.encoder.layers.0.mlp.fc1.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"),
    "SigLIP or CLIP": (
        "vision_model.encoder.layers.0.layer_norm1.weight",
        "vision_model.embeddings.patch_embedding.weight",
    ),
    "DINOv2": ("encoder.layer.0.layer_scale1.lambda1", "embeddings.cls_token"),
    "a ResNet": ("layer1.0.conv1.weight", "bn1.weight"),
    "of big_vision": ("params/txt/pos_embedding", "params/img/embedding/kernel"),
    "FSQ tokenizer": ("codebook/proj_down/kernel", "proj_mean/kernel", "decoder/q_embed", "encoder/q_embed"),
    "pi0-FAST, of lerobot": (
        "model.paligemma_with_expert.paligemma.model.language_model.norm.weight",
        "model.paligemma_with_expert.paligemma.lm_head.weight",
    ),
}
_FAMILIES = {"paligemma_npz": "PaliGemma", "hugging_face": "PaliGemma"}


def _leaves(names: Iterable[str]) -> dict[str, Leaf]:
    return dict.fromkeys(names, _ONE)


def _shapes(family: Family, lora: LoraPlacement = "none") -> dict[str, Leaf]:
    shapes = openpi_layout.shapes(tiny(family, lora=lora))
    return {path: Leaf(shape, np.dtype(np.float32)) for path, shape in shapes.items()}


@pytest.mark.parametrize("model", _OTHERS)
def test_other_models_are_named(model: str) -> None:
    """Another model is unknown, with its name, what gave it away and what it is nearest to."""
    layout = Layout.UNKNOWN if any("/" in name for name in _OTHERS[model]) else Layout.HUGGING_FACE
    if any("paligemma_with_expert" in name for name in _OTHERS[model]):
        layout = Layout.OPENPI_PYTORCH
    verdict = judge(layout, _leaves(_OTHERS[model]))
    assert (verdict.family, verdict.is_whole, model in verdict.other) == (UNKNOWN, False, True)
    assert any(f", by {name}; it has " in verdict.reason for name in _OTHERS[model])


def test_the_nearest_model_is_named_with_what_is_not_there() -> None:
    """SmolVLA shares a projection with a pi0; random names share nothing, and nothing at all is no model."""
    smol = judge(Layout.HUGGING_FACE, _leaves(_OTHERS["SmolVLA"])).reason
    assert "it has 1 of the " in smol
    assert "arrays of the nearest, pi0 in openpi's PyTorch layout, and not, for example, action_in_proj.bias" in smol
    random = judge(Layout.PALIGEMMA_NPZ, _leaves(["PaliGemma/a"]))
    assert (random.family, random.other) == (UNKNOWN, "")
    assert "it has none of the 32 arrays of the nearest, PaliGemma in big_vision's npz" in random.reason
    assert judge(Layout.HUGGING_FACE, {}).reason == "it has no arrays at all, so it is no model"


@pytest.mark.parametrize(
    ("change", "model"),
    [
        (lambda name: name.replace("projector.linear.", "projector.linear_1."), "as LLaVA has it"),
        (lambda name: name.replace("projector.linear.", "projector.mm_"), ""),
    ],
)
def test_a_model_of_the_same_parts_is_another(change: Callable[[str], str], model: str) -> None:
    """A LLaVA has nearly all names of a PaliGemma: one that PaliGemma does not have, for one that is missing, tells;
    names that prove nothing leave it a PaliGemma that is not whole."""
    tensors = leaves_of(_tensors("hugging_face"))
    verdict = judge(Layout.HUGGING_FACE, {change(name): leaf for name, leaf in tensors.items()})
    assert not verdict.is_whole
    assert verdict.family == (UNKNOWN if model else "PaliGemma")
    assert verdict.other.endswith(model)
    assert bool(verdict.reason) == bool(model)


@pytest.mark.parametrize(("family", "words"), [("pi0", "pi0"), ("pi05", "pi05"), ("pi0_fast", "pi0-FAST or PaliGemma")])
def test_whole_models_are_whole(family: Family, words: str) -> None:
    """A whole model has no problem; each parameter that is left out is one, by its name."""
    shapes = _shapes(family)
    assert judge(Layout.OPENPI, shapes) == (words, "", "", (), ())
    for path in shapes:
        verdict = judge(Layout.OPENPI, {name: leaf for name, leaf in shapes.items() if name != path})
        assert (verdict.is_whole, verdict.reason) == (False, "")
        assert f"{path}: expected, found nothing" in verdict.problems


@pytest.mark.parametrize(
    "name", [name for name in LAYOUTS if name not in ("gemma_flax", "peft", "openpi", "paligemma_npz")]
)
def test_each_tensor_of_pytorch_is_missed(name: str) -> None:
    """Of PyTorch's tensors each that a model uses is missed by its own name; so is a whole layer in the middle."""
    layout = Layout.HUGGING_FACE if name == "hugging_face" else Layout.OPENPI_PYTORCH
    tensors = leaves_of(_tensors(name))
    assert judge(layout, tensors) == (_FAMILIES.get(name, "pi0"), "", "", (), ())
    for left_out in tensors:
        verdict = judge(layout, {n: leaf for n, leaf in tensors.items() if n != left_out})
        assert verdict.is_whole == left_out.endswith("gemma_expert.lm_head.weight"), left_out
    middle = {n: leaf for n, leaf in tensors.items() if ".layers.1." not in n or "vision_tower" in n}
    assert sum(".layers.1." in line for line in judge(layout, middle).problems) == len(tensors) - len(middle)


def test_the_last_layer_is_missed_where_its_number_was_recorded() -> None:
    """Names alone do not show that a last layer is gone; a config.json of transformers or of ours does."""
    tensors = leaves_of(_tensors("hugging_face"))
    shorter = {n: leaf for n, leaf in tensors.items() if "language_model.layers.2." not in n}
    recorded = {"text_config": {"num_hidden_layers": 3}, "vision_config": {"num_hidden_layers": 2}}
    assert judge(Layout.HUGGING_FACE, shorter).is_whole
    assert len(judge(Layout.HUGGING_FACE, shorter, recorded).problems) == len(tensors) - len(shorter)
    tensors = leaves_of(_tensors("openpi_pytorch"))
    blind = {n: leaf for n, leaf in tensors.items() if "encoder.layers.1." not in n}
    assert judge(Layout.OPENPI_PYTORCH, blind).is_whole
    ours = {"model": {"siglip": {"depth": 2}, "paligemma": {"depth": 3}}}
    assert len(judge(Layout.OPENPI_PYTORCH, blind, ours).problems) == len(tensors) - len(blind)


def _tensors(name: str) -> Params:
    return LAYOUTS[name].tensors(LAYOUTS[name].contents(tiny("pi0"), 0, "float32"))


def test_half_an_adapter_is_missed() -> None:
    """Without lora_b, lora_a means nothing: in a model and in adapters alone."""
    shapes = _shapes("pi0", lora="both")
    lost = "PaliGemma/llm/layers/attn/kv_einsum_1/lora_b"
    assert judge(Layout.OPENPI, shapes).is_whole
    for part in (shapes, {path: leaf for path, leaf in shapes.items() if "lora" in path}):
        verdict = judge(Layout.OPENPI, {path: leaf for path, leaf in part.items() if path != lost})
        assert verdict.problems == (f"{lost}: expected, found nothing",)


def test_an_adapter_where_none_can_sit_is_a_problem() -> None:
    """Nothing applies a LoRA matrix on the image encoder, so its fine-tuning would be lost."""
    name = "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key/lora_a"
    verdict = judge(Layout.OPENPI, _shapes("pi0") | {name: _ONE})
    assert verdict.problems == (f"{name}: 1 tensors of adapters that are not merged into the weights",)


def test_layers_and_experts_have_to_agree() -> None:
    """An array with fewer layers than the others, and one without values, are problems by name."""
    shapes, path = _shapes("pi0"), "PaliGemma/llm/layers/pre_ffw_norm/scale"
    verdict = judge(Layout.OPENPI, shapes | {path: Leaf((2, 56), np.dtype(np.float32))})
    assert verdict.problems == (f"{path}: expected [3, 56], found float32[2, 56]",)
    tensors = leaves_of(_tensors("openpi_pytorch"))
    for shape in ((0,), ()):
        for name in tensors:
            odd = judge(Layout.OPENPI_PYTORCH, tensors | {name: Leaf(shape, np.dtype(np.float32))})
            assert odd.is_whole == name.endswith("gemma_expert.lm_head.weight"), name


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "peft"])
def test_what_is_no_float_is_a_problem(name: str) -> None:
    """A parameter of whole numbers is none, in any layout, by its name; position_ids beside them may be."""
    layout = Layout(name)
    leaves = leaves_of(LAYOUTS[name].tensors(LAYOUTS[name].contents(tiny("pi0"), 0, "float32")))
    leaves = {_own(layout, stored): leaf for stored, leaf in leaves.items()}
    site = _own(layout, LAYOUTS[name].site(tiny("pi0"), LAYOUTS[name].weight))
    codes = leaves | {site: Leaf(leaves[site].shape, np.dtype(np.int8)), "position_ids": Leaf((3,), np.dtype(np.int64))}
    problems = judge(layout, codes).problems
    assert any(line.endswith(f": expected floats, found {codes[site]}") for line in problems)
    assert not any("position_ids" in line for line in problems)


def _own(layout: Layout, name: str) -> str:
    """Return the name that ``judge`` gets: openpi's for an npz."""
    return name.replace("params/", "PaliGemma/", 1) if layout is Layout.PALIGEMMA_NPZ else name


def test_one_tensor_under_two_names_is_a_problem() -> None:
    """A wrapper's prefix makes no other tensor."""
    tensors = leaves_of(_tensors("openpi_pytorch"))
    name = "action_in_proj.bias"
    verdict = judge(Layout.OPENPI_PYTORCH, tensors | {f"module.{name}": tensors[name]})
    assert verdict.problems == (f"module.{name}: the same tensor as {name}; only one can be meant",)


def test_the_layers_of_a_gemma_are_alike() -> None:
    """Layers are stacked, so a layer in another dtype, or of another shape, is a problem by its name."""
    leaves = leaves_of(_tensors("gemma_flax"))
    name = "layer_1/mlp/linear"
    for other in (Leaf(leaves[name].shape, np.dtype(np.float16)), Leaf((3, 4), leaves[name].dtype)):
        [problem] = judge(Layout.GEMMA_FLAX, leaves | {name: other}).problems
        assert problem == f"{name}: expected {leaves[name]}, as in the other layers, found {other}"


def test_strays_have_no_place() -> None:
    """A value head is a stray; parts of adapters that are not merged are problems."""
    shapes = _shapes("pi0")
    verdict = judge(Layout.OPENPI, shapes | {"value_head/kernel": _ONE})
    assert (verdict.is_whole, verdict.strays) == (True, ("value_head/kernel",))
    name = "paligemma_with_expert.gemma_expert.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    dora = judge(Layout.OPENPI_PYTORCH, leaves_of(_tensors("openpi_pytorch")) | {name: _ONE})
    assert dora.problems == (f"{name}: 1 tensors of adapters that are not merged into the weights",)


def test_weights_beside_adapters_are_not_missing_files() -> None:
    """PEFT's names of weights beside adapters are said to be that: other copies of the files would not help."""
    tensors = leaves_of(_tensors("openpi_pytorch"))
    name = "paligemma_with_expert.gemma_expert.model.layers.0.self_attn.q_proj"
    renamed = {n.replace(f"{name}.", f"{name}.base_layer."): leaf for n, leaf in tensors.items()}
    verdict = judge(Layout.OPENPI_PYTORCH, renamed)
    words = f"{name}.base_layer.weight: 1 tensors of adapters that are not merged into the weights"
    assert verdict.problems == (f"{name}.weight: expected, found nothing", words)
    assert not verdict.lacks


def test_what_is_missing_is_listed_in_one_error() -> None:
    """The error has the family, the way out and a line for each parameter."""
    shapes = _shapes("pi05")
    del shapes["action_in_proj/bias"]
    with pytest.raises(LoadError) as caught:
        judge(Layout.OPENPI, shapes).require_whole("x")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "x: the checkpoint is not whole (pi05); get all of its files again\n"
        "  - action_in_proj/bias: expected, found nothing"
    )


@pytest.mark.parametrize("layout", [Layout.OPENPI, Layout.OPENPI_PYTORCH])
def test_whole_numbers_are_no_parameters(layout: Layout) -> None:
    """A parameter of whole numbers is a problem, named with its dtype: codes, or a cast that went wrong."""
    stored = LAYOUTS[str(layout)]
    tensors = stored.tensors(stored.contents(tiny(), 0, "float32"))
    name = stored.site(tiny(), stored.weight)
    leaves = leaves_of(tensors | {name: tensors[name].astype(np.int64)})
    assert judge(layout, leaves_of(tensors)).is_whole
    assert judge(layout, leaves).problems == (f"{name}: expected floats, found {leaves[name]}",)
