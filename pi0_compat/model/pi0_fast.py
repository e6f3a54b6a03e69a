"""pi0-FAST: one Gemma and SigLIP that write actions as tokens, one after the other (arXiv:2501.09747).

Axes: B batch, L prompt length (tokens of the actions included), P image tokens, S = P + L, D width, V vocabulary.

Numerics follow openpi ``models/pi0_fast.py`` and ``models/gemma_fast.py`` at 15a9616: the rotated queries stay in
float32, keys are cast to the compute dtype, and logits have the wider dtype of the last hidden state and the token
table. Tokens go in and come out. openpi writes a prompt as ``Task: <lower case>, State: <256 bins>;`` and a line break,
after a BOS, and the actions as ``Action: ``, FAST's ids counted down from the end of the vocabulary, ``|`` and an EOS.
"""

from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from pi0_compat.model.gemma import KVCache
from pi0_compat.model.pi0 import Observation, PaliGemma
from pi0_compat.model.pi0_spec import Pi0Spec

# openpi does not mask a camera that the robot lacks, but passes a black image: a checkpoint has never seen a mask.
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")
EOS = 1
# What sampling follows: ``trained``, what checkpoints were trained and served with; ``openpi``, its errors too; or
# ``consecutive``, the positions of training.
Decoding: TypeAlias = Literal["trained", "openpi", "consecutive"]


class Prefix(NamedTuple):
    """What sampling keeps of images and prompt.

    Attributes:
      logits: [B, V], of the first token to come.
      cache: keys and values of all layers [layers, B, steps + S, K, H]; the first ``steps`` are room for new tokens.
      visible: bool[B, S], what new tokens attend to.
      length: int[B], the number of tokens in the prefix.
    """

    logits: jax.Array
    cache: KVCache
    visible: jax.Array
    length: jax.Array


class _Written(NamedTuple):
    """What has been written, and what is needed to go on.

    Attributes:
      number: int32 scalar, the tokens of each row so far.
      key: draws the next token.
      token: int32[B], the last one.
      ended: bool[B], whether a row needs no more.
      tokens: int32[B, steps], zeros where nothing is written yet.
    """

    number: jax.Array
    key: jax.Array
    token: jax.Array
    ended: jax.Array
    tokens: jax.Array


