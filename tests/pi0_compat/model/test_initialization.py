"""Fresh parameters: every path has the distribution of jax's own initializer, and its own random stream."""

import logging
import os
import re
import tracemalloc

import jax
import numpy as np
import pytest
from jax.nn import initializers

from fixtures.specs import tiny
from pi0_compat.model import initialization
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.initialization import TABLE, draw
from suite.writing.asserts import assert_different, assert_same_bits
from tests.pi0_compat.tiny_models import LORA, PI05

# Every kind of attention projection, both families, adapters everywhere.
SPECS = [tiny(family, lora="both", num_kv_heads=heads) for family in ("pi0", "pi05") for heads in (1, 2, 6)]
ATTENTION = "PaliGemma/llm/layers/attn"
BLOCKS = "PaliGemma/img/Transformer/encoderblock"
HEADS = f"{BLOCKS}/MultiHeadDotProductAttention_0"
XAVIER = initializers.xavier_uniform()
LECUN = initializers.lecun_normal()
PER_HEAD = initializers.lecun_normal(in_axis=-2, out_axis=-1, batch_axis=(0,))
# Path, shape, and how flax draws it: the initializer and its shape argument (one layer's, with flattened heads).
DRAWN = [
    (f"{ATTENTION}/q_einsum/w", (2, 5, 60, 90), PER_HEAD, (10, 60, 90)),
    (f"{ATTENTION}/kv_einsum_1/w", (3, 2, 1, 60, 90), PER_HEAD, (6, 60, 90)),
    (f"{ATTENTION}/qkv_einsum/w", (1, 3, 4, 60, 50), PER_HEAD, (12, 60, 50)),
    (f"{ATTENTION}/attn_vec_einsum_1/w", (1, 7, 50, 90), initializers.lecun_normal((-3, -2), -1), (7, 50, 90)),
    ("PaliGemma/llm/layers/mlp/gating_einsum", (1, 2, 80, 200), PER_HEAD, (2, 80, 200)),
    ("PaliGemma/llm/layers/mlp_1/linear", (1, 200, 150), LECUN, (200, 150)),
    ("PaliGemma/llm/embedder/input_embedding", (300, 100), initializers.normal(), (300, 100)),
    ("PaliGemma/img/embedding/kernel", (5, 4, 3, 500), LECUN, (5, 4, 3, 500)),
    ("PaliGemma/img/pos_embedding", (1, 400, 80), initializers.normal(80**-0.5), (400, 80)),
    (f"{HEADS}/query/kernel", (1, 150, 3, 70), XAVIER, (150, 210)),
    (f"{HEADS}/out/kernel", (1, 3, 70, 150), XAVIER, (210, 150)),
    (f"{BLOCKS}/MlpBlock_0/Dense_1/kernel", (1, 300, 100), XAVIER, (300, 100)),
    (f"{BLOCKS}/MlpBlock_0/Dense_0/bias", (9, 4000), initializers.normal(1e-6), (36_000,)),
    (f"{ATTENTION}/q_einsum/lora_a", (2, 5, 400, 8), initializers.normal(0.01), (32_000,)),
    ("PaliGemma/llm/layers/mlp_1/linear_lora_a", (2, 2000, 8), initializers.normal(0.01), (32_000,)),
    ("action_time_mlp_in/kernel", (200, 150), LECUN, (200, 150)),
    ("state_proj/kernel", (30, 1000), LECUN, (30, 1000)),
]
CONSTANT = [
    (f"{ATTENTION}/q_einsum_1/lora_b", 0),
    ("PaliGemma/llm/layers/mlp/gating_einsum_lora_b", 0),
    ("PaliGemma/llm/final_norm/scale", 0),
    ("PaliGemma/llm/layers/pre_ffw_norm_1/Dense_0/kernel", 0),
    (f"{BLOCKS}/LayerNorm_1/scale", 1),
    (f"{BLOCKS}/LayerNorm_1/bias", 0),
    ("PaliGemma/img/Transformer/encoder_norm/scale", 1),
    ("PaliGemma/img/head/kernel", 0),
    (f"{HEADS}/key/bias", 0),
    ("action_out_proj/bias", 0),
]
KERNEL = "action_in_proj/kernel"


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov statistic: the largest difference of the shares that lie below a value."""
    values = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(sample), values, side="right") / sample.size for sample in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def drawn(path: str, *shape: int, seed: int = 0) -> np.ndarray:
    return draw(seed, {path: shape})[path]


def test_parameters_and_distributions_match_one_to_one() -> None:
    """A path that matches two patterns would depend on the order of the table."""
    paths = {path for spec in SPECS for path in Pi0Config.from_json(spec).param_spec()}
    fitting = {path: [pattern for pattern in TABLE if re.fullmatch(pattern, path)] for path in paths}
    assert {path: patterns for path, patterns in fitting.items() if len(patterns) != 1} == {}
    assert {pattern for patterns in fitting.values() for pattern in patterns} == set(TABLE)


@pytest.mark.parametrize(("path", "shape", "initializer", "flat"), DRAWN, ids=[case[0] for case in DRAWN])
def test_draws_have_the_distribution_of_jax(
    path: str, shape: tuple[int, ...], initializer: initializers.Initializer, flat: tuple[int, ...]
) -> None:
    """Equally many values of both have the same deviation, bounds and distribution."""
    values = drawn(path, *shape)
    expected = np.asarray(jax.jit(initializer, static_argnums=1)(jax.random.key(1), flat))
    assert values.shape == shape
    assert values.size == expected.size >= 30_000
    # Five standard errors each; the bounds of a normal's tail are looser than those of a truncated distribution.
    assert values.std() == pytest.approx(expected.std(), rel=5 / values.size**0.5)
    assert abs(values.mean()) < 5 * expected.std() / values.size**0.5
    assert np.abs(values).max() == pytest.approx(np.abs(expected).max(), rel=0.25)
    # Two samples of one distribution exceed this once in 10 000 times.
    assert distance(values.ravel(), expected.ravel()) < 2.23 * (2 / values.size) ** 0.5


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        # Two deviations of the normal before truncation, which exceed those after it; heads x head dim inputs.
        (f"{ATTENTION}/attn_vec_einsum/w", 2 / 0.8796256610342398 / 900**0.5),
        (f"{HEADS}/value/kernel", (6 / (30 + 30 * 40)) ** 0.5),
    ],
)
def test_a_truncated_distribution_ends_at_its_limit(path: str, limit: float) -> None:
    """The limit is reached but not exceeded."""
    assert 0.999 * limit < np.abs(drawn(path, 2, 30, 30, 40)).max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize(("path", "value"), CONSTANT)
def test_constant_parameters(path: str, value: float) -> None:
    """Adapters add nothing yet, and norms and heads start as in openpi."""
    assert_same_bits({path: drawn(path, 3, 4, 5)}, {path: np.full((3, 4, 5), value, np.float32)})


def test_streams_depend_on_seed_path_and_block() -> None:
    """Another seed, another path and the next block of an array give other, uncorrelated values."""
    size = initialization._BLOCK
    first, block = drawn(KERNEL, 5, size // 2), drawn(KERNEL, 5, size // 2).reshape(-1)
    others = [drawn(KERNEL, 5, size // 2, seed=1), drawn("action_out_proj/kernel", 5, size // 2)]
    for other in (*(x.reshape(-1)[:size] for x in others), block[size : 2 * size]):
        assert_different(block[:size], other)
        assert abs(np.corrcoef(block[:size], other)[0, 1]) < 5 / size**0.5
    assert first.std() == pytest.approx(5**-0.5, rel=0.01)
    assert block[2 * size :].std() == pytest.approx(5**-0.5, rel=0.01)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One core draws the same as eight, alone or with other arrays."""
    shapes = {KERNEL: (3, initialization._BLOCK), "action_out_proj/kernel": (7, 5)}
    draws = []
    for cores in (1, 8):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        draws.append(draw(3, shapes))
    assert_same_bits(draws[0], draws[1])
    assert_same_bits({KERNEL: draws[0][KERNEL]}, {KERNEL: drawn(KERNEL, *shapes[KERNEL], seed=3)})


