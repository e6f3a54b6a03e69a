"""Faults in pi0-FAST: positions, masks, the mean of the loss, the end of a row, the tied table, the family."""

from suite.faults.fault import Fault, Patch

_FILE = "model/pi0_fast.py"
_OPENPI = "https://github.com/Physical-Intelligence/openpi/blob/15a9616/src/openpi/models"

FAULTS = (
    Fault(
        id="fast_positions_skip_padding",
        story="The loss counts positions over real tokens only, as pi0's does, and not by index.",
        evidence=f"mutation of {_OPENPI}/pi0_fast.py#L214",
        patches=(Patch(_FILE, "positions=jnp.arange(x.shape[1])[None],", "positions=jnp.cumsum(real, axis=1) - 1,"),),
        caught_by=("fast.has_openpis_loss", "fast.has_openpis_logits"),
    ),
    Fault(
        id="fast_loss_is_a_mean_over_the_batch",
        story="The loss of every sample is the mean over all tokens of the batch, as lerobot's is.",
        evidence="https://github.com/huggingface/lerobot/pull/4052",
        patches=(
            Patch(
                _FILE,
                "return -jnp.sum(logp * counted, axis=-1) / jnp.maximum(jnp.sum(counted, axis=-1), 1)",
                "return -jnp.sum(logp * counted, axis=-1) * len(logp) / jnp.maximum(jnp.sum(counted), 1)",
            ),
        ),
        caught_by=("fast.has_openpis_loss",),
    ),
    Fault(
        id="fast_prompt_is_causal",
        story="Every token starts a block of its own, so the prompt is read from left to right.",
        evidence="mutation: the mask of a plain language model",
        patches=(
            Patch(_FILE, "block = jnp.cumsum(starts, axis=1)", "block = jnp.cumsum(jnp.ones_like(starts), axis=1)"),
        ),
        caught_by=("fast.has_openpis_logits", "fast.has_openpis_loss", "fast.takes_openpis_training_steps"),
    ),
    Fault(
        id="fast_cameras_of_pi0",
        story="The cameras are taken in another order.",
        evidence="mutation: the order of a list",
        patches=(
            Patch(_FILE, '("base_0_rgb", "base_1_rgb", "wrist_0_rgb")', '("base_0_rgb", "wrist_0_rgb", "base_1_rgb")'),
        ),
        caught_by=("fast.has_openpis_prefix_tokens",),
    ),
    Fault(
        id="fast_first_token_stands_next",
        story="The first token stands at the next position, at which released checkpoints were never served.",
        evidence="https://github.com/Physical-Intelligence/openpi/issues/705",
        patches=(Patch(_FILE, 'first = prefix.length + (decoding != "consecutive")', "first = prefix.length"),),
        caught_by=("fast.writes_openpis_tokens", "fast.decoding_equals_one_pass"),
    ),
    Fault(
        id="fast_cache_forgets_what_was_written",
        story="A token sees images, prompt and itself, but not the tokens written before it.",
        evidence="mutation: a mask that stops at the prompt",
        patches=(
            Patch(_FILE, "cache[0].shape[2] - visible.shape[1]) < slot", "cache[0].shape[2] - visible.shape[1]) < 0"),
        ),
        caught_by=("fast.decoding_equals_one_pass",),
    ),
    Fault(
        id="fast_row_that_ended_goes_on",
        story="A row that ended goes on until all rows end in the same step, and its actions get garbage at the end.",
        evidence=f"{_OPENPI}/pi0_fast.py#L288",
        patches=(Patch(_FILE, "                token = jnp.where(written.ended, 0, token)\n", ""),),
        caught_by=("fast.row_that_ended_stays_ended",),
    ),
    Fault(
        id="fast_stops_with_the_first_row",
        story="Writing stops as soon as one row has ended, so the others lose the rest of their actions.",
        evidence="mutation: any in place of all",
        patches=(Patch(_FILE, "~jnp.all(written.ended)", "~jnp.any(written.ended)"),),
        caught_by=("fast.row_that_ended_stays_ended", "fast.row_alone_is_a_row_of_a_batch"),
    ),
    Fault(
        id="fast_prompt_length_of_the_first_row",
        story="All rows continue at the end of the first row's prompt.",
        evidence="mutation: one length for a whole batch",
        patches=(Patch(_FILE, "first = prefix.length +", "first = prefix.length[:1].repeat(len(prefix.length)) +"),),
        caught_by=("fast.row_alone_is_a_row_of_a_batch",),
    ),
    Fault(
        id="fast_padding_is_seen",
        story="New tokens attend to padding and to masked cameras.",
        evidence=f"{_OPENPI}/pi0_fast.py#L260: a masked camera is seen in place of the first one",
        patches=(
            Patch(
                _FILE, "if like_openpi else real\n        k, v", "if like_openpi else jnp.ones_like(real)\n        k, v"
            ),
        ),
        caught_by=("fast.what_is_masked_does_not_matter", "fast.decoding_equals_one_pass"),
    ),
    Fault(
        id="fast_decodes_with_the_table_upside_down",
        story="The output layer is not the token table that was loaded.",
        evidence="mutation: an output layer that is not tied",
        patches=(
            Patch(
                "model/gemma.py",
                "return jnp.dot(x, self.input_embedding[...].T)",
                "return jnp.dot(x, jnp.zeros_like(self.input_embedding[...]).T)",
            ),
        ),
        caught_by=("fast.decodes_with_the_table_that_was_loaded", "fast.has_openpis_logits"),
    ),
    Fault(
        id="fast_fresh_table_is_zero",
        story="A fresh token table is zero, so all logits are, and the loss is the logarithm of the vocabulary.",
        evidence=f"{_OPENPI}/gemma_fast.py#L109",
        patches=(
            Patch(
                "model/initialization.py",
                'f"{_LLM}/embedder/input_embedding": _normal(0.01),',
                'f"{_LLM}/embedder/input_embedding": _all(0),',
            ),
        ),
        caught_by=("fast.fresh_token_table_is_not_zero",),
    ),
    Fault(
        id="fast_takes_a_pi0",
        story="A pi0 goes into a pi0-FAST without a word: its action expert and projections are dropped.",
        evidence="https://github.com/Physical-Intelligence/openpi/issues/672",
        patches=(Patch("loading/match.py", 'if model.family == "pi0_fast" and (other', "if not found and (other"),),
        caught_by=("fast.pi0_is_not_taken_for_a_pi0_fast",),
    ),
    Fault(
        id="fast_fold_leaves_the_feed_forward_out",
        story="A fold adds the adapters of attention alone.",
        evidence="mutation: one group of sites",
        patches=(
            Patch(
                "lora/fold.py",
                "    spec, a, b = _spec_of(adapter, config), adapters[adapter.a], adapters[adapter.b]\n",
                "    spec, a, b = _spec_of(adapter, config), adapters[adapter.a], adapters[adapter.b]\n"
                '    b = b * (adapter.site.group == "attn")\n',
            ),
        ),
        caught_by=("fast.folded_model_has_the_same_logits",),
    ),
    Fault(
        id="fast_zero_table_passes",
        story="A model into which nothing was loaded was saved, and is loaded without a word.",
        evidence=f"{_OPENPI}/gemma_fast.py#L109",
        patches=(Patch("loading/loaders.py", "not table[0].any() and not table.any()", "not table.size"),),
        caught_by=("fast.zero_token_table_is_mentioned",),
    ),
)
