"""LoRA adapters as parameters: make fresh ones, merge them with a base, take them out, fold them into the weights and
unfold them again.

Every function takes flat or nested parameters, returns flat ones and leaves its arguments as they were.
"""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from suite.reference import lora
from suite.reference.params import Params, as_flat, is_adapter
from suite.reference.pi0_config import Pi0Config, expert_of
from suite.reference.specs import ExpertLoRA, LoRASpec

_FFN_SUFFIX = re.compile("_lora_[ab]$")
# Above this share of a delta, what a cast loses is worth a warning.
LOSS_TO_WARN_OF = 0.02
# The adapters of PaliGemma's language model and of the action expert.
ExpertLoRAs: TypeAlias = tuple[ExpertLoRA | None, ...]


class Adapter(NamedTuple):
    """The paths of an adapted weight and of its two matrices, and the einsums between them."""

    site: lora.Site
    weight: str
    a: str
    b: str

    @property
    def name(self) -> str:
        """What its site is called in ``lora.SITES``."""
        return next(name for name, site in lora.SITES.items() if site is self.site)


def adapter_of(path: str) -> Adapter | None:
    """The adapter that a weight or a LoRA matrix belongs to; None for a path where none can sit.

    ``.../q_einsum_1/w`` has ``.../q_einsum_1/lora_a``; ``.../mlp/linear`` has ``.../mlp/linear_lora_a``.
    """
    parent, _, name = path.rpartition("/")
    module = parent.rpartition("/")[2].removesuffix("_1")
    site = lora.SITES.get(module)
    if name in ("w", "lora_a", "lora_b") and site and site.group == "attn":
        return Adapter(site, f"{parent}/w", f"{parent}/lora_a", f"{parent}/lora_b")
    site = lora.SITES.get(_FFN_SUFFIX.sub("", name))
    if module == "mlp" and site and site.group == "ffn":
        weight = f"{parent}/{_FFN_SUFFIX.sub('', name)}"
        return Adapter(site, weight, f"{weight}_lora_a", f"{weight}_lora_b")
    return None


def initialize_lora_parameters(base_params: Mapping[str, Any], config: Pi0Config, seed: int) -> Params:
    """Fresh adapters for a base model: lora_a normal with standard deviation 0.01, lora_b zero, all float32 and numpy.

    They are what ``config.create(seed)`` starts with, whatever the base, so the same seed gives the same adapters.

    Raises:
      ValueError: the config has no LoRA, the base has adapters, or an adapted weight is missing or of another shape.
    """
    base = as_flat(base_params)
    if not config.has_lora:
        raise ValueError("the config has no LoRA on either expert: there is nothing to initialise")
    if present := [path for path in base if is_adapter(path)]:
        raise ValueError(
            f"the base already has {len(present)} adapter matrices, for example {present[0]}; use extract first"
        )
    spec = config.param_spec()
    wanted = [path for path in spec if is_adapter(path)]
    for adapter in adapters_in(wanted):
        _require_shape(base, adapter.weight, spec[adapter.weight].shape)
    return config.init_params(seed, only=wanted)


def merge_parameters(base_params: Mapping[str, Any], lora_params: Mapping[str, Any]) -> Params:
    """Base and adapters as one tree, for ``config.load``; no array is copied or cast.

    Raises:
      ValueError: an adapter without its other half or its weight, shapes that do not fit, anything but adapters
        in ``lora_params``, or a path that is in both.
    """
    base, adapters = as_flat(base_params), as_flat(lora_params)
    if strangers := [path for path in adapters if not is_adapter(path)]:
        raise ValueError(
            f"lora_params holds {len(strangers)} parameters that are no adapters, for example {strangers[0]}"
        )
    if both := sorted(base.keys() & adapters.keys()):
        raise ValueError(f"{len(both)} parameters are in base_params and in lora_params, for example {both[0]}")
    merged = base | adapters
    require_whole_adapters(merged)
    return dict(sorted(merged.items()))


