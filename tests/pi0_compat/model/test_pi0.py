"""Masks, time, and what the velocity does and does not depend on."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_compat.model.pi0 import CAMERAS, MAX_PERIOD, MIN_PERIOD, block_mask, draw_noise_and_time, embed_time
from tests.pi0_compat import tiny_models
from tests.pi0_compat.tiny_models import SPEC

Batch = dict[str, np.ndarray]

# One rounding of the input moves a velocity of order one by about 1e-6; ten times that.
VELOCITY_ATOL = 1e-5
# With and without cache the same sums are computed in another order.
CACHE_ATOL = 1e-4
LENGTH = 6


@given(
    real=st.lists(st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH), min_size=2, max_size=2),
    starts=st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH),
)
def test_block_mask_by_brute_force(real: list[list[bool]], starts: list[bool]) -> None:
    """A token attends to another if both are real and no block starts between the two after itself."""
    mask = np.asarray(block_mask(jnp.asarray(real), jnp.asarray(starts)))
    for b, row in enumerate(real):
        for t in range(LENGTH):
            for s in range(LENGTH):
                in_later_block = any(starts[t + 1 : s + 1])
                assert mask[b, t, s] == (row[t] and row[s] and not in_later_block)


WIDTH = 12


@given(st.floats(0.0009765625, 1.0, width=32))
@settings(max_examples=20)
def test_time_lies_on_circles(time: float) -> None:
    """Each sine has its cosine: the squares of a pair sum to one."""
    sines, cosines = np.split(np.asarray(embed_time(jnp.asarray([time]), WIDTH)), 2, axis=-1)
    np.testing.assert_allclose(sines**2 + cosines**2, 1.0, atol=1e-5)


def test_time_zero_is_the_start_of_every_circle() -> None:
    """At time 0 all sines are 0 and all cosines are 1."""
    expected = [[0.0] * (WIDTH // 2) + [1.0] * (WIDTH // 2)]
    np.testing.assert_array_equal(embed_time(jnp.zeros(1), WIDTH), expected)


@pytest.mark.parametrize(("pair", "period"), [(0, MIN_PERIOD), (-1, MAX_PERIOD)])
def test_periods_reach_from_the_shortest_to_the_longest(pair: int, period: float) -> None:
    """The first pair repeats after the shortest period, the last after the longest."""
    quarters = jnp.asarray([0.25, 0.5, 1.0]) * period
    sines, cosines = np.split(np.asarray(embed_time(quarters, WIDTH)), 2, axis=-1)
    np.testing.assert_allclose(sines[:, pair], [1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(cosines[:, pair], [0, -1, 1], atol=1e-4)


def test_times_have_different_embeddings() -> None:
    """A thousand different times have a thousand different embeddings."""
    embedded = np.asarray(embed_time(jnp.linspace(0.001, 1.0, 1000), WIDTH))
    assert embedded.shape == (1000, WIDTH)
    assert len(np.unique(embedded, axis=0)) == 1000


def test_drawn_times_are_those_of_the_paper() -> None:
    """Times lie in (0.001, 1] and have the mean of Beta(1.5, 1), which is 0.6."""
    noise, time = draw_noise_and_time(jax.random.key(0), (4096, 1, 1))
    assert 0.001 < float(time.min()) <= float(time.max()) <= 1.0
    # The standard deviation of Beta(1.5, 1) is 0.26: four standard errors of the mean.
    assert abs(float(time.mean()) - (0.6 * 0.999 + 0.001)) < 4 * 0.26 / 4096**0.5
    assert abs(float(noise.mean())) < 4 / 4096**0.5


def changed(batch: Batch, name: str, where: tuple, seed: int = 1) -> Batch:
    """Return the batch with other random content at a place."""
    array, rng = batch[name].copy(), np.random.default_rng(seed)
    if array.dtype == np.int32:
        array[where] = rng.integers(0, SPEC["vocab_size"], array[where].shape)
    else:
        array[where] = rng.uniform(-1, 1, array[where].shape)
    assert (array != batch[name]).any()
    return batch | {name: array}


MASKED = {
    "camera": (f"image/{CAMERAS[-1]}", (1,)),
    "prompt": ("tokenized_prompt", (1, slice(-2, None))),
}
SEEN = {
    "camera": (f"image/{CAMERAS[-1]}", (0,)),
    "prompt": ("tokenized_prompt", (1, slice(0, 2))),
    "state": ("state", (0,)),
    "noise": ("noise", (0, 0)),
}


@pytest.mark.parametrize(("name", "where"), MASKED.values(), ids=MASKED)
def test_masked_content_does_not_change_the_velocity(
    velocity: Callable[..., np.ndarray], name: str, where: tuple
) -> None:
    """Other content of an absent camera or of the prompt's padding changes no bit of the velocity."""
    batch = tiny_models.batch()
    assert velocity(changed(batch, name, where)).tobytes() == velocity(batch).tobytes()


