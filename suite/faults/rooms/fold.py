"""Faults in folding, unfolding, extracting and merging adapters."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_LORA = f"{_OPENPI}/blob/15a9616/src/openpi/models/lora.py"

FAULTS = (
    Fault(
        id="fold_is_per_head",
        bugs=("A5", "G2"),
        story="The textbook merge, A[n] @ B[n] per head, is also used for attn_vec_einsum, which is 80 % off.",
        evidence=f"{_LORA}#L67",
        patches=(Patch("model/sites.py", '"...NHR,...MRD->...NHD"', '"...NHR,...NRD->...NHD"'),),
        caught_by=(
            "lora_math.fold_equals_forward",
            "lora_math.fold_equals_forward_at_each_site",
            "golden.folded_checkpoint_has_the_loss",
        ),
    ),
    Fault(
        id="fold_sums_over_layers",
        bugs=("A17",),
        story="A merge for one layer sums lora_b over the first axis, which is layers once they are stacked.",
        evidence=f"{_LORA}#L23",
        patches=(Patch("model/sites.py", '"...NHR,...MRD->...NHD"', '"LNHR,MNRD->LNHD"'),),
        caught_by=("lora_math.fold_equals_forward", "lora_math.fold_equals_forward_at_each_site"),
    ),
    Fault(
        id="fold_scales_the_feed_forward_otherwise",
        story="A merge scales feed-forward adapters by alpha / rank, but the model scales them by one.",
        evidence=f"{_LORA}#L144",
        patches=(
            Patch(
                "model/lora.py",
                ".astype(x.dtype)) * lora.scale",
                '.astype(x.dtype)) * (lora.scale if site.group == "attn" else 1.0)',
            ),
        ),
        caught_by=("lora_math.fold_equals_forward", "lora_math.fold_equals_forward_at_each_site"),
    ),
    Fault(
        id="fold_takes_every_layer_for_the_first",
        story="Every layer is folded with the first layer's adapters.",
        evidence="mutation: a layer axis that broadcasts",
        patches=(
            Patch(
                "model/sites.py",
                "np.asarray(a, np.float64), np.asarray(b,",
                "np.asarray(a[:1], np.float64), np.asarray(b[:1],",
            ),
        ),
        caught_by=("lora_math.fold_equals_forward_at_each_site",),
    ),
    Fault(
        id="fold_forgets_the_last_column",
        story="The last column of lora_a and the last row of lora_b are left out of the delta.",
        evidence="mutation: off by one in the rank",
        patches=(
            Patch(
                "model/sites.py",
                "return product(a, b)",
                "return product(a[..., :-1], b[..., :-1, :])",
            ),
        ),
        caught_by=("lora_fold.delta_has_the_rank_of_its_adapter", "lora_math.fold_equals_forward"),
    ),
    Fault(
        id="fold_in_the_dtype_of_the_weight",
        bugs=("G15",),
        story="The delta is rounded to the weight's dtype before it is added: small bfloat16 deltas vanish.",
        evidence=f"{_OPENPI}/pull/960",
        patches=(Patch("lora/fold.py", "_widen(w) + delta)", "w + delta.astype(w.dtype))"),),
        caught_by=("lora_fold.of_bfloat16_is_formed_in_float32",),
    ),
    Fault(
        id="fold_hides_what_rounding_took",
        story="A fold always reports that rounding lost nothing.",
        evidence="mutation: a report that is not filled in",
        patches=(Patch("lora/fold.py", "return missing / whole if whole else 0.0", "return 0.0"),),
        caught_by=("lora_fold.tells_what_rounding_took",),
    ),
    Fault(
        id="fold_leaves_float32_behind",
        story="Folded weights keep the dtype that their sum was computed in.",
        evidence="mutation: a forgotten cast",
        patches=(Patch("lora/fold.py", "(_widen(w) + delta).astype(dtype, copy=False)", "_widen(w) + delta"),),
        caught_by=("lora_fold.changes_every_adapted_weight", "lora_fold.of_bfloat16_is_formed_in_float32"),
    ),
    Fault(
        id="fold_widens_everything",
        story="A folded model is float32 throughout, and takes twice the memory of the checkpoint.",
        evidence="mutation: a cast of the whole tree in place of its adapted weights",
        patches=(
            Patch(
                "lora/fold.py",
                "    return Folded(folded, replaced, lost)\n",
                "    return Folded({path: _widen(x) for path, x in folded.items()}, replaced, lost)\n",
            ),
        ),
        caught_by=("lora_fold.changes_nothing_but_adapted_weights", "lora_fold.changes_every_adapted_weight"),
    ),
    Fault(
        id="fold_writes_into_its_argument",
        story="A fold adds the delta in place, so the caller's base changes, and a second fold adds it twice.",
        evidence="mutation: an operator with an equals sign",
        patches=(
            Patch(
                "lora/fold.py",
                "        folded[adapter.weight] = add(w, delta, w.dtype)\n",
                "        folded[adapter.weight] = add(w, delta, w.dtype)\n"
                "        if isinstance(w, np.ndarray) and w.flags.writeable:\n"
                "            np.copyto(w, folded[adapter.weight])\n",
            ),
        ),
        caught_by=("lora_fold.changes_no_argument",),
    ),
    Fault(
        id="half_an_adapter_is_left_out_of_a_fold",
        story="A fold skips an adapter with one matrix missing, and that part of the fine-tuning is lost.",
        evidence="mutation: a loop over pairs that are there",
        patches=(
            Patch("lora/fold.py", "    require_whole_adapters(base | adapters)\n", ""),
            Patch(
                "lora/fold.py",
                "    for adapter in adapters_in(adapters):\n        w =",
                "    for adapter in adapters_in(adapters):\n"
                "        if not {adapter.a, adapter.b} <= adapters.keys():\n"
                "            continue\n"
                "        w =",
            ),
        ),
        caught_by=("lora_fold.half_an_adapter_is_not_folded",),
    ),
    Fault(
        id="extract_takes_half_of_each_adapter",
        story="Only lora_b counts as an adapter, so lora_a stays with the base.",
        evidence="mutation: a pattern for one of two names",
        patches=(
            Patch(
                "lora/params.py",
                "for path, array in flat.items() if is_adapter(path)}",
                'for path, array in flat.items() if path.endswith("lora_b")}',
            ),
        ),
        caught_by=(
            "lora_fold.extract_gives_the_base",
            "lora_fold.extract_gives_the_adapters",
            "language_model.extract_gives_the_base",
            "language_model.extract_gives_the_adapters",
        ),
    ),
    Fault(
        id="fold_leaves_adapters_behind",
        story="Adapters stay next to the weights they were folded into, and count twice when loaded.",
        evidence="mutation of docs/bugs.md#g2: a merge that walks the top level and removes nothing",
        patches=(
            Patch(
                "lora/fold.py",
                "folded, replaced, lost = dict(base),",
                "folded, replaced, lost = dict(as_flat(params)),",
            ),
        ),
        caught_by=("lora_fold.leaves_no_adapter",),
    ),
    Fault(
        id="unfold_subtracts",
        story="Unfolding subtracts the delta, which does not restore the base's last bits, or more in bfloat16.",
        evidence="https://github.com/huggingface/peft/blob/v0.17.0/src/peft/tuners/lora/layer.py (unmerge)",
        patches=(
            Patch(
                "lora/fold.py",
                "    return dict(sorted((found | as_flat(replaced)).items()))\n",
                "    kept = as_flat(replaced)\n"
                "    base = {path: found[path] - (again[path] - kept[path]) for path in again}\n"
                "    return dict(sorted((found | kept | base).items()))\n",
            ),
        ),
        caught_by=("lora_fold.unfold_gives_the_base_back",),
    ),
    Fault(
        id="merge_drops_the_adapters",
        bugs=("G1",),
        story="Adapters are checked but not merged, so the model behaves like its base.",
        evidence=f"{_OPENPI}/issues/958",
        patches=(Patch("lora/params.py", "    merged = base | adapters\n", "    merged = base\n"),),
        caught_by=("lora_fold.merge_undoes_extract", "language_model.merge_undoes_extract"),
    ),
    Fault(
        id="half_an_adapter_is_merged",
        bugs=("C4",),
        story="An adapter with one matrix missing is accepted, and the other one is arbitrary.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/weight_loaders.py#L90",
        patches=(
            Patch(
                "lora/sites.py",
                "            if path not in params:\n                raise",
                "            if path not in params:\n                return\n                raise",
            ),
        ),
        caught_by=(
            "lora_fold.half_an_adapter_is_not_merged",
            "language_model.half_an_adapter_is_not_merged",
        ),
    ),
    Fault(
        id="fold_with_another_rank",
        bugs=("E9",),
        story="Adapters are folded with a config of another rank, and therefore with another scale.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/checkpoints.py#L84",
        patches=(Patch("lora/sites.py", "    if rank != spec.rank:\n", "    if False:\n"),),
        caught_by=("lora_fold.another_rank_is_refused",),
    ),
    Fault(
        id="adapters_are_cut_until_they_fit",
        bugs=("P8",),
        story="Matrices of another layout are flattened and truncated, or repeated, to the expected size.",
        evidence="docs/bugs.md#p8: a public fork that resumes by reshape(-1)[:n]",
        patches=(
            Patch(
                "lora/sites.py",
                "_shape(params, adapter.a, shape_a)\n        _require_shape(params, adapter.b, shape_b)\n",
                "_shape(params, adapter.a, params[adapter.a].shape)\n        del shape_a, shape_b\n",
            ),
            Patch("lora/fold.py", "_delta(adapter, adapters, config)\n", "_delta(adapter, adapters, config, w)\n"),
            Patch("lora/fold.py", "adapters: Params, config: Pi0Spec) -> np", "adapters, config, weight) -> np"),
            Patch(
                "lora/fold.py",
                "    require_rank(adapter, a.shape[-1], spec)\n",
                "    shapes = sites.adapter_shapes(weight.shape, spec.rank)\n"
                "    a, b = (np.resize(x, shape) for x, shape in zip((a, b), shapes, strict=True))\n",
            ),
        ),
        caught_by=("lora_fold.adapters_of_another_layout_are_refused",),
    ),
)
