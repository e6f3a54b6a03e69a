"""Faults in reading openpi's PyTorch layout: names, axes, and files that a reader must refuse."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_SCRIPT = f"{_OPENPI}/blob/15a9616/examples/convert_jax_model_to_pytorch.py"
_RULES = "layouts/torch/rules.py"
_LAYOUT = "layouts/torch/openpi.py"
_BITS = "pytorch.every_tensor_has_the_bits_of_the_checkpoint"
_EITHER = "fit.either_name_of_the_tied_table_is_enough"
_ROUND_TRIP = "pytorch.round_trip_is_exact"
_MISFIT = "pytorch.what_does_not_fit_is_refused"
_FOUND = "rule.place(self._file.read(self._names[name]), found[index])"

MAPPING = (
    Fault(
        id="torch_o_proj_not_transposed",
        bugs=("G9",),
        story="o_proj is [heads x head_dim, width]; if that is square, only the numbers show a transpose.",
        evidence=f"{_SCRIPT}#L206-L214",
        patches=(Patch(_RULES, '"NHD->D(NH)", _names(name, "o")', '"NHD->(NH)D", _names(name, "o")'),),
        caught_by=(_BITS, _EITHER),
    ),
    Fault(
        id="torch_keys_and_values_swapped",
        story="k_proj is written and read as v_proj, and vice versa.",
        evidence="mutation: swaps k and v",
        patches=(Patch(_RULES, '_names(name, "k", "v")', '_names(name, "v", "k")'),),
        caught_by=(
            _BITS,
            _EITHER,
            "pytorch.wrappers_prefixes_are_recognised",
            "hugging_face.lands_leaf_by_leaf",
            "hugging_face.each_tensor_has_its_place",
        ),
    ),
    Fault(
        id="torch_gate_and_up_swapped",
        story="gate_proj is written and read as up_proj, and vice versa.",
        evidence="mutation: swaps gate and up",
        patches=(Patch(_RULES, '"gate", "up"', '"up", "gate"'),),
        caught_by=(_BITS, _EITHER, "golden.converted_checkpoint_has_the_loss"),
    ),
    Fault(
        id="torch_patches_turned",
        story="Height and width of the patch embedding are swapped, which square patches do not show.",
        evidence="mutation: transposes the convolution",
        patches=(Patch(_RULES, '"RSTD->DTRS"', '"RSTD->DTSR"'),),
        caught_by=(_BITS, _EITHER),
    ),
    Fault(
        id="torch_layers_sorted_as_strings",
        story="Layers are numbered in alphabetical order, so layer 10 becomes layer 2.",
        evidence="mutation: sorts layers.10 before layers.2",
        patches=(
            Patch(
                _RULES,
                "yield name.format(layer=layer[0] if layer else None), index",
                "yield name.format(layer=sorted(range(self.depth), key=str)[layer[0]] if layer else None), index",
            ),
        ),
        caught_by=(_BITS,),
    ),
    Fault(
        id="torch_one_added_to_norms",
        story="One is added to norm scales that are already stored without it.",
        evidence="mutation: folds the 1 of (1 + scale) into the weight",
        patches=(
            Patch(
                _LAYOUT, _FOUND, f'{_FOUND}\n            found[index] += np.array("norm/scale" in path, found.dtype)'
            ),
        ),
        caught_by=(
            _EITHER,
            _ROUND_TRIP,
            "fit.casts_exactly",
            "pytorch.wrappers_prefixes_are_recognised",
            "start.fills_a_model_with_adapters",
        ),
    ),
    Fault(
        id="torch_heads_reversed_in_reading",
        story="The heads of q_proj are read in reverse order.",
        evidence="mutation: reverses heads",
        patches=(
            Patch(
                _LAYOUT,
                _FOUND,
                f'{_FOUND}\n            found[index] = found[index][:: -1 if rule.axes[:3] == "NDH" else 1]',
            ),
        ),
        caught_by=(_EITHER, _ROUND_TRIP, "golden.converted_checkpoint_has_the_loss"),
    ),
)

READING = (
    Fault(
        id="torch_missing_tensors_left_to_chance",
        bugs=("P1", "F6"),
        story="A missing tensor is not an error, and its part of the parameter is uninitialized memory.",
        evidence="https://github.com/huggingface/lerobot/issues/4577",
        patches=(
            Patch(
                _LAYOUT,
                "            if name not in self._names:\n",
                "            if name not in self._names:\n                continue\n            if False:\n",
            ),
            Patch(
                _LAYOUT,
                "dtypes = {self._found(name).dtype for name, _ in rule.pieces()}",
                "dtypes = {self._found(name).dtype for name, _ in rule.pieces() if name in self._names}"
                " or {np.dtype(np.float32)}",
            ),
            Patch(_LAYOUT, f"            {_FOUND}", f"            if name in self._names:\n                {_FOUND}"),
        ),
        caught_by=("misfit.missing_tensor_is_refused", "misfit.missing_shard_is_refused"),
    ),
    Fault(
        id="torch_shards_unknown",
        story="A pi0 is expected in one file, so what transformers saves in shards cannot be loaded.",
        evidence="https://github.com/sgl-project/sglang/issues/32279",
        patches=(
            Patch(
                _LAYOUT,
                "    with open_tensors(path) as opened:\n",
                '    with open_tensors(path / "model.safetensors" if path.is_dir() else path) as opened:\n',
            ),
        ),
        caught_by=("fit.shards_fill_the_model",),
    ),
    Fault(
        id="torch_first_dtype_wins",
        story="A parameter gets the dtype of its first layer, so a float32 layer among bfloat16 ones loses bits.",
        evidence="https://github.com/google/tunix/blob/main/tunix/models/safetensors_loader.py#L97-L126",
        patches=(
            Patch(_LAYOUT, "dtype = np.promote_types(dtype, other)", "dtype = min(dtype, other, key=str)"),
            Patch(_LAYOUT, "np.empty(leaf.shape, dtype or leaf.dtype)", "np.empty(leaf.shape, leaf.dtype)"),
        ),
        caught_by=("fit.casts_exactly",),
    ),
    Fault(
        id="torch_lm_head_not_taken",
        bugs=("G7",),
        story="A file with the token table as lm_head, as openpi writes it, is refused for lacking embed_tokens.",
        evidence="https://github.com/huggingface/lerobot/issues/2151",
        patches=(Patch(_LAYOUT, "        if TABLE not in self._names:\n", "        if TABLE in self._names:\n"),),
        caught_by=(
            _EITHER,
            "pytorch.wrappers_prefixes_are_recognised",
            "start.fills_a_model_with_adapters",
        ),
    ),
    Fault(
        id="torch_tied_conflict_ignored",
        bugs=("G7",),
        story="Two different token tables are not compared, and one of them is used.",
        evidence="https://github.com/huggingface/lerobot/issues/2307",
        patches=(
            Patch(
                _LAYOUT,
                "if words := tied_apart(self._file, self._names[TABLE], self._names[TIED_TABLE]):",
                'if words := "":',
            ),
        ),
        caught_by=("misfit.conflicting_tied_tables_are_refused",),
    ),
    Fault(
        id="torch_compiled_names_unknown",
        story="The prefix that torch.compile adds to every name is not recognized.",
        evidence="mutation: knows DataParallel's prefix only",
        patches=(Patch("layouts/torch/openpi_names.py", '_PREFIXES = ("_orig_mod.", ', "_PREFIXES = ("),),
        caught_by=("pytorch.wrappers_prefixes_are_recognised",),
    ),
    Fault(
        id="torch_unmerged_adapters_ignored",
        bugs=("G1",),
        story="Adapters next to the weights count as unused tensors.",
        evidence=f"{_OPENPI}/issues/840",
        patches=(
            Patch(_LAYOUT, "[raw for name, raw in names.items() if looks_like_an_adapter(name)]", "[]"),
            Patch("loading/match.py", "looks_like_an_adapter(e.path)", "False"),
        ),
        caught_by=("misfit.adapters_for_a_model_without_are_refused",),
    ),
    Fault(
        id="torch_family_not_looked_at",
        bugs=("P2", "C10"),
        story="A pi0 file for a pi05 model is refused with missing tensors, without naming the families.",
        evidence="https://github.com/huggingface/lerobot/issues/4577",
        patches=(Patch(_LAYOUT, "if family and family != model.family:", "if False:"),),
        caught_by=("misfit.the_other_family_is_named",),
    ),
    Fault(
        id="torch_shapes_compared_by_size",
        bugs=("C11",),
        story="A transposed tensor passes, because it has the same number of values.",
        evidence="mutation: compares sizes, not shapes",
        patches=(
            Patch(
                _LAYOUT,
                "elif self._found(name).shape != expected or",
                "elif np.prod(self._found(name).shape) != np.prod(expected) or",
            ),
        ),
        caught_by=("misfit.another_shape_is_refused",),
    ),
    Fault(
        id="torch_deeper_layers_dropped",
        story="Layers that the model does not have are silently left out.",
        evidence="mutation: reads as many layers as the model has",
        patches=(Patch(_LAYOUT, "if layer and depth is not None and int(layer[1]) >= depth:", "if False:"),),
        caught_by=(_MISFIT,),
    ),
    Fault(
        id="torch_integers_cast",
        bugs=("C6",),
        story="Quantized weights are cast to floats as if their codes were numbers.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/weight_loaders.py#L90",
        patches=(
            Patch(_LAYOUT, "or self._found(name).dtype not in FLOATS", "or False"),
            Patch("layouts/torch/not_weights.py", "if leaf.dtype not in FLOATS", "if False"),
        ),
        caught_by=("misfit.what_is_no_weight_is_refused",),
    ),
    Fault(
        id="torch_last_of_two_names_wins",
        story="If two tensors differ only in their prefix, the last one wins.",
        evidence="mutation: writes names into a dictionary without checking",
        patches=(Patch(_LAYOUT, "if name in names:", "if False:"),),
        caught_by=(_MISFIT,),
    ),
    Fault(
        id="torch_strangers_vanish",
        bugs=("P10",),
        story="Tensors that no module reads are silently left out.",
        evidence="https://github.com/ZibinDong/openpi_pytorch/issues/2",
        patches=(Patch(_LAYOUT, "if name not in used}", "if False}"),),
        caught_by=("report.calls_dropped_what_the_model_lacks",),
    ),
    Fault(
        id="torch_adapters_expected",
        bugs=("C9",),
        story="A LoRA model cannot start from a PyTorch checkpoint, which never has adapters.",
        evidence=f"{_OPENPI}/issues/283",
        patches=(
            Patch(
                "loading/loaders.py",
                "load_from(source, model, is_adapter,",
                "load_from(source, model, lambda p: False,",
            ),
        ),
        caught_by=("start.fills_a_model_with_adapters",),
    ),
)

FAULTS = MAPPING + READING
