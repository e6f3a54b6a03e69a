"""Draw fresh parameters with numpy on the host; a table says from which distribution.

An array is a function of the seed and of its own path. So a base parameter does not depend on whether there are
adapters, any array can be drawn alone, and all cores draw at once. Nothing is compiled: for a small model, compiling
flax's initializers took longer than loading the rest.

Distributions are those of openpi (``models/gemma.py``, ``models/lora.py``, ``models/siglip.py`` at 15a9616) and of
flax's layers, except that ``lora_b`` starts at zero. Layers are stacked in front, so axes are counted from the end.
"""

import functools
import hashlib
import math
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import NormalDist
from typing import NamedTuple, TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, ...]
# Writes standard values into a flat float32 block.
Fill: TypeAlias = Callable[[np.random.Generator, np.ndarray], object]
# Values that are drawn from one stream: they fit a core's cache, and a large array keeps all cores busy.
_BLOCK = 1 << 18
# The standard deviation of a standard normal that is cut off at two.
_STDDEV_OF_TRUNCATED = 0.87962566103423978


class Distribution(NamedTuple):
    """What the values of a parameter are drawn from.

    Attributes:
      fill: writes standard values into a flat float32 block.
      scale: what they are multiplied by, from the shape of the whole array.
    """

    fill: Fill
    scale: Callable[[Shape], float]


def distribution_of(path: str) -> Distribution:
    """Return what a parameter of any pi0 model is drawn from.

    Raises:
      KeyError: no pi0 model has a parameter at this path.
    """
    for pattern, distribution in TABLE.items():
        if re.fullmatch(pattern, path):
            return distribution
    raise KeyError(f"{path}: no distribution is known for it; it is no parameter of a pi0 or pi05 model")


def constant_of(path: str) -> float | None:
    """Return the value of a fresh parameter that is constant; None if it is drawn, or no pi0 model has it."""
    for pattern, distribution in TABLE.items():
        if re.fullmatch(pattern, path) and distribution.fill not in _QUANTILES:
            block = np.empty(1, np.float32)
            distribution.fill(np.random.default_rng(0), block)
            return float(block[0])
    return None


def quantiles_of(path: str, shape: Shape, parts: int) -> np.ndarray | None:
    """Return the quantiles that split the values of a fresh parameter into ``parts`` equally likely parts.

    Args:
      path: the parameter.
      shape: its shape, on which its scale depends.
      parts: the number of parts.

    Returns:
      float64 [parts + 1], sorted; the first and last are its bounds, where it has any. None for a parameter that is not
      drawn, that no pi0 model has, or that has another number of axes.
    """
    for pattern, distribution in TABLE.items():
        if re.fullmatch(pattern, path) and (quantile := _QUANTILES.get(distribution.fill)):
            standard = np.array([quantile(part / parts) for part in range(parts + 1)])
            try:
                return standard * distribution.scale(shape)
            except IndexError:
                return None
    return None