@pytest.mark.parametrize(("name", "where"), MASKED.values(), ids=MASKED)
def test_masked_content_does_not_change_samples(
    sample_once: Callable[[Batch], np.ndarray], name: str, where: tuple
) -> None:
    """Masked content does not change a bit of the sampled actions: the cache holds it, but nothing attends to it."""
    batch = tiny_models.batch()
    assert sample_once(changed(batch, name, where)).tobytes() == sample_once(batch).tobytes()


@pytest.mark.parametrize(("name", "where"), SEEN.values(), ids=SEEN)
def test_visible_content_changes_the_velocity(velocity: Callable[..., np.ndarray], name: str, where: tuple) -> None:
    """Everything that is not masked matters, for its own sample and for no other."""
    batch, sample = tiny_models.batch(), where[0]
    before, after = velocity(batch), velocity(changed(batch, name, where))
    assert np.abs(after[sample] - before[sample]).max() > VELOCITY_ATOL
    np.testing.assert_allclose(after[1 - sample], before[1 - sample], atol=VELOCITY_ATOL)


def test_masking_a_camera_changes_the_velocity(velocity: Callable[..., np.ndarray]) -> None:
    """The mask of a present camera matters, not only its content."""
    batch, name = tiny_models.batch(), f"image_mask/{CAMERAS[0]}"
    assert np.abs(velocity(batch | {name: ~batch[name]}) - velocity(batch)).max() > VELOCITY_ATOL


def test_the_order_of_the_batch_does_not_matter(velocity: Callable[..., np.ndarray]) -> None:
    """Samples in the other order have their velocities in the other order."""
    batch = tiny_models.batch()
    swapped = velocity({name: array[::-1] for name, array in batch.items()})
    np.testing.assert_allclose(swapped[::-1], velocity(batch), atol=VELOCITY_ATOL)


def test_the_place_of_padding_does_not_matter(
    velocity: Callable[..., np.ndarray],
) -> None:
    """Positions count real tokens only, so padding may be anywhere in the prompt."""
    batch = tiny_models.batch()
    # The prompt's block attends in both directions, and rotary positions skip what is padded.
    order = np.array([0, 5, 1, 6, 2, 3, 4])
    moved = batch | {
        name: np.stack([batch[name][0], batch[name][1][order]])
        for name in ("tokenized_prompt", "tokenized_prompt_mask")
    }
    np.testing.assert_allclose(velocity(moved), velocity(batch), atol=VELOCITY_ATOL)


def test_cached_velocity_equals_the_full_one(
    velocity: Callable[..., np.ndarray], sample_once: Callable[[Batch], np.ndarray]
) -> None:
    """One Euler step through the cached prefix moves by the velocity of the full pass at time 1."""
    batch = tiny_models.batch()
    full = velocity(batch, np.ones(2, np.float32))
    np.testing.assert_allclose(batch["noise"] - sample_once(batch), full, atol=CACHE_ATOL)


def test_a_missing_camera_is_named() -> None:
    """An observation without one of the cameras raises an error with its name."""
    observation = tiny_models.observation(tiny_models.batch())
    images = {CAMERAS[0]: observation.images[CAMERAS[0]]}
    without = dataclasses.replace(observation, images=images)
    model = tiny_models.LORA.load(tiny_models.lora_params())
    with pytest.raises((KeyError, ValueError), match=CAMERAS[1]):
        model.embed_prefix(without)
