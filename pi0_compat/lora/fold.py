"""LoRA adapters as parameters: make fresh ones, merge them with a base, take them out, fold them into the weights and
unfold them again.

Every function takes flat or nested parameters, returns flat ones and leaves its arguments as they were.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pi0_compat.lora.params import extract
from pi0_compat.lora.sites import Adapter, adapters_in, lora_of, require_rank, require_whole_adapters, spec_among
from pi0_compat.model import lora
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.specs import LoRASpec
from pi0_compat.params import Params, as_flat

# Above this share of a delta, what a cast loses is worth a warning.
LOSS_TO_WARN_OF = 0.02


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
    a small delta rounds away (docs/bugs.md#g15: 39 % of it at realistic sizes): that is warned of, ``fold_and_report``
    says how much, and a float32 base has the whole of it.

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


def _spec_of(adapter: Adapter, config: Pi0Config) -> LoRASpec:
    spec = spec_among(lora_of(config), adapter)
    if spec is None:
        raise ValueError(
            f"{adapter.a}: the config has no LoRA there, so its alpha is unknown; pass the config it was trained with"
        )
    return spec
