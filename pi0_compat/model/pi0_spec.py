"""A whole pi0, pi05 or pi0-FAST model as frozen data, and all that follows from its sizes; no jax is needed.

Sizes follow openpi (``models/pi0_config.py`` and ``models/pi0_fast.py`` at 15a9616). ``model.config.Pi0Config`` adds
the model itself.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any, Self, get_args

import numpy as np

from pi0_compat import params as tree
from pi0_compat.diagnosis import advice
from pi0_compat.model.initialization import draw
from pi0_compat.model.shapes import Named, gemma_shapes, linear, siglip_shapes
from pi0_compat.model.specs import COMPUTE_DTYPES, EXPERTS, Family, GemmaSpec, Remat, SiglipSpec, Spec
from pi0_compat.params import Leaf, Params, differences
from pi0_compat.paths import expert_of, is_adapter


class ParamsMismatchError(ValueError):
    """Parameters that do not fit the model.

    Attributes:
      differences: every missing, unexpected and mismatched path.
    """

    def __init__(self, message: str, found: tree.Differences) -> None:
        super().__init__(message)
        self.differences = found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pi0Spec(Spec):
    """Sizes and options of a pi0, pi05 or pi0-FAST model. Parameters are created in float32, whatever ``dtype`` says.

    Attributes:
      family: ``pi0``; ``pi05``, which takes the state as part of the prompt and the time through adaRMS norms; or
        ``pi0_fast``, which has no action expert and writes actions as tokens.
      dtype: what the model computes in: float32, bfloat16 or float16.
      vocab_size: the number of tokens.
      image_size: pixels along each side of an image; a multiple of the encoder's patch size.
      siglip: sizes of the image encoder.
      paligemma: sizes and adapters of the language model, expert 0.
      action_expert: sizes and adapters of the action expert, expert 1; depth and heads equal those of ``paligemma``.
        None for ``pi0_fast``, and only there.
      action_dim: numbers in an action, and in the robot's state; no parameter of ``pi0_fast`` depends on it.
      action_horizon: actions in a chunk.
      max_token_len: tokens in a prompt, padding included; of ``pi0_fast``, actions included.
      dropout: the share of values that training sets to zero after every attention and feed-forward of both experts;
        0 or more, below 1. Inference drops nothing.
      remat: what training computes a second time to save memory: whole ``layers`` (as openpi does), or only what is
        ``cheap``, with the results of matrix products kept.

    Raises:
      ValueError: a size or option is not allowed, or the experts do not fit the family or each other.
    """

    family: Family = "pi0"
    dtype: str = "bfloat16"
    vocab_size: int
    image_size: int
    siglip: SiglipSpec
    paligemma: GemmaSpec
    action_expert: GemmaSpec | None = None
    action_dim: int
    action_horizon: int
    max_token_len: int
    dropout: float = 0.0
    remat: Remat = "layers"

    def __post_init__(self) -> None:
        self._parse("siglip", SiglipSpec)
        self._parse("paligemma", GemmaSpec)
        self._parse("action_expert", GemmaSpec)
        self._require_positive("vocab_size", "image_size", "action_dim", "action_horizon", "max_token_len")
        if self.family not in get_args(Family):
            raise ValueError(f"family={self.family!r}; expected one of {', '.join(get_args(Family))}")
        if self.dtype not in COMPUTE_DTYPES:
            raise ValueError(f"dtype={self.dtype!r}; expected one of {', '.join(COMPUTE_DTYPES)}")
        if self.remat not in get_args(Remat):
            raise ValueError(f"remat={self.remat!r}; expected one of {', '.join(get_args(Remat))}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout}; expected a share of 0 or more, below 1")
        if self.image_size % self.siglip.patch_size:
            raise ValueError(f"image_size={self.image_size} is no multiple of patch_size={self.siglip.patch_size}")
        self._require_fitting_experts()

    @property
    def experts(self) -> tuple[GemmaSpec, ...]:
        """PaliGemma's language model (expert 0) and, but for ``pi0_fast``, the action expert (expert 1)."""
        return (self.paligemma,) if self.action_expert is None else (self.paligemma, self.action_expert)

    @property
    def has_lora(self) -> bool:
        """Whether an expert has adapters."""
        return any(expert.has_lora for expert in self.experts)

    def without_lora(self) -> Self:
        """The same model without adapters."""
        bare: dict[str, Any] = {
            name: dataclasses.replace(expert, lora=None) for name, expert in zip(EXPERTS, self.experts, strict=False)
        }
        return dataclasses.replace(self, **bare)

    @property
    def lora(self) -> dict[str, Any]:
        """Rank, alpha and rslora of every adapted expert as plain data: what a checkpoint has to remember."""
        named = zip(EXPERTS, self.experts, strict=False)
        return {name: expert.lora.to_json() for name, expert in named if expert.has_lora and expert.lora}

    def param_spec(self) -> dict[str, Leaf]:
        """Return path -> shape and dtype of every parameter, in the order of the paths; nothing is allocated."""
        return {path: Leaf(shape, np.dtype(np.float32)) for path, shape in sorted(self._shapes())}

    def init_params(self, seed: int, *, only: Collection[str] | None = None) -> Params:
        """Return fresh parameters, each a function of the seed and its path alone.

        So base parameters do not depend on whether there are adapters.

        Args:
          seed: any whole number.
          only: the paths to draw; by default all. No other parameter is drawn or allocated.

        Returns:
          path -> float32 numpy array.

        Raises:
          KeyError: the model has no such path.
          TypeError: the seed is not a whole number, or is traced by ``jax.jit``.
        """
        spec = self.param_spec()
        wanted = sorted(spec if only is None else only)
        if unknown := [path for path in wanted if path not in spec]:
            raise KeyError(f"the model has no parameter {unknown[0]}; `param_spec` has the paths of all {len(spec)}")
        return draw(seed, {path: spec[path].shape for path in wanted})

    def require_fit(self, params: Params) -> None:
        """Raise ``ParamsMismatchError`` unless the paths and shapes of flat parameters are exactly the model's."""
        if found := differences(self.param_spec(), params, dtypes=False):
            raise ParamsMismatchError(f"{advice(self.family, params, found)}\n{found}", found)

    def is_frozen(self, path: str) -> bool:
        """Return whether fine-tuning leaves a parameter alone: a weight of an adapted expert, but not an adapter."""
        expert = expert_of(path)
        if expert == 1 and self.action_expert is None:
            return False
        return expert is not None and self.experts[expert].has_lora and not is_adapter(path)

    def freeze_filter(self) -> Callable[[tuple[Any, ...], Any], bool]:
        """Return ``is_frozen`` as a filter for ``flax.nnx`` states."""
        return lambda path, _: self.is_frozen(tree.join(str(part) for part in path))

    def _shapes(self) -> Iterator[Named]:
        """Yield path and shape of every parameter."""
        pi05 = self.family == "pi05"
        yield from gemma_shapes(self.experts, self.vocab_size, (False, pi05)[: len(self.experts)])
        yield from siglip_shapes(self.siglip, image_size=self.image_size, out_width=self.paligemma.width)
        if self.action_expert is None:
            return
        width = self.action_expert.width
        yield from linear("action_in_proj", self.action_dim, width)
        if pi05:
            yield from linear("time_mlp_in", width, width)
            yield from linear("time_mlp_out", width, width)
        else:
            yield from linear("state_proj", self.action_dim, width)
            yield from linear("action_time_mlp_in", 2 * width, width)
            yield from linear("action_time_mlp_out", width, width)
        yield from linear("action_out_proj", width, self.action_dim)

    def _require_fitting_experts(self) -> None:
        if (self.action_expert is None) != (self.family == "pi0_fast"):
            has = "is missing; only pi0_fast has none" if self.action_expert is None else "is given; pi0_fast has none"
            raise ValueError(f"family={self.family!r}, but action_expert {has}")
        for name in ("depth", "num_heads", "num_kv_heads", "head_dim"):
            left, right = getattr(self.paligemma, name), getattr(self.action_expert or self.paligemma, name)
            if left != right:
                raise ValueError(f"the experts attend together, so {name} has to be equal: {left} and {right}")