class Pi0Fast(nnx.Module):
    """The model of the family pi0_fast. Its parameter tree has openpi's paths, shapes and dtypes.

    The constructor makes parameters of the right shapes, all without meaningful values. ``Pi0Config.create`` and
    ``Pi0Config.load`` return a model with values, and construct it without allocating any.
    """

    def __init__(self, spec: Pi0Spec) -> None:
        assert spec.action_expert is None, spec.family
        self.spec = spec
        # flax's layers insist on them, and all that is drawn is thrown away.
        self.PaliGemma = PaliGemma(spec, rngs=nnx.Rngs(0))

    def embed_prefix(self, observation: Observation) -> tuple[jax.Array, jax.Array]:
        """Return tokens [B, S, D] of all cameras and the prompt, and bool[B, S], false where absent or padded."""
        return self.PaliGemma.embed(observation, FAST_CAMERAS)

    def compute_loss(self, key: jax.Array, observation: Observation, *, train: bool = False) -> jax.Array:
        """Return the mean cross-entropy of each sample's tokens, float32[B].

        The mean is over the tokens of ``token_loss_mask``. The first token never counts: nothing predicts it.

        Args:
          key: decides what training drops.
          observation: a batch, with ``token_ar_mask`` and ``token_loss_mask``; the actions are tokens of its prompt.
          train: whether the spec's dropout applies.
        """
        if observation.token_loss_mask is None:
            raise ValueError("the observation has no token_loss_mask, which the loss of pi0_fast needs")
        dropout_key = jax.random.fold_in(key, 3) if train and self.spec.dropout else None
        logp = jax.nn.log_softmax(self._predict(observation, dropout_key)[:, :-1], axis=-1)
        targets = observation.tokenized_prompt[:, 1:]
        counted = observation.token_loss_mask[:, 1:]
        logp = jnp.take_along_axis(logp, targets[..., None], axis=-1)[..., 0].astype(jnp.float32)
        return -jnp.sum(logp * counted, axis=-1) / jnp.maximum(jnp.sum(counted, axis=-1), 1)

    def logits(self, observation: Observation) -> jax.Array:
        """Return what follows each token of the prompt, [B, L, V], in one pass over images and tokens.

        Positions are counted by index, padding included, as in training.

        Args:
          observation: a batch, with ``token_ar_mask``.
        """
        return self._predict(observation, None)

    def sample_tokens(
        self,
        key: jax.Array,
        observation: Observation,
        *,
        max_decoding_steps: int = 256,
        temperature: float = 0.0,
        decoding: Decoding = "trained",
    ) -> jax.Array:
        """Write tokens after the prompt until every row has ended, at most ``max_decoding_steps``.

        Images and prompt are run once; keys and values are cached.

        Args:
          key: draws the tokens where ``temperature`` is above 0; the same key draws what openpi draws.
          observation: a batch whose ``token_ar_mask`` is 0 throughout.
          max_decoding_steps: the largest number of new tokens.
          temperature: 0 takes the likeliest token; else one is drawn from the softmax of logits / ``temperature``.
          decoding: with ``trained``, the default, the first new token has position n + 1 after n tokens, as openpi has
            it (openpi #705): released checkpoints are served so. With ``consecutive`` it has position n, as in
            training. With ``openpi``, positions are those of ``trained``, and two errors of openpi are followed too: a
            row that has ended goes on until all rows end in the same step, and where m tokens of absent cameras are
            masked, new tokens see all but the first m of images and prompt in place of all but those.

        Returns:
          int32[B, max_decoding_steps]; an EOS ends a row, and zeros follow.
        """
        if decoding not in get_args(Decoding):
            raise ValueError(f"decoding={decoding!r}; expected one of {', '.join(get_args(Decoding))}")
        prefix = self._run_prefix(observation, max_decoding_steps, like_openpi=decoding == "openpi")
        first = prefix.length + (decoding != "consecutive")
        rows = len(prefix.length)

        def write(written: _Written, logits: jax.Array) -> _Written:
            key, token_key = jax.random.split(written.key)
            token = _choose(logits, temperature, token_key)
            ended = token == EOS
            if decoding != "openpi":
                token = jnp.where(written.ended, 0, token)
                ended |= written.ended
            tokens = jax.lax.dynamic_update_slice(written.tokens, token[:, None], (0, written.number))
            return _Written(written.number + 1, key, token, ended, tokens)

        def goes_on(carry: tuple[_Written, KVCache]) -> jax.Array:
            written, _ = carry
            return (written.number < max_decoding_steps) & ~jnp.all(written.ended)

        def step(carry: tuple[_Written, KVCache]) -> tuple[_Written, KVCache]:
            written, cache = carry
            slot = written.number - 1
            logits, cache = self._next(written.token, first + slot, slot, cache, prefix.visible)
            return write(written, logits), cache

        tokens = jnp.zeros((rows, max_decoding_steps), jnp.int32)
        nothing = _Written(jnp.int32(0), key, jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool), tokens)
        # The first token needs no step of its own, and nothing follows the last.
        written, _ = jax.lax.while_loop(goes_on, step, (write(nothing, prefix.logits), prefix.cache))
        return written.tokens

    def _predict(self, observation: Observation, dropout_key: jax.Array | None) -> jax.Array:
        """Return the logits [B, L, V] after each token of the prompt."""
        if (starts := observation.token_ar_mask) is None:
            raise ValueError("the observation has no token_ar_mask, which pi0_fast needs")
        x, real = self.embed_prefix(observation)
        length = observation.tokenized_prompt.shape[1]
        starts = jnp.pad(starts, ((0, 0), (x.shape[1] - length, 0)))
        (out,), _ = self.PaliGemma.llm(
            [x],
            # By index, absent cameras and padding included; pi0 counts what is real.
            positions=jnp.arange(x.shape[1])[None],
            mask=row_mask(real, starts),
            conds=[None],
            dropout_key=dropout_key,
        )
        assert out is not None
        return self.PaliGemma.llm.embedder.decode(out[:, -length:])

    def _run_prefix(self, observation: Observation, steps: int, *, like_openpi: bool) -> Prefix:
        """Run images and prompt once, and make room for ``steps`` tokens."""
        x, real = self.embed_prefix(observation)
        length = jnp.sum(real, axis=1)
        index = jnp.arange(x.shape[1])[None]
        end = jnp.max(jnp.where(real, index + 1, 0), axis=1, keepdims=True)
        llm, sizes = self.PaliGemma.llm, self.spec.paligemma
        room = jnp.zeros((sizes.depth, len(x), steps, sizes.num_kv_heads, sizes.head_dim), llm.dtype)
        mask = real[:, None, :] & real[:, :, None]
        if like_openpi:
            # What a masked token attends to is spread over the room too, and in openpi new tokens see such tokens.
            mask = jnp.pad(mask, ((0, 0), (0, 0), (steps, 0)))
        (out,), cache = llm(
            [x],
            positions=jnp.cumsum(real, axis=1) - 1,
            mask=mask,
            conds=[None],
            cache=(room, room) if like_openpi else None,
        )
        last = jnp.take_along_axis(out, end[:, :, None] - 1, axis=1)
        visible = (end - length[:, None] <= index) & (index < end) if like_openpi else real
        k, v = (jnp.concatenate([room, part], axis=2) for part in cache)
        return Prefix(llm.embedder.decode(last)[:, 0], (k, v), visible, length)

    def _next(
        self, token: jax.Array, position: jax.Array, slot: jax.Array, cache: KVCache, visible: jax.Array
    ) -> tuple[jax.Array, KVCache]:
        """Return the logits [B, V] after a token of each row, and the cache with that token.

        Args:
          token: int[B].
          position: int[B], where it stands.
          slot: int scalar, where it goes in the cache; those before are written.
          cache: keys and values of all layers.
          visible: bool[B, S], what is attended to of images and prompt.
        """
        llm, rows = self.PaliGemma.llm, len(token)
        written = jnp.arange(cache[0].shape[2] - visible.shape[1]) < slot
        seen = [jnp.broadcast_to(written, (rows, len(written))), visible, jnp.ones((rows, 1), bool)]
        (x,), new = llm(
            [llm.embed(token[:, None])],
            positions=position[:, None],
            mask=jnp.concatenate(seen, axis=1)[:, None, :],
            conds=[None],
            cache=cache,
        )
        k, v = (
            jax.lax.dynamic_update_slice(old, part, (0, 0, slot, 0, 0)) for old, part in zip(cache, new, strict=True)
        )
        return llm.embedder.decode(x)[:, 0], (k, v)


def row_mask(real: jax.Array, starts: jax.Array) -> jax.Array:
    """Return which token attends to which, bool[B, S, S]: real ones to real ones of their own and of earlier blocks.

    Args:
      real: bool[B, S], false where padded.
      starts: int[B, S], 1 where a new block starts.
    """
    block = jnp.cumsum(starts, axis=1)
    return (block[:, None, :] <= block[:, :, None]) & real[:, None, :] & real[:, :, None]


def _choose(logits: jax.Array, temperature: float, key: jax.Array) -> jax.Array:
    """Return a token of each row, int32[B], from logits [B, V]."""
    if temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return jax.random.categorical(key, logits / temperature, axis=-1).astype(jnp.int32)
