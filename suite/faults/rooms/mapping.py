"""Faults in reading the official PaliGemma npz, and in accepting other PaliGemmas as if they fit."""

from suite.faults.fault import Fault, Patch

_NPZ = "layouts/paligemma_npz.py"
_LOADERS = "https://github.com/Physical-Intelligence/openpi/blob/15a9616/src/openpi/training/weight_loaders.py"
_FRESH = Patch(
    "loading/loaders.py", "source, model, lambda path: not in_paligemma(path), seed", "source, model, bool, seed"
)

FAULTS = (
    Fault(
        id="paligemma_bfloat16_is_void",
        bugs=("C7",),
        story="The bfloat16 npz is read as numpy does, two raw bytes per number, and cannot be cast.",
        evidence=f"{_LOADERS}#L56",
        patches=(Patch(_NPZ, 'return dtype == np.dtype("V2")', "return False"),),
        caught_by=("fit.casts_exactly", "mapping.formats_agree"),
    ),
    Fault(
        id="paligemma_bfloat16_read_as_float16",
        story="The two bytes of a bfloat16 are read as float16.",
        evidence="A mutation: both have two bytes.",
        patches=(Patch(_NPZ, "np.dtype(ml_dtypes.bfloat16) if _is", "np.dtype(np.float16) if _is"),),
        caught_by=("fit.casts_exactly", "mapping.formats_agree"),
    ),
    Fault(
        id="paligemma_nothing_matched_is_fresh",
        bugs=("C3", "P4"),
        story="An npz in which no name matches is accepted, and the model trains from random weights.",
        evidence=f"{_LOADERS}#L73",
        patches=(_FRESH, Patch("loading/match.py", "    if not to_read(entries):\n", "    if not entries:\n")),
        caught_by=("misfit.nothing_matched_is_refused",),
    ),
    Fault(
        id="paligemma_loaded_then_initialised",
        bugs=("P3", "P1"),
        story="PaliGemma's weights are loaded and then overwritten by fresh ones.",
        evidence="https://github.com/huggingface/lerobot/issues/1107",
        patches=(
            Patch(
                "loading/match.py",
                "fresh = model.init_params(seed, only=sorted(expected.keys() - loaded.keys()))",
                "fresh = model.init_params(seed, only=sorted(expected))",
            ),
        ),
        caught_by=(
            "fit.fills_the_model",
            "start.what_is_stored_does_not_depend_on_the_seed",
            "start.fills_a_model_with_adapters",
            "mapping.positions_are_resampled_when_asked",
            "mapping.new_positions_lie_between_old_ones",
            "mapping.resampling_is_reported",
            "hugging_face.lands_leaf_by_leaf",
            "fit.casts_exactly",
            "hugging_face.each_tensor_has_its_place",
            "hugging_face.heads_keep_their_order",
            "fit.either_name_of_the_tied_table_is_enough",
            "hugging_face.added_tokens_are_not_loaded",
            "safetensors.files_of_the_cache_are_read",
            "safetensors.packing_means_nothing",
        ),
    ),
    Fault(
        id="paligemma_fresh_part_ignores_the_seed",
        story="What PaliGemma lacks starts from the same numbers for every seed.",
        evidence="A mutation: a constant in place of the seed.",
        patches=(Patch("loading/match.py", "model.init_params(seed, only", "model.init_params(0, only"),),
        caught_by=(
            "start.what_is_lacking_depends_on_the_seed",
            "start.what_is_lacking_equals_init",
        ),
    ),
    Fault(
        id="paligemma_fresh_part_is_zero",
        bugs=("P7",),
        story="What PaliGemma lacks stays zero: the action expert, projections and lora_a never learn.",
        evidence="https://github.com/huggingface/lerobot/pull/2996",
        patches=(
            Patch(
                "loading/match.py",
                "array.astype(expected[path].dtype, copy=False) for path, array in fresh",
                "np.zeros(array.shape, expected[path].dtype) for path, array in fresh",
            ),
        ),
        caught_by=(
            "start.what_is_lacking_equals_init",
            "start.what_is_lacking_depends_on_the_seed",
            "start.fresh_adapters_change_nothing_yet",
        ),
    ),
    Fault(
        id="paligemma_adapters_asked_of_the_file",
        story="A LoRA model cannot start from PaliGemma, because the file has no adapters.",
        evidence="https://github.com/Physical-Intelligence/openpi/issues/365",
        patches=(
            Patch(
                "paths.py",
                'path.startswith("PaliGemma/") and expert_of(path) != 1 and not is_adapter(path)',
                'path.startswith("PaliGemma/") and expert_of(path) != 1',
            ),
        ),
        caught_by=("start.fills_a_model_with_adapters",),
    ),
    Fault(
        id="paligemma_later_version_accepted",
        story="A Gemma 2 whose shapes fit loads as Gemma 1, and its additional norms are dropped.",
        evidence="A mutation: a loader that looks at shapes and not at names; arXiv:2412.03555 for what differs.",
        patches=(Patch("loading/match.py", "    if later := later_version(found):", "    if later := None:"),),
        caught_by=("misfit.a_later_version_is_refused",),
    ),
    Fault(
        id="paligemma_sizes_unnamed",
        bugs=("C11",),
        story="Another vocabulary, image size or width is reported only as a list of shapes.",
        evidence=f"{_LOADERS}#L33",
        patches=(
            Patch(
                "loading/match.py",
                "other_sizes({e.path: e.expected for e in entries if e.expected}, found)",
                "other_sizes({}, found)",
            ),
        ),
        caught_by=("mapping.other_sizes_are_named", "hugging_face.other_sizes_are_named"),
    ),
    Fault(
        id="positions_resampled_unasked",
        story="Position embeddings of another image size are resampled without a request.",
        evidence="A mutation: big_vision does so whenever shapes differ.",
        patches=(
            Patch(
                "loading/loaders.py",
                "Resampled(npz, model) if self.resample_positions else npz",
                "Resampled(npz, model)",
            ),
            Patch(
                "loading/loaders.py",
                "Resampled(opened, model) if self.resample_positions else opened",
                "Resampled(opened, model)",
            ),
        ),
        caught_by=("mapping.other_sizes_are_named", "hugging_face.other_sizes_are_named"),
    ),
    Fault(
        id="positions_cut_to_fit",
        story="Position embeddings for more patches are truncated to the first ones.",
        evidence="A mutation: what slicing to the model's shape does.",
        patches=(
            Patch(
                "loading/resize.py",
                "resample(self._source.read(path), self._patches)",
                "self._source.read(path)[:, : self._patches]",
            ),
        ),
        caught_by=("mapping.positions_are_resampled_when_asked", "mapping.new_positions_lie_between_old_ones"),
    ),
    Fault(
        id="positions_of_the_nearest_patch",
        story="A new patch gets the position embedding of the nearest old one.",
        evidence="A mutation: scipy.ndimage.zoom with order=0.",
        patches=(
            Patch(
                "loading/resize.py",
                "points = np.linspace(0, old - 1, new)",
                "points = np.rint(np.linspace(0, old - 1, new))",
            ),
        ),
        caught_by=("mapping.positions_are_resampled_when_asked", "mapping.new_positions_lie_between_old_ones"),
    ),
    Fault(
        id="positions_aligned_at_centres",
        story="Grids are aligned at patch centers, as image resizing does, so the corners move.",
        evidence="A mutation: jax.image.resize and torch's interpolate by default; PaliGemma was trained otherwise.",
        patches=(
            Patch(
                "loading/resize.py",
                "points = np.linspace(0, old - 1, new)",
                "points = (np.arange(new) + 0.5) * old / new - 0.5",
            ),
        ),
        caught_by=("mapping.positions_are_resampled_when_asked",),
    ),
    Fault(
        id="positions_transposed",
        story="Rows and columns of the patches are swapped while position embeddings are resampled.",
        evidence="A mutation: the grid is square, so every shape fits.",
        patches=(Patch("loading/resize.py", '"ai,bj,ijw->abw"', '"ai,bj,ijw->baw"'),),
        caught_by=("mapping.positions_are_resampled_when_asked", "mapping.new_positions_lie_between_old_ones"),
    ),
    Fault(
        id="positions_resampled_unreported",
        story="Resampled position embeddings are reported as loaded.",
        evidence="A mutation of docs/bugs.md#rule-5: nothing is changed without being in the report.",
        patches=(
            Patch("loading/resize.py", "entry, status=Status.RESAMPLED, found=", "entry, status=entry.status, found="),
        ),
        caught_by=("mapping.resampling_is_reported",),
    ),
    Fault(
        id="positions_resampled_from_no_grid",
        story="A non-square number of position embeddings is truncated to a square and resampled.",
        evidence="A mutation: the rounded root of the number of patches is taken for the side.",
        patches=(
            Patch("loading/resize.py", "            _require_square(source.path, self._stored)\n", ""),
            Patch("loading/resize.py", "grid = positions.reshape(", "grid = positions[:, : old * old].reshape("),
        ),
        caught_by=("mapping.positions_that_are_no_grid_are_refused",),
    ),
)