def extract(params: Mapping[str, Any]) -> tuple[Params, Params]:
    """The base parameters and the adapters: ``merge_parameters(*extract(params))`` is ``params``."""
    flat = as_flat(params)
    if suffixed := [path for path in flat if path.endswith("/value") and is_adapter(path.removesuffix("/value"))]:
        raise ValueError(f"{suffixed[0]}: still has nnx's `value` at its end; restore_params takes it off")
    adapters = {path: array for path, array in flat.items() if is_adapter(path)}
    return {path: array for path, array in flat.items() if path not in adapters}, adapters


class Folded(NamedTuple):
    """What folding made, and what it cost.

    Attributes:
      params: the base model that computes what base and adapters computed.
      replaced: the adapters and the weights that they were added to, as they were: what ``unfold`` needs.
      lost: path of a weight -> the share of its delta that the weight's dtype could not hold, as a ratio of norms.
    """

    params: Params
    replaced: Params
    lost: dict[str, float]


def fold(params: Mapping[str, Any], config: Pi0Config) -> Params:
    """The base model that computes what ``params`` compute: every adapter added to its weight, none left.

    Sums are formed in float32 (float64 for a float64 weight) and cast to the weight's dtype once. In bfloat16 much of
    a small delta rounds away (bugs G15: 39 % of it at realistic sizes): that is warned of, ``fold_and_report`` says how
    much, and a float32 base has the whole of it.

    Raises:
      ValueError: half an adapter, or one that the config does not have or has with another rank.
    """
    folded = fold_and_report(params, config)
    worst = max(folded.lost, key=folded.lost.__getitem__, default="")
    if worst and folded.lost[worst] > LOSS_TO_WARN_OF:
        warnings.warn(
            f"{worst}: {folded.params[worst].dtype} cannot hold {folded.lost[worst]:.0%} of what its adapter adds; "
            "fold a float32 base",
            stacklevel=2,
        )
    return folded.params


def fold_and_report(params: Mapping[str, Any], config: Pi0Config) -> Folded:
    """``fold``, with what it lost to rounding, and with what it takes to undo it."""
    base, adapters = extract(params)
    require_whole_adapters(base | adapters)
    folded, replaced, lost = dict(base), dict(adapters), {}
    for adapter in adapters_in(adapters):
        w = replaced[adapter.weight] = base[adapter.weight]
        delta = _delta_like(w, adapter, adapters, config)
        folded[adapter.weight] = add(w, delta, w.dtype)
        lost[adapter.weight] = _loss(w, folded[adapter.weight], delta)
    return Folded(folded, replaced, lost)


def unfold(folded: Mapping[str, Any], replaced: Mapping[str, Any], config: Pi0Config) -> Params:
    """The base and adapters that were folded, bit for bit: the inverse of ``fold_and_report``.

    Subtracting the delta would not give the base back, since the sum was rounded; so what folding replaced is put
    back, after a look at whether ``folded`` still is its fold.

    Raises:
      ValueError: a folded weight is missing, or is not what ``replaced`` folds into: another model, or one that was
        trained since, whose training would be lost.
    """
    found, again = as_flat(folded), fold_and_report(replaced, config).params
    for path, expected in again.items():
        if path not in found:
            raise ValueError(f"{path}: the folded model lacks it; expected {expected.dtype}{list(expected.shape)}")
        if found[path].dtype != expected.dtype or not _nearly_equal(found[path], expected):
            raise ValueError(f"{path}: not the weight that these adapters were folded into; unfolding would lose it")
    return dict(sorted((found | as_flat(replaced)).items()))


def require_whole_adapters(params: Mapping[str, Any]) -> None:
    """Every LoRA matrix has its other half and its weight, in shapes that fit; else a ValueError names the path."""
    for adapter in adapters_in(path for path in params if is_adapter(path)):
        for path in (adapter.a, adapter.b, adapter.weight):
            if path not in params:
                raise ValueError(f"{path} is missing, but the rest of its adapter is there ({adapter.a}, {adapter.b})")
        rank = params[adapter.a].shape[-1]
        shape_a, shape_b = lora.adapter_shapes(params[adapter.weight].shape, rank)
        _require_shape(params, adapter.a, shape_a)
        _require_shape(params, adapter.b, shape_b)


