"""Faults in reading Hugging Face's PaliGemma: names, layers, heads, halves, dtypes, and files of other models."""

from suite.faults.fault import Fault, Patch

_LAYOUT = "layouts/torch/hugging_face.py"
_RULES = "layouts/torch/rules.py"
_COPY = "            rule.place(self._tensors.read(name), array[index])\n"
_CONVERTER = "https://github.com/Physical-Intelligence/openpi/blob/15a9616/examples/convert_jax_model_to_pytorch.py"
_MISSING_IS_FRESH = (
    Patch(
        _LAYOUT,
        "        _require_tensors(tensors, self._rules)\n",
        "        there = tensors.leaves.keys()\n"
        "        self._rules = {p: r for p, r in self._rules.items() if all(n in there for n, _ in r.pieces())}\n",
    ),
    Patch(
        "loading/loaders.py", "source, model, lambda path: not in_paligemma(path), seed", "source, model, bool, seed"
    ),
)
_EVERY_VALUE = (
    "hugging_face.lands_leaf_by_leaf",
    "fit.casts_exactly",
    "fit.fills_the_model",
    "fit.either_name_of_the_tied_table_is_enough",
    "hugging_face.added_tokens_are_not_loaded",
    "safetensors.packing_means_nothing",
    "safetensors.files_of_the_cache_are_read",
    "mapping.formats_agree",
)

