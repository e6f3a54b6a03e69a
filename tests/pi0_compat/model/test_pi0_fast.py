"""pi0-FAST: openpi's numbers, what a token's logits depend on, and how tokens are written."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fixtures import content, observations
from fixtures.golden_cases import GOLDEN, find_fast_cases, read_fast_case
from fixtures.specs import Family, tiny
from fixtures.writers.openpi import read_params
from pi0_compat.model import gemma, pi0_fast
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import Observation
from pi0_compat.model.pi0_fast import EOS, FAST_CAMERAS, Decoding, Pi0Fast, row_mask
from pi0_compat.paths import TOKEN_TABLE
from pi0_compat.training.compile_options import quickest

SPEC = tiny("pi0_fast", lora="both", num_kv_heads=2)
MODEL = Pi0Config.from_json({**SPEC})
# The same sums in another order; logits are of order one.
LOGITS_ATOL = 2e-5
STEPS = 6
# One whose greedy tokens vary.
SEED = 10
OUT, LINEAR = "PaliGemma/llm/layers/attn/attn_vec_einsum/w", "PaliGemma/llm/layers/mlp/linear"

golden_cases = pytest.mark.parametrize("folder", find_fast_cases(), ids=lambda folder: folder.name)


def observation(arrays: dict[str, np.ndarray]) -> Observation:
    return Observation(
        images={camera: arrays[f"image/{camera}"] for camera in FAST_CAMERAS},
        image_masks={camera: arrays[f"image_mask/{camera}"] for camera in FAST_CAMERAS},
        **{field: arrays[field] for field in ("state", "tokenized_prompt", "tokenized_prompt_mask")},
        **{field: arrays[field] for field in ("token_ar_mask", "token_loss_mask")},
    )


@golden_cases
def test_openpis_numbers(folder: Path) -> None:
    """Image and prompt tokens, logits and the loss of each sample are openpi's."""
    case = read_fast_case(folder)
    model = Pi0Config.from_json({**case.spec}).load(read_params(case.checkpoint))
    assert isinstance(model, Pi0Fast)
    batch = observation(case.batch)

    def outputs(batch: Observation) -> Any:
        return model.embed_prefix(batch)[0], model.logits(batch), model.compute_loss(jax.random.key(0), batch)

    prefix, logits, loss = jax.jit(outputs, compiler_options=quickest())(batch)
    np.testing.assert_allclose(prefix, case.prefix_tokens, atol=2e-5)
    np.testing.assert_allclose(logits, case.logits, atol=LOGITS_ATOL)
    np.testing.assert_allclose(loss, case.loss, rtol=2e-5)


@functools.cache
def compiled(config: Pi0Config, steps: int, decoding: Decoding, end: int) -> Any:
    """Return the compiled sampling of a model, with ``end`` for its EOS."""

    def sample(params: Any, batch: Observation) -> jax.Array:
        with mock.patch.object(pi0_fast, "EOS", end):
            return config.merge(params).sample_tokens(
                jax.random.key(0), batch, max_decoding_steps=steps, decoding=decoding
            )

    return jax.jit(sample, compiler_options=quickest())


def written(
    config: Pi0Config, params: Any, arrays: dict[str, np.ndarray], decoding: Decoding = "trained", *, end: int = EOS
) -> np.ndarray:
    """Return ``STEPS`` greedy tokens of each row."""
    return np.asarray(compiled(config, STEPS, decoding, end)(params, observation(arrays)))


@golden_cases
def test_openpis_tokens(folder: Path) -> None:
    """Tokens are openpi's."""
    case = read_fast_case(folder)
    assert case.num_steps == STEPS
    config, params = Pi0Config.from_json({**case.spec}), read_params(case.checkpoint)
    np.testing.assert_array_equal(written(config, params, case.asked, "openpi"), case.sampled_tokens)


def test_tokens_are_openpis_by_default_where_no_camera_is_masked() -> None:
    """Without a masked camera openpi has no error to follow, and only its positions remain."""
    case = read_fast_case(GOLDEN / "pi0_fast_lora_scaled")
    tokens = written(Pi0Config.from_json({**case.spec}), read_params(case.checkpoint), case.asked)
    np.testing.assert_array_equal(tokens[0], case.sampled_tokens[0])
    assert (tokens[1] != case.sampled_tokens[1]).any()


@pytest.fixture(scope="module")
def params() -> dict[str, np.ndarray]:
    """Return parameters whose greedy tokens vary."""
    scales = {TOKEN_TABLE: 0.1, OUT: 3.0, LINEAR: 3.0}
    return {path: array * np.float32(scales.get(path, 1)) for path, array in content.params(SPEC, seed=SEED).items()}


@pytest.fixture(scope="module")
def model(params: dict[str, np.ndarray]) -> Pi0Fast:
    loaded = MODEL.load(params)
    assert isinstance(loaded, Pi0Fast)
    return loaded


@pytest.fixture(scope="module")
def logits(model: Pi0Fast) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    compiled = jax.jit(model.logits, compiler_options=quickest())
    return lambda arrays: np.asarray(compiled(observation(arrays)))


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    return observations.batch(SPEC)