def _delta_like(w: Any, adapter: Adapter, adapters: Params, config: Pi0Config) -> Any:
    """What an adapter adds to its weight, in float32, an array of the kind of ``w``."""
    spec, a, b = _spec_of(adapter, config), adapters[adapter.a], adapters[adapter.b]
    require_rank(adapter, a.shape[-1], spec)
    delta = lora.delta(adapter.site, a, b, spec)
    return np.asarray(delta) if isinstance(w, np.ndarray) else delta


def add(w: Any, delta: Any, dtype: Any) -> Any:
    """``w + delta`` in at least float32, then rounded once, to a dtype."""
    return (_widen(w) + delta).astype(dtype)


def _loss(w: Any, folded: Any, delta: Any) -> float:
    """The norm of what ``folded`` lacks of ``delta``, over the norm of ``delta``; 0 where nothing was to be added."""
    norm = np.linalg.norm if isinstance(w, np.ndarray) else jnp.linalg.norm
    missing, whole = (float(norm(x.ravel())) for x in (missing_of(delta, w, folded), delta))
    return missing / whole if whole else 0.0


def missing_of(delta: Any, w: Any, folded: Any) -> Any:
    """What a folded weight lacks of what was to be added to it."""
    return _widen(folded) - _widen(w) - delta


def _nearly_equal(found: Any, expected: Any) -> bool:
    """Whether two folds of the same agree: another device may round a sum otherwise."""
    if found.shape != expected.shape:
        return False
    eps = float(jnp.finfo(expected.dtype).eps)
    found, expected = np.asarray(_widen(found)), np.asarray(_widen(expected))
    return bool(np.abs(found - expected).max() <= 8 * eps * np.abs(expected).max())


def _widen(x: Any) -> Any:
    return x.astype(np.promote_types(x.dtype, np.float32))


def adapters_in(paths: Iterable[str]) -> list[Adapter]:
    found = {}
    for path in paths:
        if (adapter := adapter_of(path)) is None:
            raise ValueError(f"{path} is named like an adapter, but no weight of a pi0 model has one there")
        found[adapter.weight] = adapter
    return list(found.values())


def _spec_of(adapter: Adapter, config: Pi0Config) -> LoRASpec:
    spec = spec_among(lora_of(config), adapter)
    if spec is None:
        raise ValueError(
            f"{adapter.a}: the config has no LoRA there, so its alpha is unknown; pass the config it was trained with"
        )
    return spec


def require_rank(adapter: Adapter, rank: int, spec: LoRASpec) -> None:
    """Raise a ValueError unless the rank is the spec's: with another, alpha / rank would be wrong."""
    if rank != spec.rank:
        raise ValueError(f"{adapter.a}: rank {rank}, but the config says {spec.rank}; alpha / rank would be wrong")


def lora_of(config: Pi0Config) -> ExpertLoRAs:
    """The adapters of both experts."""
    return tuple(expert.lora for expert in config.experts)


def spec_among(experts: ExpertLoRAs, adapter: Adapter) -> LoRASpec | None:
    """Rank and alpha of an adapter, from those of both experts; None if they say nothing of it."""
    expert = experts[expert_of(adapter.weight) or 0]
    return getattr(expert, adapter.site.group) if expert else None


def _require_shape(params: Mapping[str, Any], path: str, shape: tuple[int, ...]) -> None:
    if path not in params:
        raise ValueError(f"{path}: expected shape {tuple(shape)}, found nothing")
    if tuple(params[path].shape) != tuple(shape):
        raise ValueError(f"{path}: expected shape {tuple(shape)}, found {tuple(params[path].shape)}")
