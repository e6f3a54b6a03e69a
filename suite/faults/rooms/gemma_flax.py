"""Faults in loading Google's official Gemma for flax as PaliGemma's language model."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_GEMMA = "https://github.com/google-deepmind/gemma/blob/main/gemma"
_LAYOUT = "layouts/gemma_flax.py"
_LOADERS = "weight_loaders.py"
_STACK = "return np.stack(in_order) if _is_stacked(path) else np.asarray(in_order[0])"

FAULTS = (
    Fault(
        id="gemma_layers_sorted_as_strings",
        story="Layers are stacked in the alphabetical order of their names, so layer 10 follows layer 1.",
        evidence="mutation: sorts layer_10 before layer_2",
        patches=(
            Patch(
                _LAYOUT,
                "sorted(self._places[path].items())",
                "sorted(self._places[path].items(), key=lambda place: str(place[0]))",
            ),
        ),
        caught_by=("fit.fills_the_model",),
    ),
    Fault(
        id="gemma_flat_form_unknown",
        story="The flat form's mlp weights, one level deeper than in the nested form, are not recognized.",
        evidence=f"{_GEMMA}/gm/ckpts/_compat.py",
        patches=(Patch(_LAYOUT, 'return name.removesuffix("/w") if "/mlp/" in name else name', "return name"),),
        caught_by=(
            "fit.casts_exactly",
            "start.what_is_lacking_equals_init",
            "report.calls_dropped_what_the_model_lacks",
        ),
    ),
    Fault(
        id="gemma_keys_and_values_swapped",
        story="The halves of kv_einsum are swapped.",
        evidence="mutation: swaps k and v",
        patches=(
            Patch(
                _LAYOUT,
                _STACK,
                "return np.stack([x[::-1] if 'kv_einsum' in path else x for x in in_order]) if _is_stacked(path) "
                "else np.asarray(in_order[0])",
            ),
        ),
        caught_by=("fit.fills_the_model", "fit.casts_exactly"),
    ),
    Fault(
        id="gemma_one_added_to_norms",
        story="One is added to norm scales that are already stored without it.",
        evidence="mutation: folds the 1 of (1 + scale) into the weight, as maxtext does for its own layout",
        patches=(
            Patch(
                _LAYOUT,
                _STACK,
                "return (np.stack(in_order) if _is_stacked(path) else np.asarray(in_order[0])) + "
                "np.array(path.endswith('/scale'), in_order[0].dtype)",
            ),
        ),
        caught_by=("fit.fills_the_model", "fit.casts_exactly"),
    ),
    Fault(
        id="gemma_bfloat16_read_as_float16",
        story="Every two-byte number is read as float16.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/weight_loaders.py#L56",
        bugs=("C7",),
        patches=(
            Patch(
                _LAYOUT,
                "arrays = restore_leaves(self._stored, dict.fromkeys(self._names(path), dtype))",
                "arrays = restore_leaves(self._stored, dict.fromkeys(self._names(path)))\n"
                "            arrays = {n: x.view('float16') if x.itemsize == 2 else x for n, x in arrays.items()}",
            ),
        ),
        caught_by=("fit.casts_exactly",),
    ),
    Fault(
        id="gemma_missing_layer_closed_up",
        story="The existing layers are stacked, so a gap shifts all later layers down by one.",
        evidence="mutation: stacks without checking the numbers",
        patches=(Patch(_LAYOUT, "        if number not in layers\n", "        if False\n"),),
        caught_by=("gemma_flax.missing_layer_is_refused_by_name",),
    ),
    Fault(
        id="gemma_layers_not_compared",
        story="Layers of different shapes fail in numpy, halfway through the load and without a name.",
        evidence="mutation: leaves the shape check to np.stack",
        patches=(Patch(_LAYOUT, "if len(set(leaves)) > 1:", "if False:"),),
        caught_by=("misfit.another_shape_is_named",),
    ),
    Fault(
        id="gemma_version_not_looked_at",
        story="A Gemma 2 or 3 is not recognized by the norms that the first Gemma lacks.",
        evidence="mutation: reads every version with the names of the first one",
        patches=(
            Patch(_LAYOUT, "if version := later_version(names):", "if version := None:"),
            Patch("loading/match.py", "if later := later_version(found):", "if later := None:"),
        ),
        caught_by=("misfit.a_later_version_is_refused",),
    ),
    Fault(
        id="gemma_sizes_not_named",
        story="A Gemma with another vocabulary is refused with a list of shapes that does not say so.",
        evidence=f"{_OPENPI}/issues/648",
        bugs=("C10", "C11"),
        patches=(Patch("loading/loaders.py", "        require_sizes(source, model)\n", ""),),
        caught_by=("gemma_flax.other_sizes_are_named",),
    ),
    Fault(
        id="gemma_vocabulary_extended_unasked",
        story="A Gemma with a smaller vocabulary loads without a request, its missing tokens random.",
        evidence="https://github.com/huggingface/transformers/blob/v4.53.2/src/transformers/models/paligemma"
        "/convert_paligemma_weights_to_hf.py",
        patches=(Patch("loading/loaders.py", "extend_vocabulary: bool = False", "extend_vocabulary: bool = True"),),
        caught_by=("gemma_flax.other_sizes_are_named",),
    ),
    Fault(
        id="gemma_missing_tokens_are_zero",
        story="The rows of tokens missing from Gemma's table are zero, so these tokens are all the same.",
        evidence="mutation: pads with zeros",
        patches=(Patch("loading/resize.py", "fresh[len(array) :]", "np.zeros_like(fresh[len(array) :])"),),
        caught_by=("gemma_flax.missing_tokens_are_fresh_when_asked",),
    ),
    Fault(
        id="gemma_extension_not_reported",
        story="A table with some fresh rows is reported as loaded.",
        evidence="mutation: a report that is not updated",
        patches=(Patch("loading/resize.py", "status=Status.EXTENDED, ", ""),),
        caught_by=("gemma_flax.missing_tokens_are_fresh_when_asked",),
    ),
    Fault(
        id="gemma_embedding_may_be_missing",
        story="A Gemma without its token table loads with a fresh one.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/weight_loaders.py#L67",
        bugs=("C5", "P3"),
        patches=(
            Patch(
                "paths.py",
                "return expert_of(path) == 0 and not is_adapter(path)",
                'return expert_of(path) == 0 and not is_adapter(path) and "embedder" not in path',
            ),
        ),
        caught_by=("misfit.missing_tensor_is_refused",),
    ),
    Fault(
        id="gemma_adapters_expected",
        story="A LoRA model requires adapters from the official Gemma, which no release has.",
        evidence=f"{_OPENPI}/issues/283",
        bugs=("C9",),
        patches=(
            Patch(
                "paths.py",
                "return expert_of(path) == 0 and not is_adapter(path)",
                "return expert_of(path) == 0",
            ),
        ),
        caught_by=(
            "start.fills_a_model_with_adapters",
            "start.what_is_lacking_equals_init",
        ),
    ),
    Fault(
        id="gemma_strangers_vanish",
        story="Arrays that the model does not use are silently left out.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/weight_loaders.py#L90",
        bugs=("C1",),
        patches=(
            Patch(
                _LAYOUT,
                "{path: self._leaf(path) for path in sorted(self._places)}",
                "{path: self._leaf(path) for path in sorted(self._places) if path.startswith(_LLM)}",
            ),
        ),
        caught_by=("report.calls_dropped_what_the_model_lacks",),
    ),
    Fault(
        id="gemma_nothing_matched_is_fine",
        story="A checkpoint in which no name matches loads, with every parameter fresh.",
        evidence="https://github.com/lucidrains/pi-zero-pytorch/pull/5",
        bugs=("C3", "P4"),
        patches=(
            Patch(_LAYOUT, 'if any(name.startswith("params/") for name in names):', "if False:"),
            Patch("loading/loaders.py", "lambda path: not in_gemma(path)", "lambda path: True"),
            Patch("loading/match.py", "if not to_read(entries):", "if False:"),
        ),
        caught_by=(
            "gemma_flax.another_layout_is_refused",
            "misfit.nothing_matched_is_refused",
        ),
    ),
)