def test_mask_by_brute_force() -> None:
    """A real token attends to real ones up to the end of its own block; each row has its own blocks."""
    rng = np.random.default_rng(0)
    real, starts = rng.random((2, 7)) < 0.7, rng.integers(0, 2, (2, 7))
    mask = np.asarray(row_mask(jnp.asarray(real), jnp.asarray(starts)))
    for b, t, s in np.ndindex(2, 7, 7):
        assert mask[b, t, s] == (real[b, t] and real[b, s] and not starts[b, t + 1 : s + 1].any())


def test_prompt_sees_itself_and_actions_what_is_before(
    logits: Callable[[dict[str, np.ndarray]], np.ndarray], batch: dict[str, np.ndarray]
) -> None:
    """The last token of the prompt changes the logits after its first; a token of the actions none before itself."""
    before = logits(batch)
    prompt, action = dict(batch), dict(batch)
    prompt["tokenized_prompt"] = changed(batch["tokenized_prompt"], 0, 5)
    action["tokenized_prompt"] = changed(batch["tokenized_prompt"], 0, 8)
    assert (logits(prompt)[0, 0] != before[0, 0]).any()
    np.testing.assert_array_equal(logits(action)[0, :8], before[0, :8])
    assert (logits(action)[0, 8] != before[0, 8]).any()


def changed(tokens: np.ndarray, row: int, index: int) -> np.ndarray:
    tokens = tokens.copy()
    tokens[row, index] = (tokens[row, index] + 7) % SPEC["vocab_size"]
    return tokens


def test_loss_is_the_mean_over_a_samples_own_tokens(model: Pi0Fast, batch: dict[str, np.ndarray]) -> None:
    """The loss of a sample is the mean of -log p over its counted tokens; one without any has none."""
    batch = batch | {"token_loss_mask": batch["token_loss_mask"].copy()}
    batch["token_loss_mask"][0] = False
    batch["token_loss_mask"][0, 0] = True
    whole = observation(batch)
    loss = np.asarray(model.compute_loss(jax.random.key(0), whole))
    logp = np.asarray(jax.nn.log_softmax(model.logits(whole)))
    counted = np.flatnonzero(batch["token_loss_mask"][1])
    expected = -np.mean([logp[1, n - 1, batch["tokenized_prompt"][1, n]] for n in counted])
    np.testing.assert_allclose(loss, [0.0, expected], rtol=1e-6)


def follow(
    logits: Callable[[dict[str, np.ndarray]], np.ndarray], arrays: dict[str, np.ndarray], steps: int
) -> np.ndarray:
    """Write greedily without a cache: one whole pass a token, with all that was written as part of the prompt."""
    arrays = {name: array.copy() for name, array in arrays.items()}
    out = np.zeros((2, steps), int)
    for step in range(steps):
        real = arrays["tokenized_prompt_mask"].sum(axis=1)
        out[:, step] = [row[n - 1].argmax() for row, n in zip(logits(arrays), real, strict=True)]
        for row, n in enumerate(real):
            arrays["tokenized_prompt"][row, n] = out[row, step]
            arrays["tokenized_prompt_mask"][row, n] = arrays["token_ar_mask"][row, n] = True
    return out


def test_writing_is_what_a_whole_pass_predicts(
    params: dict[str, np.ndarray],
    logits: Callable[[dict[str, np.ndarray]], np.ndarray],
    batch: dict[str, np.ndarray],
) -> None:
    """With the positions of training, the cache changes no token; openpi's positions change some.

    All cameras are there: where one is masked, the positions of training count its tokens, those of sampling do not.
    """
    asked = observations.asked(batch) | {f"image_mask/{camera}": np.ones(2, bool) for camera in FAST_CAMERAS}
    expected = follow(logits, asked, 5)
    np.testing.assert_array_equal(written(MODEL, params, asked, "consecutive")[:, :5], expected)
    assert (written(MODEL, params, asked)[:, :5] != expected).any()


def test_a_row_writes_alone_what_it_writes_in_a_batch(
    params: dict[str, np.ndarray], batch: dict[str, np.ndarray]
) -> None:
    """Neither the other row nor its masked camera and padding change a row's tokens."""
    asked = observations.asked(batch)
    together = written(MODEL, params, asked)
    for row in range(2):
        alone = {name: array[row : row + 1] for name, array in asked.items()}
        np.testing.assert_array_equal(written(MODEL, params, alone)[0], together[row])


def test_what_is_padded_does_not_matter(params: dict[str, np.ndarray], batch: dict[str, np.ndarray]) -> None:
    """Other tokens where the prompt is padded, and another image of the masked camera, change no token."""
    asked = observations.asked(batch)
    real = asked["tokenized_prompt_mask"]
    other = asked | {"tokenized_prompt": np.where(real, asked["tokenized_prompt"], 3).astype(np.int32)}
    other["image/base_1_rgb"] = np.stack([asked["image/base_1_rgb"][0], -asked["image/base_1_rgb"][1]])
    np.testing.assert_array_equal(written(MODEL, params, other), written(MODEL, params, asked))


