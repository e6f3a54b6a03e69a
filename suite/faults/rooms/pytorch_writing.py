"""Faults in writing openpi's PyTorch layout: what gets lost, and what is written by mistake."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_SCRIPT = f"{_OPENPI}/blob/15a9616/examples/convert_jax_model_to_pytorch.py"
_RULES = "layouts/torch/rules.py"
_LAYOUT = "layouts/torch/openpi.py"
_BITS = "pytorch.every_tensor_has_the_bits_of_the_checkpoint"
_STRICT = "pytorch.a_strict_reader_finds_exactly_its_names"
_ROUND_TRIP = "pytorch.round_trip_is_exact"
_AS_LM_HEAD = 'Rule(TOKEN_TABLE, "VD->VD", (TIED_TABLE,))'
_MOVED = "moved = piece.transpose(self.order)"

FAULTS = (
    Fault(
        id="conversion_drops_adapters",
        bugs=("G1",),
        story="A LoRA checkpoint is converted without its adapters and behaves like the base model.",
        evidence=f"{_OPENPI}/issues/958",
        patches=(
            Patch(
                "checkpoints/convert.py",
                "        unused = unused_in(job.source.leaves)\n",
                "        unused = unused_in(job.source.leaves)\n"
                "        job = job._replace(source=Chosen(job.source, lambda path: not is_adapter(path)))\n",
            ),
        ),
        caught_by=("pytorch.adapters_are_refused_with_the_way_out",),
    ),
    Fault(
        id="conversion_reads_family_from_path",
        bugs=("G3",),
        story="Whether a model is a pi05 is read from the name of its folder.",
        evidence=f"{_SCRIPT}#L293",
        patches=(
            Patch(
                "checkpoints/convert.py",
                "    target = TARGETS[writable(layout)]\n",
                "    target = TARGETS[writable(layout)]\n"
                '    config = dataclasses.replace(config, family="pi05" if "pi05" in str(path) else "pi0")\n',
            ),
        ),
        caught_by=("pytorch.family_is_not_read_from_the_path", "pytorch.other_family_is_not_converted", _STRICT, _BITS),
    ),
    Fault(
        id="conversion_through_bfloat16",
        bugs=("G5",),
        story="Weights pass through a bfloat16 model, so a float32 file has bfloat16 precision.",
        evidence=f"{_SCRIPT}#L514-L523",
        patches=(
            Patch(
                "layouts/write.py",
                "        meant = Summed(Counted(job.source, advance))\n",
                '        meant = Summed(Cast(Cast(Counted(job.source, advance), "bfloat16"), "float32"))\n',
            ),
            Patch("layouts/write.py", "import Summed\n", "import Cast, Summed\n"),
        ),
        caught_by=(_BITS, _ROUND_TRIP, "pytorch.stored_dtype_is_kept", "pytorch.folded_checkpoint_converts"),
    ),
    Fault(
        id="conversion_restores_as_float32",
        bugs=("G5",),
        story="A checkpoint in half precision is read as float32 and written with twice the bytes.",
        evidence=f"{_SCRIPT}#L438",
        patches=(
            Patch(
                "checkpoints/convert.py",
                "        source, lost = folded, folded.lost\n",
                '        source, lost = folded, folded.lost\n    source = Cast(source, "float32")\n',
            ),
        ),
        caught_by=("pytorch.stored_dtype_is_kept",),
    ),
    Fault(
        id="conversion_keeps_only_lm_head",
        bugs=("G7",),
        story="The tied token table is written only as lm_head, and readers miss embed_tokens.",
        evidence=f"{_OPENPI}/issues/669",
        patches=(
            Patch(
                "layouts/torch/openpi.py",
                'Rule(TOKEN_TABLE, "VD->VD", (TABLE,))',
                _AS_LM_HEAD,
            ),
            Patch("layouts/torch/openpi.py", "        self._settle_tied_table()\n", ""),
        ),
        caught_by=(_STRICT, _BITS, "pytorch.family_is_not_read_from_the_path"),
    ),
    Fault(
        id="conversion_writes_tied_table_twice",
        story="The token table is written under both names, and openpi's reader finds one unexpected.",
        evidence="https://github.com/huggingface/safetensors/blob/v0.8.0/bindings/python/py_src/safetensors/torch.py",
        patches=(
            Patch(
                "layouts/torch/write_folder.py",
                "    for rule in rules:\n        yield from rule.tensors(",
                '    for rule in [*rules, *(r._replace(names=(TIED,)) for r in rules if "embed" in r.names[0])]:\n'
                "        yield from rule.tensors(",
            ),
            Patch(
                "layouts/torch/write_folder.py",
                "    leaves |= zeros or {}\n",
                "    leaves |= zeros or {}\n"
                '    leaves |= {TIED: leaf for name, leaf in leaves.items() if name.endswith("embed_tokens.weight")}\n',
            ),
            Patch(
                "layouts/torch/write_folder.py",
                "_METADATA =",
                'TIED = "paligemma_with_expert.paligemma.lm_head.weight"\n_METADATA =',
            ),
        ),
        caught_by=(_STRICT, "pytorch.family_is_not_read_from_the_path"),
    ),
    Fault(
        id="conversion_saves_random_head",
        bugs=("G8",),
        story="The action expert's unused head is saved with its random values, which change every time.",
        evidence=f"{_SCRIPT}#L384",
        patches=(
            Patch(
                "layouts/torch/write_folder.py",
                "        for rows in cut(np.broadcast_to(leaf.dtype.type(0), leaf.shape)):\n",
                "        for rows in cut(np.random.default_rng().normal(size=leaf.shape).astype(leaf.dtype)):\n",
            ),
        ),
        caught_by=("pytorch.conversion_repeats_byte_for_byte",),
    ),
    Fault(
        id="conversion_leaves_out_unused_head",
        story="The action expert's unused head is not written, so openpi refuses the file.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/models/model.py#L246",
        patches=(
            Patch(
                "layouts/write.py",
                "openpi_pytorch.rules(model), config, unused)",
                "openpi_pytorch.rules(model), config)",
            ),
        ),
        caught_by=(_STRICT, "pytorch.family_is_not_read_from_the_path"),
    ),
    Fault(
        id="conversion_gives_expert_a_token_table",
        bugs=("P10",),
        story="The action expert gets a token table that openpi's model does not have.",
        evidence="https://github.com/ZibinDong/openpi_pytorch/issues/2",
        patches=(
            Patch(
                "paths.py",
                'UNUSED_HEAD = f"{TORCH_ROOT}.gemma_expert.lm_head.weight"',
                'UNUSED_HEAD = f"{TORCH_ROOT}.gemma_expert.model.embed_tokens.weight"',
            ),
        ),
        caught_by=(_STRICT, "pytorch.family_is_not_read_from_the_path"),
    ),
    Fault(
        id="conversion_keeps_first_kv_head",
        bugs=("G9",),
        story="Only the first of several key/value heads is kept, and stands for all.",
        evidence=f"{_SCRIPT}#L199",
        patches=(
            Patch(
                _RULES,
                _MOVED,
                'piece = piece[:1].repeat(len(piece), 0) if self.axes[0] == "K" else piece\n        ' + _MOVED,
            ),
        ),
        caught_by=(_BITS, _ROUND_TRIP),
    ),
    Fault(
        id="conversion_unpacks_no_fused_projection",
        bugs=("G10",),
        story="With as many key/value heads as heads, the projection is fused, which is not handled.",
        evidence=f"{_SCRIPT}#L476-L503",
        patches=(Patch(_RULES, "if spec.num_kv_heads == spec.num_heads:", "if False:"),),
        caught_by=(_BITS, _ROUND_TRIP, "convert.recorded_sizes_count"),
    ),
    Fault(
        id="conversion_reverses_heads",
        story="The heads of q_proj are written in reverse order.",
        evidence="mutation: reverses heads",
        patches=(Patch(_RULES, _MOVED, 'piece = piece[::-1] if self.axes[:3] == "NDH" else piece\n        ' + _MOVED),),
        caught_by=(_BITS, _ROUND_TRIP),
    ),
)
