"""Faults in writing openpi's PyTorch layout: what gets lost on the way, and what is there too much."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_SCRIPT = f"{_OPENPI}/blob/15a9616/examples/convert_jax_model_to_pytorch.py"
_RULES = "layouts/torch_rules.py"
_LAYOUT = "layouts/openpi_pytorch.py"
_BITS = "pytorch.every_tensor_has_the_bits_of_the_checkpoint"
_STRICT = "pytorch.a_strict_reader_finds_exactly_its_names"
_ROUND_TRIP = "pytorch.round_trip_is_exact"
_MOVED = "moved = piece.transpose(self.order)"

FAULTS = (
    Fault(
        id="conversion_drops_adapters",
        bugs=("G1",),
        story="A LoRA checkpoint is converted as if it had no adapters, and the result acts like the base model.",
        evidence=f"{_OPENPI}/issues/958",
        patches=(
            Patch("convert.py", "[path for path in stored.leaves if is_adapter(path)]", "[]"),
            Patch("convert.py", "dict(stored.leaves)", "{p: x for p, x in stored.leaves.items() if not is_adapter(p)}"),
        ),
        caught_by=("pytorch.adapters_are_refused_with_the_way_out",),
    ),
    Fault(
        id="conversion_reads_family_from_path",
        bugs=("G3",),
        story="Whether a model is a pi05 is looked up in the name of its folder.",
        evidence=f"{_SCRIPT}#L293",
        patches=(
            Patch(
                "convert.py",
                "model = _without_adapters(config)",
                'name = "pi05" if "pi05" in str(path) else "pi0"\n'
                "    model = dataclasses.replace(_without_adapters(config), family=name)",
            ),
        ),
        caught_by=("pytorch.family_is_not_read_from_the_path", "pytorch.other_family_is_not_converted", _STRICT, _BITS),
    ),
    Fault(
        id="conversion_through_bfloat16",
        bugs=("G5",),
        story="Weights are loaded into a bfloat16 model first, so a float32 file holds bfloat16 precision.",
        evidence=f"{_SCRIPT}#L514-L523",
        patches=(
            Patch(
                "convert.py",
                "return rule.to_torch(self._held[rule.path][index])",
                'return rule.to_torch(self._held[rule.path][index].astype("bfloat16").astype(self.leaves[name].dtype))',
            ),
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
                "convert.py",
                "shape, dtype = stored.leaves[rule.path]",
                'shape, dtype = stored.leaves[rule.path].shape, np.dtype("float32")',
            ),
            Patch("convert.py", "fromkeys(self._windows[rule.path])", 'fromkeys(self._windows[rule.path], "float32")'),
        ),
        caught_by=("pytorch.stored_dtype_is_kept",),
    ),
    Fault(
        id="conversion_keeps_only_lm_head",
        bugs=("G7",),
        story="Of the tied token table the file has lm_head and no embed_tokens, which readers miss.",
        evidence=f"{_OPENPI}/issues/669",
        patches=(
            Patch(
                "convert.py",
                "for name, index in rule.pieces():",
                "for name, index in rule.pieces():\n"
                "                name = name.replace(openpi_pytorch.TABLE, openpi_pytorch.TIED_TABLE)",
            ),
            Patch(
                "convert.py",
                "table = self.leaves[openpi_pytorch.TABLE]",
                "table = self.leaves[openpi_pytorch.TIED_TABLE]",
            ),
        ),
        caught_by=(_STRICT, _BITS, "pytorch.family_is_not_read_from_the_path"),
    ),
    Fault(
        id="conversion_writes_tied_table_twice",
        story="The token table is written under both of its names, and openpi's reader calls one of them unexpected.",
        evidence="https://github.com/huggingface/safetensors/blob/v0.8.0/bindings/python/py_src/safetensors/torch.py",
        patches=(
            Patch(
                "convert.py",
                "table = self.leaves[openpi_pytorch.TABLE]",
                "table = self.leaves[openpi_pytorch.TIED_TABLE] = self.leaves[openpi_pytorch.TABLE]\n"
                "        self._pieces[openpi_pytorch.TIED_TABLE] = self._pieces[openpi_pytorch.TABLE]",
            ),
        ),
        caught_by=(_STRICT, "pytorch.family_is_not_read_from_the_path"),
    ),
    Fault(
        id="conversion_saves_random_head",
        bugs=("G8",),
        story="The action expert's head, which nothing uses, is saved as it was drawn, other numbers every time.",
        evidence=f"{_SCRIPT}#L384",
        patches=(
            Patch(
                "convert.py",
                "return np.zeros(*self.leaves[name])",
                "return np.random.default_rng().normal(size=self.leaves[name].shape).astype(self.leaves[name].dtype)",
            ),
        ),
        caught_by=("pytorch.conversion_repeats_byte_for_byte",),
    ),
    Fault(
        id="conversion_leaves_out_unused_head",
        story="The action expert's unused head is not written, and openpi refuses the file for it.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/models/model.py#L246",
        patches=(
            Patch("convert.py", "self.leaves[openpi_pytorch.UNUSED_HEAD] = Leaf(unused, table.dtype)", "del unused"),
        ),
        caught_by=(_STRICT, "pytorch.family_is_not_read_from_the_path"),
    ),
    Fault(
        id="conversion_gives_expert_a_token_table",
        bugs=("P10",),
        story="The action expert gets a token table, which openpi's model does not have.",
        evidence="https://github.com/ZibinDong/openpi_pytorch/issues/2",
        patches=(
            Patch(
                _LAYOUT,
                'UNUSED_HEAD = f"{_ROOT}.gemma_expert.lm_head.weight"',
                'UNUSED_HEAD = f"{_ROOT}.gemma_expert.model.embed_tokens.weight"',
            ),
        ),
        caught_by=(_STRICT, "pytorch.family_is_not_read_from_the_path"),
    ),
    Fault(
        id="conversion_keeps_first_kv_head",
        bugs=("G9",),
        story="Of several key/value heads the first is kept, and stands for all.",
        evidence=f"{_SCRIPT}#L199",
        patches=(
            Patch(
                _RULES,
                _MOVED,
                'moved = (piece[:1].repeat(len(piece), 0) if self.axes[0] == "K" else piece).transpose(self.order)',
            ),
        ),
        caught_by=(_BITS, _ROUND_TRIP),
    ),
    Fault(
        id="conversion_unpacks_no_fused_projection",
        bugs=("G10",),
        story="A model with as many key/value heads as heads has one fused projection, which is not expected.",
        evidence=f"{_SCRIPT}#L476-L503",
        patches=(Patch(_RULES, "if spec.num_kv_heads == spec.num_heads:", "if False:"),),
        caught_by=(_BITS, _ROUND_TRIP, "convert.recorded_sizes_count"),
    ),
    Fault(
        id="conversion_reverses_heads",
        story="The heads of q_proj are written from the last to the first.",
        evidence="mutation: reverses heads",
        patches=(
            Patch(_RULES, _MOVED, 'moved = (piece[::-1] if self.axes[:3] == "NDH" else piece).transpose(self.order)'),
        ),
        caught_by=(_BITS, _ROUND_TRIP),
    ),
)
