"""Faults in loading parameters into a model: what is silently dropped, filled in, cast or accepted."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_SOURCE = f"{_OPENPI}/blob/15a9616/src/openpi"
_LOADERS = f"{_SOURCE}/training/weight_loaders.py"

FAULTS = (
    Fault(
        id="unused_adapters_are_dropped",
        bugs=("C1", "C2"),
        story="Adapters that the config lacks are dropped like unused parameters: fine-tuning is lost.",
        evidence=f"{_LOADERS}#L90",
        patches=(Patch("loading/match.py", "Status.DROPPED or looks_like_an_adapter(e.path)", "Status.DROPPED"),),
        caught_by=(
            "misfit.adapters_for_a_model_without_are_refused",
            "misfit.adapters_elsewhere_are_refused",
            "misfit.is_not_served",
        ),
    ),
    Fault(
        id="serving_takes_the_intersection",
        bugs=("C2", "C9"),
        story="Serving uses what config and checkpoint share, and silently ignores the rest.",
        evidence=f"{_SOURCE}/models/model.py#L233",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "return weight_loaders.CheckpointWeightLoader(path).load_for_inference(Pi0Config.from_json(model))[0]",
                "return {p: x for p, x in restore(path, None).items() if p in param_spec(model)}",
            ),
        ),
        caught_by=(
            "misfit.is_not_served",
            "load.base_for_lora_is_refused_with_the_way_out",
            "load.other_scale_than_saved_is_refused",
            "damage.is_not_served",
        ),
    ),
    Fault(
        id="whatever_is_missing_is_fresh",
        bugs=("C3", "C5", "P3", "P4"),
        story="Missing parameters are fresh, so a file whose names have a prefix gives random weights.",
        evidence=f"{_LOADERS}#L73",
        patches=(
            Patch(
                "loading/match.py", "Status.INITIALIZED if may_be_fresh(path) else Status.MISSING", "Status.INITIALIZED"
            ),
            Patch("loading/match.py", "if not to_read(entries):", "if False:"),
        ),
        caught_by=(
            "misfit.nothing_matched_is_refused",
            "misfit.missing_tensor_is_refused",
            "load.base_for_lora_is_refused_with_the_way_out",
            "load.pi0_fast_is_named",
        ),
    ),
    Fault(
        id="half_an_adapter_is_enough",
        bugs=("C4",),
        story="A lora_a without its lora_b is accepted, and a fresh lora_b replaces the trained one.",
        evidence=f"{_LOADERS}#L90",
        patches=(
            Patch(
                "loading/match.py",
                "halves += [p for p in (adapter.a, adapter.b) if p not in found] if adapter else []",
                "pass",
            ),
        ),
        caught_by=("damage.is_refused",),
    ),
    Fault(
        id="anything_with_lora_is_an_adapter",
        bugs=("C5",),
        story='`explorations` contains "lora", so it counts as an adapter and may be missing.',
        evidence=f"{_LOADERS}#L54",
        patches=(
            Patch(
                "paths.py",
                'return name in ("lora_a", "lora_b") or name.endswith(("_lora_a", "_lora_b"))',
                'return "lora" in path and bool(name)',
            ),
        ),
        caught_by=("report.calls_dropped_what_the_model_lacks",),
    ),
    Fault(
        id="codes_are_cast_to_weights",
        bugs=("C6",),
        story="Eight-bit codes without their scales are cast to float32 and used as weights.",
        evidence=f"{_LOADERS}#L97",
        patches=(
            Patch("loading/match.py", "if e.found and not is_float(e.found.dtype)", "if e.found and not e.found.dtype"),
        ),
        caught_by=("misfit.what_is_no_weight_is_refused",),
    ),
    Fault(
        id="overflow_is_infinity",
        bugs=("C6",),
        story="A finite weight that exceeds the model's dtype becomes infinite in the cast.",
        evidence=f"{_LOADERS}#L97",
        patches=(Patch("loading/match.py", "    if overflown:", "    if False:"),),
        caught_by=("misfit.what_is_no_weight_is_refused",),
    ),
    Fault(
        id="nan_passes_unseen",
        bugs=("C6",),
        story="NaN and infinity load without being counted, and a diverged run continues.",
        evidence=f"{_LOADERS}#L97",
        patches=(
            Patch(
                "loading/match.py",
                "nonfinite = count_nonfinite(loaded[entry.path]) if entry.path in loaded else 0",
                "nonfinite = 0",
            ),
        ),
        caught_by=("report.counts_what_is_not_finite",),
    ),
    Fault(
        id="casts_are_called_loads",
        bugs=("C6",),
        story="A cast parameter is reported as loaded unchanged.",
        evidence=f"{_OPENPI}/blob/15a9616/scripts/train.py#L77",
        patches=(
            Patch("loading/match.py", "Status.LOADED if want.dtype == got.dtype else Status.CAST", "Status.LOADED"),
        ),
        caught_by=("report.calls_cast_what_is_cast",),
    ),
    Fault(
        id="widening_through_half_precision",
        bugs=("G5",),
        story="Everything is narrowed to bfloat16 on the way to float32.",
        evidence=f"{_OPENPI}/pull/978",
        patches=(
            Patch(
                "loading/loaders.py",
                "restore_leaves(stored, {path: expected[path].dtype for path in to_read(entries)}, verify=verify)",
                'restore_leaves(stored, dict.fromkeys(to_read(entries), "bfloat16"), verify=verify)\n'
                "    loaded = {path: array.astype(expected[path].dtype) for path, array in loaded.items()}",
            ),
        ),
        caught_by=(
            "start.fills_a_model_with_adapters",
            "load.saved_lora_loads_into_lora",
            "fit.fills_the_model",
            "fit.casts_exactly",
        ),
    ),
    Fault(
        id="base_for_lora_has_no_way_out",
        bugs=("C9",),
        story="A base checkpoint for a LoRA config is refused as a different tree, without saying what to call.",
        evidence=f"{_OPENPI}/issues/283",
        patches=(Patch("diagnosis.py", "if wrong.missing and all(map(is_adapter, wrong.missing))", "if False"),),
        caught_by=("load.base_for_lora_is_refused_with_the_way_out",),
    ),
    Fault(
        id="family_is_not_named",
        bugs=("C10",),
        story="A checkpoint of another family is refused as a tree with different children.",
        evidence=f"{_OPENPI}/issues/648",
        patches=(Patch("diagnosis.py", "if whole and allowed and family not in allowed:", "if False:"),),
        caught_by=("misfit.the_other_family_is_named",),
    ),
    Fault(
        id="pi0_fast_is_called_pi0",
        bugs=("C10",),
        story="pi0-FAST, which has no projections, is called a pi0 checkpoint that lacks some parameters.",
        evidence=f"{_OPENPI}/issues/268",
        patches=(
            Patch(
                "paths.py",
                'return ("pi0_fast",) if any(map(is_adapter, paths)) else ("pi0_fast", "PaliGemma")',
                'return ("pi0",)',
            ),
        ),
        caught_by=("load.pi0_fast_is_named",),
    ),
    Fault(
        id="time_mlp_of_either_family",
        bugs=("P2",),
        story="pi0's `action_time_mlp_in` matches pi05's `time_mlp_in`, so the families are mistaken.",
        evidence="https://github.com/huggingface/lerobot/issues/4577",
        patches=(Patch("paths.py", 'if "time_mlp_in" in names:', 'if any("time_mlp_in" in name for name in names):'),),
        caught_by=("misfit.the_other_family_is_named",),
    ),
    Fault(
        id="other_shapes_are_cut_to_fit",
        bugs=("C11", "P8"),
        story="A parameter of another shape is flattened, truncated or repeated, and reshaped to fit.",
        evidence=f"{_OPENPI}/issues/551",
        patches=(
            Patch("loading/match.py", "    if wrong:", "    if wrong.missing or wrong.unexpected:"),
            Patch(
                "loading/loaders.py",
                "    report = inspect(source, entries, loaded,",
                '    loaded = {p: __import__("numpy").resize(x, expected[p].shape) for p, x in loaded.items()}\n'
                "    report = inspect(source, entries, loaded,",
            ),
        ),
        caught_by=(
            "misfit.another_shape_is_refused",
            "misfit.is_not_served",
            "misfit.another_model_is_refused",
            "misfit.another_rank_is_refused",
        ),
    ),
    Fault(
        id="first_difference_only",
        bugs=("C10", "C11"),
        story="The error names only the first misfit, so the others show up one run at a time.",
        evidence=f"{_OPENPI}/issues/268",
        patches=(Patch("params.py", "for line in shorten(kind))", "for line in kind[:1])"),),
        caught_by=("misfit.every_misfit_is_named",),
    ),
    Fault(
        id="training_from_nothing_is_silent",
        bugs=("C12", "H2"),
        story="A config without a weight loader silently trains from random weights.",
        evidence=f"{_OPENPI}/pull/815",
        patches=(
            Patch(
                "loading/loaders.py",
                'warnings.warn("no weight loader: every parameter is freshly initialized", stacklevel=2)',
                "warnings.simplefilter",
            ),
        ),
        caught_by=("load.training_from_nothing_is_announced",),
    ),
    Fault(
        id="load_errors_are_swallowed",
        bugs=("P1",),
        story="Errors in a load are swallowed, and an untrained model is returned as if loaded.",
        evidence="https://github.com/huggingface/lerobot/issues/4577",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "        params, report = loader.load(Pi0Config.from_json(model), seed=seed)",
                "        try:\n"
                "            params, report = loader.load(Pi0Config.from_json(model), seed=seed)\n"
                "        except Exception:\n"
                "            params, report = weight_loaders.NoOpWeightLoader().load(Pi0Config.from_json(model))",
            ),
        ),
        caught_by=(
            "misfit.nothing_matched_is_refused",
            "misfit.missing_tensor_is_refused",
            "misfit.another_shape_is_refused",
            "misfit.the_other_family_is_refused",
            "damage.is_refused",
        ),
    ),
    Fault(
        id="loaded_is_what_is_claimed",
        bugs=("P1", "P9"),
        story="The report says loaded, but fresh parameters win where both exist.",
        evidence="https://github.com/huggingface/lerobot/issues/4577",
        patches=(Patch("loading/match.py", "only=sorted(expected.keys() - loaded.keys())", "only=sorted(expected)"),),
        caught_by=(
            "start.what_is_stored_does_not_depend_on_the_seed",
            "report.what_is_called_loaded_does_not_depend_on_the_seed",
            "fit.fills_the_model",
        ),
    ),
    Fault(
        id="fresh_memory_is_never_filled",
        bugs=("P7",),
        story="To save time, nothing is initialized before the load, so missing parameters are undefined.",
        evidence="https://github.com/huggingface/lerobot/pull/2996",
        patches=(
            Patch(
                "loading/match.py",
                "array.astype(expected[path].dtype, copy=False) for path, array in fresh",
                "np.full(array.shape, np.nan, expected[path].dtype) for path, array in fresh",
            ),
        ),
        caught_by=(
            "start.no_memory_is_uninitialized",
            "start.what_is_lacking_equals_init",
        ),
    ),
    Fault(
        id="seed_of_the_clock",
        bugs=("A15",),
        story="Fresh parameters are seeded by the clock, whatever seed was given.",
        evidence="Mutation: an argument that is not passed on.",
        patches=(
            Patch(
                "loading/match.py", "model.init_params(seed,", 'model.init_params(__import__("time").time_ns() % 2**31,'
            ),
        ),
        caught_by=("start.one_seed_gives_one_model",),
    ),
    Fault(
        id="loads_are_cached",
        bugs=("H6",),
        story="A second load returns the arrays of the first, including changes made by training.",
        evidence="Mutation: a cache of something that can be changed.",
        patches=(
            Patch("../suite/subjects/reference.py", "    loader = _loader(**source)", "    loader = _cached(**source)"),
            Patch(
                "../suite/subjects/reference.py",
                "def load_for_inference(",
                "class _Cached:\n"
                "    def __init__(self, loader):\n"
                "        self._load = functools.lru_cache(loader.load)\n\n"
                "    def load(self, model, seed):\n"
                "        return self._load(model, seed=seed)\n\n\n"
                "_cached = functools.lru_cache(lambda **source: _Cached(_loader(**source)))\n\n\n"
                "def load_for_inference(",
            ),
        ),
        caught_by=("start.two_loads_share_no_memory",),
    ),
    Fault(
        id="unused_parameters_are_refused",
        bugs=("P10",),
        story="A table that the model does not use prevents a good checkpoint from loading.",
        evidence="https://github.com/ZibinDong/openpi_pytorch/issues/2",
        patches=(Patch("loading/match.py", "e.status is not Status.DROPPED or looks_like_an_adapter(e.path)", "True"),),
        caught_by=(
            "report.calls_dropped_what_the_model_lacks",
            "damage.harmless_oddity_loads",
            "damage.harmless_oddity_is_served",
        ),
    ),
    Fault(
        id="what_is_dropped_is_not_reported",
        bugs=("C1",),
        story="The report covers the model's parameters but not unused ones of the checkpoint.",
        evidence=f"{_LOADERS}#L90",
        patches=(Patch("loading/match.py", "sorted(expected.keys() | found.keys())", "sorted(expected)"),),
        caught_by=(
            "report.calls_dropped_what_the_model_lacks",
            "misfit.adapters_for_a_model_without_are_refused",
            "misfit.is_not_served",
        ),
    ),
    Fault(
        id="scale_of_the_config_wins",
        bugs=("E9", "P5"),
        story="Alpha and rslora come from the config, whatever the adapters were trained with.",
        evidence=f"{_SOURCE}/models/lora.py#L11",
        patches=(Patch("layouts/orbax/lora_record.py", "if recorded != model.lora.get(expert):", "if False:"),),
        caught_by=("load.other_scale_than_saved_is_refused",),
    ),
    Fault(
        id="scale_is_not_saved",
        bugs=("E9",),
        story="A checkpoint has the matrices of its adapters but not their alpha.",
        evidence=f"{_SOURCE}/training/checkpoints.py#L142",
        patches=(Patch("layouts/orbax/save.py", "lora = None if config is None else config.lora", "lora = None"),),
        caught_by=("load.other_scale_than_saved_is_refused",),
    ),
    Fault(
        id="other_byte_order_is_no_float",
        story="Floats in the other byte order are refused as integer codes.",
        evidence="Mutation: a comparison of dtypes that takes the byte order for a part of the type.",
        patches=(Patch("floats.py", 'dtype.newbyteorder("=") in (', "dtype in ("),),
        caught_by=("damage.harmless_oddity_loads",),
    ),
)
