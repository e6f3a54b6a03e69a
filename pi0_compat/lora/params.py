"""LoRA adapters as parameters: make fresh ones, merge them with a base, extract them. No jax is needed."""

from collections.abc import Mapping
from typing import Any

from pi0_compat.lora.sites import _require_shape, adapters_in, require_whole_adapters
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Params, as_flat
from pi0_compat.paths import family_error, is_adapter


def initialize_lora_parameters(base_params: Mapping[str, Any], config: Pi0Spec, seed: int) -> Params:
    """Return fresh adapters for a base model: lora_a normal with standard deviation 0.01, lora_b zero.

    They are those of ``config.create(seed)`` and do not depend on the base, so the same seed gives the same adapters.
    The distribution of ``lora_a`` is openpi's (``models/lora.py`` at 15a9616); openpi's ``lora_b`` is not zero.

    Args:
      base_params: the base model, flat or nested; only names and shapes are read.
      config: the config with LoRA.
      seed: any whole number.

    Returns:
      path -> float32 numpy array of every adapter matrix, and nothing else.

    Raises:
      ValueError: the config has no LoRA, the base is of another family or has adapters, or an adapted weight is missing
        or of another shape.
    """
    base = as_flat(base_params)
    if not config.has_lora:
        raise ValueError("the config has no LoRA on either expert: there is nothing to initialize")
    if present := [path for path in base if is_adapter(path)]:
        raise ValueError(
            f"the base already has {len(present)} adapter matrices, for example {present[0]}; use extract first"
        )
    if other := family_error(base, config.family):
        raise ValueError(other)
    spec = config.param_spec()
    wanted = [path for path in spec if is_adapter(path)]
    for adapter in adapters_in(wanted):
        _require_shape(base, adapter.weight, spec[adapter.weight].shape)
    return config.init_params(seed, only=wanted)


def merge_parameters(base_params: Mapping[str, Any], lora_params: Mapping[str, Any]) -> Params:
    """Return base and adapters as one flat tree, for ``config.load``; no array is copied or cast.

    Args:
      base_params: the base model, flat or nested.
      lora_params: adapters alone, flat or nested.

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
    """Split parameters into base and adapters: ``merge_parameters(*extract(params))`` is ``params``.

    Args:
      params: flat or nested, without nnx's ``value`` suffix.

    Returns:
      The base parameters and the adapters, both flat; no array is copied.

    Raises:
      ValueError: a name ends in nnx's ``value`` suffix.
    """
    flat = as_flat(params)
    if suffixed := [path for path in flat if path.endswith("/value") and is_adapter(path.removesuffix("/value"))]:
        raise ValueError(f"{suffixed[0]}: still has nnx's `value` at its end; restore_params takes it off")
    adapters = {path: array for path, array in flat.items() if is_adapter(path)}
    return {path: array for path, array in flat.items() if path not in adapters}, adapters