def test_memory_is_limited_to_the_result_and_a_block_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A truncated normal, which redraws, takes a few blocks more than its 24 MiB."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    tracemalloc.start()
    array = drawn(KERNEL, 24, initialization._BLOCK)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert array.nbytes < peak < array.nbytes + 2 * 2 * 4 * initialization._BLOCK


def test_nothing_is_compiled(caplog: pytest.LogCaptureFixture) -> None:
    """Neither fresh parameters nor their model compile anything; jax logs what it compiles."""
    PI05.param_spec()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        PI05.create(0)
        assert "Compiling" not in caplog.text
        jax.jit(lambda x: x * 3 - 5)(np.float32(1))
        assert "Compiling" in caplog.text


def test_a_path_of_no_model_is_refused_by_name() -> None:
    """An unknown path has no distribution, and none is guessed."""
    with pytest.raises(KeyError, match="nowhere/kernel"):
        drawn("nowhere/kernel", 2, 2)


@pytest.mark.parametrize("seed", [0.5, "0", None])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    """A fraction or a text would be another seed by mistake."""
    with pytest.raises(TypeError, match="integer"):
        LORA.init_params(seed)  # type: ignore[arg-type]


def test_a_traced_seed_is_refused() -> None:
    """Under ``jax.jit`` the name of a tracer would be a seed too, the same in every call."""
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda seed: draw(seed, {KERNEL: (2, 2)}))(0)


def test_numpy_seeds_equal_their_numbers() -> None:
    """A seed from an array gives the same values."""
    assert_same_bits(draw(np.int64(7), {KERNEL: (2, 3)}), draw(7, {KERNEL: (2, 3)}))  # type: ignore[arg-type]
