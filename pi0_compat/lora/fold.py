"""Fold LoRA adapters into the weights they adapt, in memory, and unfold them again.

Every function takes flat or nested parameters, returns flat ones and leaves its arguments as they are. No jax is
needed: a weight that is a jax array comes back as one, because arithmetic with it does.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from pi0_compat.lora.params import extract
from pi0_compat.lora.sites import Adapter, adapters_in, lora_of, require_rank, require_whole_adapters, spec_among
from pi0_compat.model import sites
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import LoRASpec
from pi0_compat.params import Params, as_flat
from pi0_compat.paths import family_error

# Above this share of a delta, what a cast loses is worth a warning.
LOSS_TO_WARN_OF = 0.02


class Folded(NamedTuple):
    """The result of a fold, and what it cost.

    Attributes:
      params: the base model that computes what base and adapters compute, flat; no adapter is left.
      replaced: the adapters and the weights that they were added to, unchanged: what ``unfold`` needs.
      lost: path of a weight -> the share of its delta that the weight's dtype could not hold, as a ratio of norms.
    """

    params: Params
    replaced: Params
    lost: dict[str, float]


def fold(params: Mapping[str, Any], config: Pi0Spec) -> Folded:
    """Add every adapter to its weight.

    A delta is summed in float64, rounded to float32, and added in float32 (in float64 to a float64 weight); the sum is
    cast to the weight's dtype once. In bfloat16 much of a small delta rounds away (docs/bugs.md#g15: 39 % of it at
    realistic sizes): ``lost`` has the share of every weight, a ``UserWarning`` names the worst one
    above 2 %, and a float32 base keeps all of it.

    Args:
      params: base and adapters, flat or nested; numpy or jax arrays of any float dtype.
      config: the config that the adapters were trained with; its alpha and rank apply.

    Returns:
      The folded parameters in the dtypes of ``params``, what ``unfold`` needs, and what rounding took.

    Raises:
      ValueError: half an adapter, or one that the config does not have or has with another rank, or parameters of
        another family.
    """
    folded = _fold(params, config)
    worst = max(folded.lost, key=folded.lost.__getitem__, default="")
    if worst and folded.lost[worst] > LOSS_TO_WARN_OF:
        warnings.warn(
            f"{worst}: {folded.params[worst].dtype} cannot hold {folded.lost[worst]:.0%} of what its adapter adds; "
            "fold a float32 base",
            stacklevel=2,
        )
    return folded


def unfold(folded: Mapping[str, Any], replaced: Mapping[str, Any], config: Pi0Spec) -> Params:
    """Return the base and adapters that were folded, bit for bit: the inverse of ``fold``.

    Subtracting the delta would not restore the base, since the sum was rounded. So the replaced arrays are put back,
    after a check that ``folded`` still is their fold.

    Args:
      folded: ``Folded.params``, flat or nested.
      replaced: ``Folded.replaced``, flat or nested.
      config: the config that ``fold`` was called with.

    Raises:
      ValueError: a folded weight is missing, or is not what ``replaced`` folds into: the model is another one, or was
        trained since, and that training would be lost.
    """
    found, again = as_flat(folded), _fold(replaced, config).params
    for path, expected in again.items():
        if path not in found:
            raise ValueError(f"{path}: the folded model lacks it; expected {expected.dtype}{list(expected.shape)}")
        if found[path].dtype != expected.dtype or not _nearly_equal(found[path], expected):
            raise ValueError(f"{path}: not the weight that these adapters were folded into; unfolding would lose it")
    return dict(sorted((found | as_flat(replaced)).items()))


def _fold(params: Mapping[str, Any], config: Pi0Spec) -> Folded:
    base, adapters = extract(params)
    if other := family_error(base | adapters, config.family):
        raise ValueError(other)
    require_whole_adapters(base | adapters)
    folded, replaced, lost = dict(base), dict(adapters), {}
    for adapter in adapters_in(adapters):
        w = replaced[adapter.weight] = base[adapter.weight]
        delta = _delta(adapter, adapters, config)
        folded[adapter.weight] = add(w, delta, w.dtype)
        lost[adapter.weight] = _loss(w, folded[adapter.weight], delta)
    return Folded(folded, replaced, lost)


def _delta(adapter: Adapter, adapters: Params, config: Pi0Spec) -> np.ndarray:
    """Return what an adapter adds to its weight, float32."""
    spec, a, b = _spec_of(adapter, config), adapters[adapter.a], adapters[adapter.b]
    require_rank(adapter, a.shape[-1], spec)
    return sites.delta(adapter.site, a, b, spec)


def add(w: Any, delta: np.ndarray, dtype: DTypeLike) -> Any:
    """Return ``w + delta``, summed in at least float32 and rounded once to ``dtype``."""
    return (_widen(w) + delta).astype(dtype, copy=False)


def _loss(w: Any, folded: Any, delta: np.ndarray) -> float:
    """Return the norm of what ``folded`` lacks of ``delta``, over the norm of ``delta``; 0 where nothing was added."""
    missing, whole = (float(np.linalg.norm(np.asarray(x).ravel())) for x in (missing_of(delta, w, folded), delta))
    return missing / whole if whole else 0.0


def missing_of(delta: np.ndarray, w: Any, folded: Any) -> Any:
    """Return what a folded weight lacks of the delta that was added to it."""
    missing = _widen(folded) - _widen(w)
    missing -= delta
    return missing


def _nearly_equal(found: Any, expected: Any) -> bool:
    """Return whether two folds of the same parameters agree: another device may round a sum differently."""
    if found.shape != expected.shape:
        return False
    eps = float(ml_dtypes.finfo(expected.dtype).eps)  # type: ignore[no-untyped-call]
    found, expected = np.asarray(_widen(found)), np.asarray(_widen(expected))
    return bool(np.abs(found - expected).max() <= 8 * eps * np.abs(expected).max())


def _widen(x: Any) -> Any:
    return x.astype(np.promote_types(x.dtype, np.float32), copy=False)


def _spec_of(adapter: Adapter, config: Pi0Spec) -> LoRASpec:
    spec = spec_among(lora_of(config), adapter)
    if spec is None:
        raise ValueError(
            f"{adapter.a}: the config has no LoRA there, so its alpha is unknown; pass the config it was trained with"
        )
    return spec
