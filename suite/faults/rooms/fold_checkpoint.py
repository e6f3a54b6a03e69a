"""Faults in folding a checkpoint slab by slab, and in converting its adapters to PEFT."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_LORA = f"{_OPENPI}/blob/15a9616/src/openpi/models/lora.py"
_PEFT = "convert.peft_modules_add_what_the_adapters_add"

FAULTS = (
    Fault(
        id="folded_checkpoint_keeps_its_adapters",
        bugs=("G2",),
        story="Adapters stay in the checkpoint next to the weights they were folded into.",
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
        id="what_is_not_folded_is_rounded",
        story="A fold writes also those weights through half precision that have no adapter.",
        evidence="mutation: one path for all parameters",
        patches=(
            Patch(
                "lora/fold_stream.py",
                "else self._source.blocks(path)",
                'else (part.astype("float16").astype(part.dtype) for part in self._source.blocks(path))',
            ),
            Patch("lora/fold_stream.py", "else self._source.origin(path)", "else None"),
        ),
        caught_by=("fold_checkpoint.keeps_what_has_no_adapter",),
    ),
    Fault(
        id="folded_checkpoint_is_rounded_to_its_old_dtype",
        bugs=("G15",),
        story="A bfloat16 checkpoint folded to float32 is rounded to bfloat16 on the way.",
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
        story="Weight and delta are cast to the output dtype before they are added: small deltas vanish.",
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
        story="Folding a checkpoint always reports that rounding lost nothing.",
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
        story="A checkpoint is folded with a config of another rank, and therefore with another scale.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/checkpoints.py#L84",
        patches=(
            Patch(
                "lora/fold_stream.py",
                "            require_rank(adapter, source.leaves[adapter.a].shape[-1], spec)\n",
                "",
            ),
        ),
        caught_by=(
            "fold_checkpoint.what_cannot_be_folded_is_named",
            "fold_checkpoint.what_cannot_be_folded_leaves_nothing",
        ),
    ),
    Fault(
        id="peft_adapter_is_of_the_first_head",
        bugs=("A5",),
        story="openpi sums lora_b over the heads after attention, but PEFT gets only the first head's.",
        evidence=f"{_LORA}#L67",
        patches=(Patch("layouts/torch/peft.py", "b.sum(axis=0, dtype=np.float64)", "b[0]"),),
        caught_by=(_PEFT,),
    ),
    Fault(
        id="peft_alpha_does_not_grow_with_the_rank",
        bugs=("P5",),
        story="Adapters of all heads become one of a larger rank but the same alpha, which is too weak.",
        evidence="https://github.com/huggingface/lerobot/pull/3573",
        patches=(Patch("layouts/torch/peft.py", "spec.scale * len(lora_a)", "spec.alpha"),),
        caught_by=(_PEFT,),
    ),
    Fault(
        id="peft_blocks_are_one_matrix",
        story="The heads' matrices are concatenated instead of block-diagonal: each head gets all deltas.",
        evidence="mutation: merged heads without zeros between them",
        patches=(
            Patch("layouts/torch/peft.py", "blocks[head, :, head] = b[head].T", "blocks[head] = b[head].T[:, None]"),
        ),
        caught_by=(_PEFT,),
    ),
    Fault(
        id="peft_adapter_read_for_every_head",
        bugs=("A5",),
        story="PEFT's lora_B, a sum over heads, is given to every head and summed again.",
        evidence=f"{_LORA}#L67",
        patches=(Patch("layouts/torch/peft_reading.py", "first[0] = tensor.T", "first[...] = tensor.T"),),
        caught_by=("golden.converted_adapter_has_the_loss",),
    ),
)
