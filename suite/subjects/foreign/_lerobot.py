"""lerobot's policies at the sizes of a spec, and the places of a pi0's parameters in them.

lerobot hard-codes sizes: those of openpi's own models, and 8 heads. They are replaced by the spec's while a model is
made or runs, and restored afterwards. No code path changes. A spec with PaliGemma's own vocabulary has real sizes, and
nothing is replaced.
"""

import contextlib
from collections.abc import Iterator
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0_fast import modeling_pi0_fast
from lerobot.policies.pi05 import modeling_pi05

from ._hugging_face_sizes import siglip_sizes
from ._policy_rules import policy_rules
from ._tensors import Rules

MODULES = {"pi0": modeling_pi0, "pi05": modeling_pi05, "pi0_fast": modeling_pi0_fast}
BOTH = "model.paligemma_with_expert"
# The names of the two Gemmas' modules.
ROOTS = {"paligemma": f"{BOTH}.paligemma.model.language_model", "action_expert": f"{BOTH}.gemma_expert.model"}
LM_HEAD = f"{BOTH}.paligemma.lm_head"
# The modules' classes have heads; no policy reads one.
UNREAD = (f"{LM_HEAD}.weight", f"{BOTH}.gemma_expert.lm_head.weight")
REAL_VOCABULARY, REAL_HEADS = 257152, 8
# A pi0_fast policy downloads two tokenizers when it is made.
TOKENIZER = SimpleNamespace()


@contextlib.contextmanager
def at_size(spec: Any) -> Iterator[ModuleType]:
    """Give the module of the spec's family the spec's sizes in the body."""
    module = MODULES[spec["family"]]
    with _without_tokenizers(module), _sizes(spec, module):
        yield module


@contextlib.contextmanager
def _without_tokenizers(module: ModuleType) -> Iterator[None]:
    """Give a pi0_fast policy made in the body no tokenizers: it gets ids, and returns ids."""
    with contextlib.ExitStack() as patches:
        for name in ("AutoProcessor", "AutoTokenizer") if module is modeling_pi0_fast else ():
            stub = SimpleNamespace(from_pretrained=lambda *_, **__: TOKENIZER)
            patches.enter_context(mock.patch.object(module, name, stub))
        yield


@contextlib.contextmanager
def _sizes(spec: Any, module: ModuleType) -> Iterator[None]:
    if spec["vocab_size"] == REAL_VOCABULARY:
        yield
        return

    def paligemma(config: Any, make: Any = module.PaliGemmaForConditionalGenerationWithPiGemma) -> Any:
        config.text_config.vocab_size = config.image_token_index = spec["vocab_size"]
        for name, size in _vision_sizes(spec).items():
            setattr(config.vision_config, name, size)
        return make(config=config)

    with (
        mock.patch.object(module, "get_gemma_config", lambda variant: _gemma_config(module, spec, variant)),
        mock.patch.object(module, "PaliGemmaForConditionalGenerationWithPiGemma", paligemma),
        contextlib.nullcontext() if spec["family"] == "pi0_fast" else _with_expert(spec, module),
    ):
        yield


@contextlib.contextmanager
def _with_expert(spec: Any, module: ModuleType) -> Iterator[None]:
    def expert(config: Any, make: Any = module.PiGemmaForCausalLM) -> Any:
        config.vocab_size = spec["vocab_size"]
        return make(config=config)

    layer = _with_heads(module.compute_layer_complete, spec["paligemma"]["num_heads"])
    with (
        mock.patch.object(module, "PiGemmaForCausalLM", expert),
        mock.patch.object(module, "compute_layer_complete", layer),
    ):
        yield


def _gemma_config(module: ModuleType, spec: Any, variant: str) -> Any:
    sizes = dict(spec["paligemma" if variant == "gemma_2b" else "action_expert"])
    del sizes["lora"]
    return module.GemmaConfig(**sizes)


def _vision_sizes(spec: Any) -> dict[str, int]:
    # A pi0_fast policy leaves the image's size at its default, which is that of its only checkpoints.
    return siglip_sizes(spec["siglip"]) | {
        "projection_dim": spec["paligemma"]["width"],
        "image_size": spec["image_size"],
    }


def _with_heads(function: FunctionType, num_heads: int) -> FunctionType:
    """Replace the 8 of ``att_output.reshape(batch_size, -1, 1 * 8 * head_dim)``, the only 8 in the function."""
    code = function.__code__
    constants = (num_heads if type(value) is int and value == REAL_HEADS else value for value in code.co_consts)
    return FunctionType(code.replace(co_consts=tuple(constants)), function.__globals__, function.__name__)


def rules_of(spec: Any) -> Rules:
    """Return the rule of every parameter of a model without adapters, for the tensors of a policy."""
    return policy_rules(spec, "model.")