FAULTS = (
    Fault(
        id="hugging_face_gate_and_up_swapped",
        story="gate_proj and up_proj are swapped, so gelu is applied to the wrong half.",
        evidence="A mutation: both tensors have the same shape.",
        patches=(Patch(_RULES, '"gate", "up"), spec.depth)', '"up", "gate"), spec.depth)'),),
        caught_by=(*_EVERY_VALUE, "hugging_face.each_tensor_has_its_place"),
    ),
    Fault(
        id="hugging_face_norms_exchanged",
        story="The norms before attention and before the feed-forward layer are swapped.",
        evidence="A mutation: Hugging Face calls the second one post_attention_layernorm.",
        patches=(
            Patch(
                _RULES,
                '(("pre_attention_norm", "input_layernorm"), ("pre_ffw_norm", "post_attention_layernorm"))',
                '(("pre_attention_norm", "post_attention_layernorm"), ("pre_ffw_norm", "input_layernorm"))',
            ),
        ),
        caught_by=(*_EVERY_VALUE, "hugging_face.each_tensor_has_its_place"),
    ),
    Fault(
        id="hugging_face_norm_scale_plus_one",
        story="One is added to every RMSNorm scale, as if the model did not add it.",
        evidence="https://github.com/AI-Hypercomputer/maxtext scale_rmsnorm: right for its norms, wrong for openpi's.",
        patches=(
            Patch(_LAYOUT, _COPY + "        return array\n", _COPY + '        return array + ("norm/scale" in path)\n'),
        ),
        caught_by=(*_EVERY_VALUE, "hugging_face.each_tensor_has_its_place"),
    ),
    Fault(
        id="hugging_face_heads_reversed",
        story="The query heads are reversed, but those of the output projection are not.",
        evidence="A mutation: every shape fits.",
        patches=(
            Patch(
                _LAYOUT, _COPY, _COPY + '            array[index] = array[index][:: -1 if "/q_einsum" in path else 1]\n'
            ),
        ),
        caught_by=(*_EVERY_VALUE, "hugging_face.heads_keep_their_order"),
    ),
    Fault(
        id="hugging_face_only_the_first_kv_head",
        bugs=("G9",),
        story="The first of several key/value heads is used for all.",
        evidence=f"{_CONVERTER}#L199",
        patches=(
            Patch(
                _LAYOUT,
                _COPY,
                _COPY + '            array[index] = array[index][:1] if "/kv_einsum" in path else array[index]\n',
            ),
        ),
        caught_by=("fit.fills_the_model", "hugging_face.heads_keep_their_order"),
    ),
    Fault(
        id="hugging_face_square_projection_transposed",
        bugs=("G9",),
        story="The image encoder's output projection, which is square, is transposed.",
        evidence=f"{_CONVERTER}#L208",
        patches=(Patch(_RULES, '{attention}/out/kernel", "NHD->D(NH)"', '{attention}/out/kernel", "NHD->(NH)D"'),),
        caught_by=_EVERY_VALUE,
    ),
    Fault(
        id="hugging_face_layers_sorted_as_text",
        story="Layers are stacked in alphabetical order, in which layer 10 comes before layer 2.",
        evidence="A mutation: nothing shows with ten layers or less.",
        patches=(
            Patch(
                _LAYOUT,
                "for name, index in rule.pieces():\n            rule.place",
                "for (_, index), (name, _) in zip(rule.pieces(), sorted(rule.pieces())):\n            rule.place",
            ),
        ),
        caught_by=("fit.fills_the_model",),
    ),
    Fault(
        id="hugging_face_layers_shifted",
        story="Every layer lands one place later, and the last one comes first.",
        evidence="A mutation: layers counted from one.",
        patches=(
            Patch(
                _LAYOUT,
                _COPY + "        return array\n",
                _COPY + "        return np.roll(array, 1, axis=0) if rule.depth else array\n",
            ),
        ),
        caught_by=(*_EVERY_VALUE, "hugging_face.each_tensor_has_its_place"),
    ),
    Fault(
        id="hugging_face_further_layers_ignored",
        story="Layers beyond the model's depth are left out, so a deeper model is truncated and loads.",
        evidence="A mutation: a loader that asks for the layers that it needs and for no other.",
        patches=(Patch(_LAYOUT, "return rule if rule.depth is None else rule._replace(depth=depth)", "return rule"),),
        caught_by=("hugging_face.other_layers_are_refused",),
    ),
    Fault(
        id="hugging_face_only_old_names",
        bugs=("F6", "C3"),
        story="The names since transformers 4.52 are unknown, and parameters not found stay fresh.",
        evidence="https://github.com/huggingface/lerobot/issues/1406",
        patches=(
            *_MISSING_IS_FRESH,
            Patch(_LAYOUT, "for naming in NAMINGS.values()", "for naming in list(NAMINGS.values())[:1]"),
            Patch(_LAYOUT, "    if not _names(rules) & found.keys():", "    if not found:"),
            Patch(
                _LAYOUT,
                "    if not names:\n",
                "    if not names:\n        names = [min(tensors.leaves)]\n    if not there:\n",
            ),
        ),
        caught_by=(
            *_EVERY_VALUE,
            "hugging_face.each_tensor_has_its_place",
            "report.calls_dropped_what_the_model_lacks",
            "start.what_is_lacking_equals_init",
            "misfit.missing_tensor_is_refused",
            "hugging_face.unequal_layers_are_refused",
            "hugging_face.other_sizes_are_named",
        ),
    ),
    Fault(
        id="hugging_face_missing_is_fresh",
        bugs=("C3", "C5", "P4"),
        story="A missing tensor leaves its parameter fresh, without an error.",
        evidence="https://github.com/lucidrains/pi-zero-pytorch/issues/1",
        patches=_MISSING_IS_FRESH,
        caught_by=(
            "misfit.missing_tensor_is_refused",
            "hugging_face.other_layers_are_refused",
        ),
    ),
    Fault(
        id="hugging_face_conflict_ignored",
        bugs=("G7",),
        story="embed_tokens silently wins over a different lm_head.",
        evidence="https://github.com/Physical-Intelligence/openpi/issues/669",
        patches=(Patch(_LAYOUT, "if copy and (words := tied_apart(", "if copy == '' and (words := tied_apart("),),
        caught_by=("misfit.conflicting_tied_tables_are_refused",),
    ),
    Fault(
        id="hugging_face_head_is_not_enough",
        bugs=("G7",),
        story="A file with the tied table only as lm_head, as safetensors' writer leaves it, is refused.",
        evidence="https://github.com/Physical-Intelligence/openpi/issues/699",
        patches=(Patch(_LAYOUT, "for tied in (name, naming.head) if", "for tied in (name,) if"),),
        caught_by=(
            "fit.either_name_of_the_tied_table_is_enough",
            "misfit.conflicting_tied_tables_are_refused",
        ),
    ),
    Fault(
        id="hugging_face_rows_from_the_end",
        story="The last rows of a table with added tokens are used, so each token gets another's embedding.",
        evidence="A mutation of what transformers' converter does: 64 rows of noise behind 257152 tokens.",
        patches=(
            Patch(
                _LAYOUT,
                "return self._tensors.read(self._embedding)[: self._rows]",
                "return self._tensors.read(self._embedding)[-self._rows :]",
            ),
        ),
        caught_by=_EVERY_VALUE,
    ),
    Fault(
        id="hugging_face_first_dtype_for_all",
        story="A stack of layers takes the dtype of one layer, and the others are rounded to it.",
        evidence="https://github.com/google/tunix/blob/main/tunix/models/safetensors_loader.py#L97-L126",
        patches=(
            Patch(_LAYOUT, "if codes or len(dtypes) == 1:", "if dtypes:"),
            Patch(_LAYOUT, "np.empty(leaf.shape, dtype or leaf.dtype)", "np.empty(leaf.shape, leaf.dtype)"),
        ),
        caught_by=("fit.casts_exactly",),
    ),
    Fault(
        id="hugging_face_codes_become_floats",
        bugs=("C6",),
        story="Int8 codes in one layer of a stack are cast to floats with the rest.",
        evidence="https://github.com/Physical-Intelligence/openpi/blob/15a9616/src/openpi/training/weight_loaders.py#L33",
        patches=(
            Patch(_LAYOUT, "codes = [dtype for dtype in dtypes if dtype not in _FLOATS]", "codes = []"),
            Patch("layouts/torch/not_weights.py", "if leaf.dtype not in FLOATS", "if False"),
        ),
        caught_by=("misfit.what_is_no_weight_is_refused",),
    ),
    Fault(
        id="hugging_face_unequal_layers_crash",
        bugs=("C11",),
        story="Layers of different shapes fail in numpy with an error that names no file or parameter.",
        evidence="A mutation: the first layer's shape is taken for all.",
        patches=(Patch(_LAYOUT, "if len(shapes) > 1:", "if not shapes:"),),
        caught_by=("hugging_face.unequal_layers_are_refused",),
    ),
    Fault(
        id="hugging_face_unused_unreported",
        story="Unused tensors are missing from the report.",
        evidence="A mutation of docs/bugs.md#rule-5: loaded, initialized and dropped leaves are all leaves.",
        patches=(
            Patch(
                _LAYOUT,
                "return leaves | {name: leaf for name, leaf in self._tensors.leaves.items() if name not in used}",
                "return leaves",
            ),
        ),
        caught_by=("report.calls_dropped_what_the_model_lacks",),
    ),
    Fault(
        id="hugging_face_adapters_dropped",
        bugs=("C1", "G1"),
        story="PEFT adapters next to the weights are dropped, and their fine-tuning is lost.",
        evidence="https://github.com/Physical-Intelligence/openpi/issues/958",
        patches=(
            Patch(_LAYOUT, "sorted(filter(looks_like_an_adapter, found))", "[]"),
            Patch("loading/match.py", "or looks_like_an_adapter(e.path))", "or is_adapter(e.path))"),
        ),
        caught_by=("misfit.adapters_for_a_model_without_are_refused",),
    ),
)
