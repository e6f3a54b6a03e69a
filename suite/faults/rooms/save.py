"""Faults in saving: what the checkpoint contains, and what was at its path before."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_ITEM = "item={PARAMS: tree.unflatten(params)}"
_REFUSAL = 'raise FileExistsError(f"{path}: already exists; choose another folder or remove it first")'

FAULTS = (
    Fault(
        id="save_replaces_what_is_there",
        story="Saving to a path where something exists deletes it first.",
        evidence="mutation: overwrite=True, as openpi's training offers it for runs",
        patches=(Patch("layouts/orbax/save.py", _REFUSAL, "shutil.rmtree(path) if path.is_dir() else path.unlink()"),),
        caught_by=("save.never_overwrites",),
    ),
    Fault(
        id="an_empty_folder_is_nothing",
        story="An empty folder at the target, created for a purpose, is silently replaced.",
        evidence="mutation: rename(2) replaces empty folders",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "    if path.exists():\n",
                "    if path.is_file() or (path.is_dir() and any(path.iterdir())):\n",
            ),
        ),
        caught_by=("save.never_overwrites",),
    ),
    Fault(
        id="two_saves_mix",
        story="If the target appears during a save, the save adds to it, and files of two checkpoints mix.",
        evidence="mutation: a copy into an existing folder in place of a rename",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "(scratch / path.name).rename(path)",
                "shutil.copytree(scratch / path.name, path, dirs_exist_ok=True); shutil.rmtree(scratch / path.name)",
            ),
        ),
        caught_by=("save.of_two_at_once_is_whole",),
    ),
    Fault(
        id="saved_without_the_value_suffix",
        story="Leaves are saved without nnx's value suffix, under other names than in openpi's training.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/models/model.py#L328",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "config: Pi0Spec | None = None,\n    value_suffix: bool = True,",
                "config: Pi0Spec | None = None,\n    value_suffix: bool = False,",
            ),
        ),
        caught_by=("save.openpi_finds_its_own_names",),
    ),
    Fault(
        id="adapters_are_not_saved",
        story="A save filters out the adapters, and the fine-tuning is lost with the process.",
        evidence="mutation: an inverted filter of trainable parameters",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                _ITEM,
                'item={PARAMS: tree.unflatten({p: x for p, x in params.items() if "lora" not in p})}',
            ),
        ),
        caught_by=(
            "served.as_it_was_saved",
            "served.adapters_are_served_with_their_scale",
            "save.and_restore_keep_every_bit",
            "save.openpi_finds_its_own_names",
        ),
    ),
    Fault(
        id="everything_is_saved_as_float32",
        story="Parameters are widened to float32 on saving: twice the size, and other dtypes on restoring.",
        evidence="mutation: one dtype for all, as in openpi's converter to PyTorch",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                _ITEM,
                "item={PARAMS: tree.unflatten({p: np.asarray(x, np.float32) for p, x in params.items()})}",
            ),
        ),
        caught_by=("save.keeps_odd_floats", "save.mixed_dtypes_are_kept"),
    ),
    Fault(
        id="odd_floats_are_cleaned_up",
        story="NaN and infinities are replaced on saving, and a diverged run looks healthy.",
        evidence="mutation: nan_to_num",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "    lora = None if config is None else config.lora\n",
                "    lora = None if config is None else config.lora\n"
                "    params = {p: np.nan_to_num(x).astype(x.dtype) for p, x in params.items()}\n",
            ),
        ),
        caught_by=(
            "served.unusual_numbers_are_kept",
            "save.keeps_odd_floats",
        ),
    ),
    Fault(
        id="digests_depend_on_the_memory_layout",
        story="Digests hash bytes in memory order, so an array in Fortran order cannot be restored.",
        evidence="mutation: ravel in memory order",
        patches=(
            Patch("storage/digests.py", "np.ascontiguousarray(little).reshape(-1)", 'np.ravel(little, order="K")'),
        ),
        caught_by=("save.takes_any_memory_layout",),
    ),
    Fault(
        id="save_returns_before_it_has_written",
        bugs=("E4",),
        story="Saving continues in the background with the caller's arrays, which the next step overwrites.",
        evidence=f"{_OPENPI}/issues/425",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "    with _scratch_folder(path) as scratch:\n",
                '    __import__("threading").Timer(0.1, _write, (path, item)).start()\n\n\n'
                "def _write(path, item):\n    with _scratch_folder(path) as scratch:\n",
            ),
        ),
        caught_by=("save.later_changes_are_not_saved", "save.and_restore_keep_every_bit"),
    ),
    Fault(
        id="save_changes_what_it_is_given",
        story="Saving rounds the caller's arrays in place before it writes them.",
        evidence="mutation: an in-place operation on arguments",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "    item = params_item(flat, config=config, value_suffix=value_suffix)\n",
                "    [np.trunc(x, out=x) for x in flat.values() if x.dtype == np.float32 and x.flags.writeable]\n"
                "    item = params_item(flat, config=config, value_suffix=value_suffix)\n",
            ),
        ),
        caught_by=(
            "served.later_changes_are_not_served",
            "save.changes_no_array",
        ),
    ),
    Fault(
        id="what_cannot_be_saved_is_left_out",
        story="A parameter that cannot be stored is left out, and the save counts as successful.",
        evidence="mutation: a filter in place of an error",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "    lora = None if config is None else config.lora\n",
                "    lora = None if config is None else config.lora\n"
                "    params = {p: x for p, x in params.items() if x.dtype != object}\n",
            ),
        ),
        caught_by=("save.what_cannot_be_saved_leaves_nothing",),
    ),
)
