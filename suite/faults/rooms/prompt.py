"""Faults that show in the language model alone: its masks, its dtype."""

from suite.faults.fault import Fault, Patch

_MASK = "return (block[None, :] <= block[:, None]) & real[:, None, :] & real[:, :, None]"

FAULTS = (
    Fault(
        id="padding_is_attended_to",
        story="Real tokens attend to padded ones: the mask only says who may ask, not who may be asked.",
        evidence="mutation: one of the two axes of a mask",
        patches=(Patch("model/pi0.py", _MASK, _MASK.replace(" & real[:, None, :]", "")),),
        caught_by=("prompt.padding_does_not_matter", "forward.what_is_masked_does_not_matter"),
    ),
    Fault(
        id="every_token_is_a_block",
        story="Every token starts a block of its own, so tokens attend to earlier ones alone, as in a language model.",
        evidence="mutation: a causal mask in place of PaliGemma's prefix mask (arXiv:2407.07726)",
        patches=(Patch("model/pi0.py", "    block = jnp.cumsum(starts)\n", "    block = jnp.arange(len(starts))\n"),),
        caught_by=("prompt.tokens_attend_to_later_ones", "prompt.has_the_logits_of_the_paper"),
    ),
    Fault(
        id="language_model_computes_in_float32",
        story="The language model computes in float32 whatever dtype it is given: twice the memory, other numbers.",
        evidence="mutation: a dtype that is kept and not used",
        patches=(
            Patch(
                "model/gemma.py",
                "xs = [None if x is None else x.astype(self.dtype) for x in xs]",
                "xs = [None if x is None else x.astype(jnp.float32) for x in xs]",
            ),
            Patch("model/gemma.py", "return self.embedder(tokens).astype(self.dtype)", "return self.embedder(tokens)"),
        ),
        caught_by=("prompt.bfloat16_is_near_float32",),
    ),
    Fault(
        id="rotary_angles_in_bfloat16",
        story="Rotary frequencies are kept in bfloat16 like the weights: far positions turn by other angles.",
        evidence="https://github.com/huggingface/transformers/pull/29285",
        patches=(
            Patch(
                "model/gemma.py",
                "radians = positions[..., None, None] / wavelengths",
                "radians = positions[..., None, None] / wavelengths.astype(jnp.bfloat16)",
            ),
        ),
        caught_by=("prompt.long_prompt_has_the_logits_of_the_paper",),
    ),
    Fault(
        id="sample_reads_the_one_before_it",
        story="The mask of the first prompt is used for every prompt of a batch.",
        evidence="mutation: an index into a batch",
        patches=(Patch("model/pi0.py", _MASK, _MASK.replace("real[:, None, :]", "real[:1, None, :]")),),
        caught_by=("prompt.prompt_is_read_alone", "prompt.padding_does_not_matter"),
    ),
    Fault(
        id="rotary_positions_of_the_table",
        story="The rotary angles are looked up by a token's place in the sequence, whatever positions are given.",
        evidence="mutation: a table of angles that is cut to the length of the sequence",
        patches=(
            Patch(
                "model/gemma.py",
                "radians = positions[..., None, None] / wavelengths",
                "radians = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])[..., None, None] / wavelengths",
            ),
        ),
        caught_by=("prompt.padding_may_lie_anywhere",),
    ),
)
