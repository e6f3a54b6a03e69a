"""Faults in folding a checkpoint, which is done a slab at a time, and in its adapters as a PEFT adapter."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_LORA = f"{_OPENPI}/blob/15a9616/src/openpi/models/lora.py"
_PEFT = "convert.peft_modules_add_what_the_adapters_add"

FAULTS = (
    Fault(
        id="folded_checkpoint_keeps_its_adapters",
        bugs=("G2",),
        story="The adapters stay in the checkpoint beside the weights that they were folded into.",
        evidence="docs/bugs.md#g2: a merge that walks the top level and removes nothing",
        patches=(
            Patch(
                "lora/fold_stream.py",
                "{path: leaf for path, leaf in source.leaves.items() if not is_adapter(path)}",
                "dict(source.leaves)",
            ),
        ),
        caught_by=("fold_checkpoint.loads_without_lora",),
    ),
    Fault(
        id="folded_checkpoint_is_rounded_to_its_old_dtype",
        bugs=("G15",),
        story="A bfloat16 checkpoint that is folded into float32 is rounded to bfloat16 on the way.",
        evidence=f"{_OPENPI}/pull/960",
        patches=(
            Patch(
                "lora/fold_stream.py", "folded = add(w, delta, dtype)", "folded = add(w, delta, w.dtype).astype(dtype)"
            ),
        ),
        caught_by=("fold_checkpoint.of_bfloat16_is_formed_in_float32", "fold_checkpoint.tells_what_rounding_took"),
    ),
    Fault(
        id="folded_checkpoint_is_cast_first",
        bugs=("G15",),
        story="Weight and delta are cast to the asked dtype and added there: small deltas vanish.",
        evidence=f"{_OPENPI}/pull/960",
        patches=(
            Patch(
                "lora/fold_stream.py",
                "folded = add(w, delta, dtype)",
                "folded = w.astype(dtype) + delta.astype(dtype)",
            ),
        ),
        caught_by=("fold_checkpoint.is_rounded_once",),
    ),
    Fault(
        id="folded_checkpoint_hides_what_rounding_took",
        story="A fold of a checkpoint says that nothing was lost, whatever was.",
        evidence="mutation: a sum that is never added to",
        patches=(
            Patch(
                "lora/fold_stream.py", "norms.missing += _square(missing_of(delta, w, folded))", "norms.missing += 0"
            ),
        ),
        caught_by=("fold_checkpoint.tells_what_rounding_took",),
    ),
    Fault(
        id="checkpoint_folded_with_another_rank",
        bugs=("E9",),
        story="A checkpoint is folded by a config of another rank, and so with another scale.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/checkpoints.py#L84",
        patches=(
            Patch(
                "lora/fold_stream.py",
                "            require_rank(adapter, source.leaves[adapter.a].shape[-1], spec)\n",
                "",
            ),
        ),
        caught_by=("fold_checkpoint.what_cannot_be_folded_leaves_nothing",),
    ),
    Fault(
        id="peft_adapter_is_of_the_first_head",
        bugs=("A5",),
        story="Behind attention openpi sums lora_b over the heads; PEFT is given the first head's alone.",
        evidence=f"{_LORA}#L67",
        patches=(Patch("layouts/torch/peft.py", "b.sum(axis=0, dtype=np.float64)", "b[0]"),),
        caught_by=(_PEFT,),
    ),
    Fault(
        id="peft_alpha_does_not_grow_with_the_rank",
        bugs=("P5",),
        story="An adapter for each head becomes one of as many times the rank, with the alpha of one: too weak.",
        evidence="https://github.com/huggingface/lerobot/pull/3573",
        patches=(Patch("layouts/torch/peft.py", "spec.scale * len(lora_a)", "spec.alpha"),),
        caught_by=(_PEFT,),
    ),
    Fault(
        id="peft_blocks_are_one_matrix",
        story="The matrices of heads are written side by side, and not as blocks: every head gets the deltas of all.",
        evidence="mutation: merged heads without zeros between them",
        patches=(
            Patch("layouts/torch/peft.py", "blocks[head, :, head] = b[head].T", "blocks[head] = b[head].T[:, None]"),
        ),
        caught_by=(_PEFT,),
    ),
    Fault(
        id="peft_adapter_read_for_every_head",
        bugs=("A5",),
        story="PEFT's lora_B, which is a sum over heads, is given to every head, and summed again.",
        evidence=f"{_LORA}#L67",
        patches=(Patch("layouts/torch/peft.py", "first[0] = tensor.T", "first[...] = tensor.T"),),
        caught_by=("golden.converted_adapter_has_the_loss",),
    ),
)
