"""pi0 and pi05: a vision-language-action model trained by flow matching (arXiv:2410.24164, arXiv:2504.16054).

Axes: B batch, A action horizon, T and S token lengths, D width.

Time runs as in openpi ``models/pi0.py`` at 15a9616 (and against the paper): 1 is noise, 0 is the data, so ``x_t = t *
noise + (1 - t) * actions`` and the model predicts the velocity ``noise - actions``. The same key draws the same noise
and time as openpi. Images come in at the model's resolution: resizing and augmentation belong to the data pipeline.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pi0_compat.model.gemma import Gemma
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.siglip import Siglip

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
# Periods, in units of flow-matching time, of the sine-cosine embedding of the time.
MIN_PERIOD, MAX_PERIOD = 4e-3, 4.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Observation:
    """What the robot observes, for a batch of B.

    Attributes:
      images: camera -> float[B, size, size, 3] in [-1, 1]; all of ``CAMERAS``, for pi0-FAST of its own.
      image_masks: camera -> bool[B], false where the image is absent.
      state: float[B, action_dim]; pi05 and pi0-FAST have it in the prompt.
      tokenized_prompt: int[B, max_token_len].
      tokenized_prompt_mask: bool[B, max_token_len], false where padded.
      token_ar_mask: int[B, max_token_len], for pi0-FAST alone: 1 where a token starts a new attention block, as the
        tokens of the actions do, 0 where it attends to all of the block before, as the prompt does.
      token_loss_mask: bool[B, max_token_len], for pi0-FAST alone: true where a token counts in the loss.
    """

    images: dict[str, jax.Array]
    image_masks: dict[str, jax.Array]
    state: jax.Array
    tokenized_prompt: jax.Array
    tokenized_prompt_mask: jax.Array
    token_ar_mask: jax.Array | None = None
    token_loss_mask: jax.Array | None = None


class PaliGemma(nnx.Module):
    """The vision encoder, and the language model with the action expert, if there is one."""

    def __init__(self, spec: Pi0Spec, *, rngs: nnx.Rngs) -> None:
        adarms = (False, spec.family == "pi05")[: len(spec.experts)]
        self.llm = Gemma(
            spec.experts,
            vocab_size=spec.vocab_size,
            adarms=adarms,
            dtype=spec.dtype,
            dropout=spec.dropout,
            remat=spec.remat,
            float32_queries=spec.family == "pi0_fast",
        )
        self.img = Siglip(
            spec.siglip,
            image_size=spec.image_size,
            out_width=spec.paligemma.width,
            dtype=spec.dtype,
            remat=spec.remat,
            rngs=rngs,
        )

    def embed(self, observation: Observation, cameras: Sequence[str]) -> tuple[jax.Array, jax.Array]:
        """Return tokens [B, S, D] of these cameras and the prompt, and bool[B, S], false where absent or padded."""
        images = jnp.stack([observation.images[camera] for camera in cameras], axis=1)
        present = jnp.stack([observation.image_masks[camera] for camera in cameras], axis=1)
        batch, number, *size = images.shape
        image_tokens = self.img(images.reshape(batch * number, *size))
        image_mask = jnp.repeat(present, image_tokens.shape[1], axis=1)
        image_tokens = image_tokens.reshape(batch, -1, image_tokens.shape[-1])
        prompt_tokens = self.llm.embed(observation.tokenized_prompt)
        tokens = jnp.concatenate([image_tokens, prompt_tokens], axis=1)
        return tokens, jnp.concatenate([image_mask, observation.tokenized_prompt_mask], axis=1)


class Pi0(nnx.Module):
    """The model of the families pi0 and pi05. Its parameter tree has openpi's paths, shapes and dtypes.

    The constructor makes parameters of the right shapes, all without meaningful values. ``Pi0Config.create`` and
    ``Pi0Config.load`` return a model with values, and construct it without allocating any.
    """

    def __init__(self, spec: Pi0Spec) -> None:
        assert spec.action_expert, spec.family
        self.spec = spec
        # flax's layers insist on them, and all that is drawn is thrown away.
        rngs = nnx.Rngs(0)
        width = spec.action_expert.width
        self.PaliGemma = PaliGemma(spec, rngs=rngs)
        self.action_in_proj = nnx.Linear(spec.action_dim, width, rngs=rngs)
        if spec.family == "pi05":
            self.time_mlp_in = nnx.Linear(width, width, rngs=rngs)
            self.time_mlp_out = nnx.Linear(width, width, rngs=rngs)
        else:
            self.state_proj = nnx.Linear(spec.action_dim, width, rngs=rngs)
            self.action_time_mlp_in = nnx.Linear(2 * width, width, rngs=rngs)
            self.action_time_mlp_out = nnx.Linear(width, width, rngs=rngs)
        self.action_out_proj = nnx.Linear(width, spec.action_dim, rngs=rngs)

    def embed_prefix(self, observation: Observation) -> tuple[jax.Array, jax.Array]:
        """Return tokens [B, S, D] of all cameras and the prompt, and bool[B, S], false where absent or padded."""
        return self.PaliGemma.embed(observation, CAMERAS)

    def embed_suffix(
        self, state: jax.Array, noisy_actions: jax.Array, time: jax.Array
    ) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        """Embed the tokens of the action expert.

        Args:
          state: float[B, action_dim]; pi05 ignores it and has it in the prompt.
          noisy_actions: float[B, A, action_dim].
          time: float[B] in (0, 1].

        Returns:
          tokens [B, T, D], the adaRMS conditioning [B, D] (pi05) or None, and bool[T], true where a new attention
          block starts.
        """
        action_tokens = self.action_in_proj(noisy_actions)
        time_emb = embed_time(time, action_tokens.shape[-1])
        new_block = jnp.arange(action_tokens.shape[1]) == 0
        if self.spec.family == "pi05":
            cond = nnx.swish(self.time_mlp_out(nnx.swish(self.time_mlp_in(time_emb))))
            return action_tokens, cond, new_block
        time_tokens = jnp.broadcast_to(time_emb[:, None, :], action_tokens.shape)
        mixed = self.action_time_mlp_in(jnp.concatenate([action_tokens, time_tokens], axis=-1))
        action_tokens = self.action_time_mlp_out(nnx.swish(mixed))
        state_token = self.state_proj(state)[:, None, :]
        tokens = jnp.concatenate([state_token, action_tokens], axis=1)
        return tokens, None, jnp.concatenate([jnp.ones(1, bool), new_block])

    def compute_loss(
        self,
        key: jax.Array,
        observation: Observation,
        actions: jax.Array,
        *,
        noise: jax.Array | None = None,
        time: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Return the flow-matching loss of every action, float32[B, A].

        Args:
          key: draws ``noise`` and ``time`` where they are not given, and what training drops.
          observation: a batch.
          actions: float[B, A, action_dim].
          noise: float[B, A, action_dim]; by default drawn from a standard normal.
          time: float[B] in (0, 1]; by default drawn as ``draw_noise_and_time`` does.
          train: whether the spec's dropout applies.
        """
        drawn_noise, drawn_time = draw_noise_and_time(key, actions.shape)
        noise = drawn_noise if noise is None else noise
        time = drawn_time if time is None else time
        t = time[:, None, None]
        # Not one of the keys that noise and time are drawn from.
        dropout_key = jax.random.fold_in(key, 3) if train and self.spec.dropout else None
        velocity = self.velocity(observation, t * noise + (1 - t) * actions, time, dropout_key)
        return jnp.mean(jnp.square(velocity - (noise - actions)), axis=-1)

    def velocity(
        self,
        observation: Observation,
        noisy_actions: jax.Array,
        time: jax.Array,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Predict the velocity in one pass over prefix and suffix together.

        Args:
          observation: a batch.
          noisy_actions: float[B, A, action_dim].
          time: float[B] in (0, 1].
          dropout_key: decides what is dropped; None drops nothing.

        Returns:
          float[B, A, action_dim].
        """
        prefix, prefix_mask = self.embed_prefix(observation)
        suffix, cond, new_block = self.embed_suffix(observation.state, noisy_actions, time)
        real = jnp.concatenate([prefix_mask, jnp.ones(suffix.shape[:2], bool)], axis=1)
        starts = jnp.concatenate([jnp.zeros(prefix.shape[1], bool), new_block])
        positions = jnp.cumsum(real, axis=1) - 1
        (_, out), _ = self.PaliGemma.llm(
            [prefix, suffix],
            positions=positions,
            mask=block_mask(real, starts),
            conds=[None, cond],
            dropout_key=dropout_key,
        )
        return self._to_velocity(out)

    def sample_actions(
        self,
        key: jax.Array,
        observation: Observation,
        *,
        num_steps: int = 10,
        noise: jax.Array | None = None,
    ) -> jax.Array:
        """Sample actions by Euler steps from noise (time 1) to data (time 0).

        The prefix is run once; its keys and values are cached and every step attends to them.

        Args:
          key: draws ``noise`` where it is not given.
          observation: a batch.
          num_steps: the number of steps.
          noise: float[B, A, action_dim]; by default drawn from a standard normal.

        Returns:
          float[B, A, action_dim], in the normalized units of training.
        """
        prefix, prefix_mask = self.embed_prefix(observation)
        no_starts = jnp.zeros(prefix.shape[1], bool)
        positions = jnp.cumsum(prefix_mask, axis=1) - 1
        mask = block_mask(prefix_mask, no_starts)
        _, cache = self.PaliGemma.llm([prefix, None], positions=positions, mask=mask, conds=[None, None])
        if noise is None:
            shape = (prefix.shape[0], self.spec.action_horizon, self.spec.action_dim)
            noise = jax.random.normal(key, shape)
        step = -1.0 / num_steps

        def euler(_: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            actions, time = carry
            velocity = self._cached_velocity(observation.state, actions, time, prefix_mask, cache)
            return actions + step * velocity, time + step

        # The time is accumulated step by step, as openpi does, to end on the same float32 values.
        return jax.lax.fori_loop(0, num_steps, euler, (noise, jnp.float32(1.0)))[0]

    def _cached_velocity(
        self,
        state: jax.Array,
        noisy_actions: jax.Array,
        time: jax.Array,
        prefix_mask: jax.Array,
        cache: tuple[Any, ...],
    ) -> jax.Array:
        batch = noisy_actions.shape[0]
        suffix, cond, new_block = self.embed_suffix(state, noisy_actions, jnp.broadcast_to(time, batch))
        real = jnp.ones(suffix.shape[:2], bool)
        to_prefix = jnp.broadcast_to(prefix_mask[:, None, :], (*suffix.shape[:2], prefix_mask.shape[1]))
        mask = jnp.concatenate([to_prefix, block_mask(real, new_block)], axis=-1)
        positions = jnp.sum(prefix_mask, axis=1)[:, None] + jnp.cumsum(real, axis=1) - 1
        (_, out), _ = self.PaliGemma.llm(
            [None, suffix], positions=positions, mask=mask, conds=[None, cond], cache=cache
        )
        return self._to_velocity(out)

    def _to_velocity(self, out: jax.Array) -> jax.Array:
        return self.action_out_proj(out[:, -self.spec.action_horizon :])


def draw_noise_and_time(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Draw noise and times for the loss.

    The same key draws what openpi draws; it spends the first of three keys on image augmentation.

    Args:
      key: the key of a step.
      shape: [B, A, action_dim], the shape of the actions.

    Returns:
      Standard normal noise of that shape, and times float[B] in (0.001, 1], denser near the noise: Beta(1.5, 1).
    """
    _, noise_key, time_key = jax.random.split(key, 3)
    time = jax.random.beta(time_key, 1.5, 1, shape[:1]) * 0.999 + 0.001
    return jax.random.normal(noise_key, shape), time


def embed_time(time: jax.Array, width: int) -> jax.Array:
    """Return the sine-cosine embedding [B, width] of times [B]; ``width`` is even."""
    periods = MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** jnp.linspace(0.0, 1.0, width // 2)
    # Outer product in full precision: an accelerator's default would round the phases away.
    phases = jnp.einsum("B,D->BD", time, 1.0 / periods * 2 * jnp.pi, precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([jnp.sin(phases), jnp.cos(phases)], axis=-1)


def block_mask(real: jax.Array, starts: jax.Array) -> jax.Array:
    """Return which token attends to which, bool[B, T, T]: real ones to real ones of their own and of earlier blocks.

    Args:
      real: bool[B, T], false where padded.
      starts: bool[T], true where a new block starts.
    """
    block = jnp.cumsum(starts)
    return (block[None, :] <= block[:, None]) & real[:, None, :] & real[:, :, None]