def test_a_row_that_ended_writes_zeros(params: dict[str, np.ndarray], batch: dict[str, np.ndarray]) -> None:
    """After its EOS a row writes zeros, while the other goes on as before; in openpi it writes on."""
    asked = observations.asked(batch)
    free = written(MODEL, params, asked)
    end = int(free[0, 1])
    assert end not in {int(free[0, 0]), *map(int, free[1])}
    ended = written(MODEL, params, asked, end=end)
    np.testing.assert_array_equal(ended, [[*free[0, :2], 0, 0, 0, 0], free[1]])
    like_openpi = written(MODEL, params, asked, "openpi", end=end)
    assert like_openpi[0, 2:].any()
    np.testing.assert_array_equal(like_openpi[0], free[0])


def test_writing_stops_when_every_row_has_ended(params: dict[str, np.ndarray], batch: dict[str, np.ndarray]) -> None:
    """A row alone stops after its EOS, in openpi too."""
    alone = {name: array[:1] for name, array in observations.asked(batch).items()}
    free = written(MODEL, params, alone)
    stopped = written(MODEL, params, alone, "openpi", end=int(free[0, 1]))
    np.testing.assert_array_equal(stopped, [[*free[0, :2], 0, 0, 0, 0]])


def test_temperature_draws_from_the_softmax(
    model: Pi0Fast, logits: Callable[[dict[str, np.ndarray]], np.ndarray], batch: dict[str, np.ndarray]
) -> None:
    """The first token is drawn with openpi's key from the softmax of logits / temperature after the prompt."""
    asked, key = observations.asked(batch), jax.random.key(3)

    def sample(batch: Observation) -> jax.Array:
        return model.sample_tokens(key, batch, max_decoding_steps=1, temperature=2.0)

    token = jax.jit(sample, compiler_options=quickest())(observation(asked))[0, 0]
    last = logits(asked)[:, asked["tokenized_prompt_mask"][0].sum() - 1]
    drawn = jax.random.categorical(jax.random.split(key)[1], last / 2.0, axis=-1)
    assert token == drawn[0]
    assert token != last[0].argmax()


def test_a_low_temperature_takes_the_likeliest() -> None:
    """A temperature near zero chooses as zero does."""
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((50, 9)))
    greedy = pi0_fast._choose(logits, 0.0, jax.random.key(0))
    np.testing.assert_array_equal(pi0_fast._choose(logits, 1e-6, jax.random.key(0)), greedy)
    assert (pi0_fast._choose(logits, 1.0, jax.random.key(0)) != greedy).any()


def test_eos_is_paligemmas() -> None:
    """PaliGemma's tokenizer ends a text with token 1."""
    assert EOS == 1


@pytest.mark.parametrize("field", ["token_ar_mask", "token_loss_mask"])
def test_a_missing_mask_is_named(model: Pi0Fast, batch: dict[str, np.ndarray], field: str) -> None:
    """The loss names the mask that an observation lacks."""
    nothing: dict[str, Any] = {field: None}
    without = dataclasses.replace(observation(batch), **nothing)
    with pytest.raises(ValueError, match=f"no {field}"):
        model.compute_loss(jax.random.key(0), without)


def test_an_unknown_decoding_is_refused(model: Pi0Fast, batch: dict[str, np.ndarray]) -> None:
    """A misspelled way of decoding is refused with the known ones."""
    with pytest.raises(ValueError, match=r"decoding='next'; expected one of trained, openpi, consecutive"):
        model.sample_tokens(jax.random.key(0), observation(batch), decoding="next")  # type: ignore[arg-type]


@pytest.mark.parametrize(("family", "queries"), [("pi0", "bfloat16"), ("pi0_fast", "float32")])
def test_rotated_queries_of_fast_stay_in_float32(monkeypatch: pytest.MonkeyPatch, family: Family, queries: str) -> None:
    """Only pi0_fast's queries are not rounded to the compute dtype; keys and values of all families are."""
    seen: list[list[str]] = []
    attend = gemma.attend

    def spy(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
        seen.append([x.dtype.name for x in (q, k, v)])
        return attend(q, k, v, mask)

    monkeypatch.setattr(gemma, "attend", spy)
    config = Pi0Config.from_json({**tiny(family, dtype="bfloat16")})
    tokens = jnp.zeros((1, 2, SPEC["paligemma"]["width"]))
    others = [None] * (len(config.experts) - 1)

    def run(params: Any) -> jax.Array:
        positions, mask = jnp.arange(2)[None], jnp.ones((1, 2, 2), bool)
        llm = config.merge(params).PaliGemma.llm
        return llm([tokens, *others], positions=positions, mask=mask, conds=[None, *others])[0][0]

    assert jax.eval_shape(run, config.abstract_params()).dtype == jnp.bfloat16
    assert seen[0] == [queries, "bfloat16", "bfloat16"]