def draw(seed: int, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Draw fresh parameters.

    Args:
      seed: any whole number that is not traced by ``jax.jit``.
      shapes: path -> shape of the parameters to draw.

    Returns:
      path -> float32 array in host memory. Beside them, each core holds one block of a megabyte.

    Raises:
      KeyError: no pi0 model has a parameter at a path.
      TypeError: the seed is not a whole number, or is traced.
    """
    seed = operator.index(seed)
    arrays = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    jobs = [job for path, array in arrays.items() for job in _jobs(seed, path, array)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(lambda job: job(), jobs):
            pass
    return arrays


def _jobs(seed: int, path: str, array: np.ndarray) -> Iterator[Callable[[], None]]:
    """Yield the jobs that fill an array, a block each, in any order."""
    distribution, flat = distribution_of(path), array.reshape(-1)
    scale = np.float32(distribution.scale(array.shape))
    for start in range(0, flat.size, _BLOCK):
        block, name = flat[start : start + _BLOCK], f"{seed}/{start // _BLOCK}/{path}"
        yield functools.partial(_fill, name, block, distribution.fill, scale)


def _fill(name: str, block: np.ndarray, fill: Fill, scale: np.float32) -> None:
    entropy = int.from_bytes(hashlib.sha256(name.encode()).digest())
    fill(np.random.Generator(np.random.SFC64(entropy)), block)
    block *= scale


def _fill_normal(generator: np.random.Generator, block: np.ndarray) -> None:
    generator.standard_normal(out=block, dtype=np.float32)


def _fill_truncated(generator: np.random.Generator, block: np.ndarray) -> None:
    """A standard normal between -2 and 2: what lies outside is drawn again."""
    generator.standard_normal(out=block, dtype=np.float32)
    outside = np.flatnonzero(np.abs(block) >= 2)
    while outside.size:
        block[outside] = again = generator.standard_normal(outside.size, np.float32)
        outside = outside[np.abs(again) >= 2]


def _fill_uniform(generator: np.random.Generator, block: np.ndarray) -> None:
    """From -1 to 1."""
    generator.random(out=block, dtype=np.float32)
    block *= 2
    block -= 1


def _normal_quantile(share: float) -> float:
    return _STANDARD_NORMAL.inv_cdf(share) if 0 < share < 1 else math.copysign(math.inf, share - 0.5)


def _truncated_quantile(share: float) -> float:
    outside = _STANDARD_NORMAL.cdf(-2)
    return _STANDARD_NORMAL.inv_cdf(outside + share * (1 - 2 * outside))


_STANDARD_NORMAL = NormalDist()
# What fills a block -> the quantiles of its values.
_QUANTILES: dict[Fill, Callable[[float], float]] = {
    _fill_normal: _normal_quantile,
    _fill_truncated: _truncated_quantile,
    _fill_uniform: lambda share: 2 * share - 1,
}


def _all(value: float) -> Distribution:
    return Distribution(lambda _, block: block.fill(value), lambda _: 1.0)


def _normal(stddev: float) -> Distribution:
    return Distribution(_fill_normal, lambda _: stddev)


def _lecun(*inputs: int) -> Distribution:
    """Variance one over the number of inputs that are summed (LeCun et al. 1998), no value beyond two deviations."""
    return Distribution(_fill_truncated, lambda shape: _size(shape, inputs) ** -0.5 / _STDDEV_OF_TRUNCATED)


def _xavier(inputs: Shape, outputs: Shape) -> Distribution:
    """Uniform, variance two over the number of inputs and outputs together (Glorot and Bengio 2010)."""
    return Distribution(_fill_uniform, lambda shape: (6 / (_size(shape, inputs) + _size(shape, outputs))) ** 0.5)


def _size(shape: Shape, axes: Shape) -> int:
    return math.prod(shape[axis] for axis in axes)


_LLM = "PaliGemma/llm"
_IMG = "PaliGemma/img"
_BLOCKS = f"{_IMG}/Transformer/encoderblock"
_HEADS = f"{_BLOCKS}/MultiHeadDotProductAttention_0"
_LLM_NORM = f"{_LLM}/(layers/pre_attention_norm|layers/pre_ffw_norm|final_norm)(_1)?"
_IMG_NORM = f"({_BLOCKS}/LayerNorm_[01]|{_IMG}/Transformer/encoder_norm)"
_PROJECTION = "(state_proj|action_(in|out)_proj|(action_)?time_mlp_(in|out))"

# Pattern of a whole path -> what it is drawn from. One pattern fits each parameter.
TABLE: dict[str, Distribution] = {
    r".+[/_]lora_a": _normal(0.01),
    r".+[/_]lora_b": _all(0),
    f"{_LLM}/embedder/input_embedding": _normal(0.01),
    f"{_LLM}/layers/attn/(q|kv|qkv)_einsum(_1)?/w": _lecun(-2),
    f"{_LLM}/layers/attn/attn_vec_einsum(_1)?/w": _lecun(-3, -2),
    f"{_LLM}/layers/mlp(_1)?/(gating_einsum|linear)": _lecun(-2),
    f"{_LLM_NORM}/(scale|Dense_0/kernel|Dense_0/bias)": _all(0),
    f"{_IMG}/embedding/kernel": _lecun(-4, -3, -2),
    f"{_IMG}/embedding/bias": _all(0),
    f"{_IMG}/pos_embedding": Distribution(_fill_normal, lambda shape: _size(shape, (-1,)) ** -0.5),
    f"{_HEADS}/(query|key|value)/kernel": _xavier((-3,), (-2, -1)),
    f"{_HEADS}/out/kernel": _xavier((-3, -2), (-1,)),
    f"{_HEADS}/(query|key|value|out)/bias": _all(0),
    f"{_BLOCKS}/MlpBlock_0/Dense_[01]/kernel": _xavier((-2,), (-1,)),
    f"{_BLOCKS}/MlpBlock_0/Dense_[01]/bias": _normal(1e-6),
    f"{_IMG_NORM}/scale": _all(1),
    f"{_IMG_NORM}/bias": _all(0),
    # Zero like big_vision's classification heads; every real checkpoint overwrites it.
    f"{_IMG}/head/(kernel|bias)": _all(0),
    f"{_PROJECTION}/kernel": _lecun(-2),
    f"{_PROJECTION}/bias": _all(0),
}
