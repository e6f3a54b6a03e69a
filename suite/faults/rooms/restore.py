"""Faults in reading a checkpoint: its names, bits, order and path."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_MODEL = f"{_OPENPI}/blob/15a9616/src/openpi/models/model.py"

FAULTS = (
    Fault(
        id="suffix_goes_only_if_all_have_it",
        bugs=("C17",),
        story="nnx's `value` is stripped only if every leaf has it; in mixed trees names end in `/value`.",
        evidence=f"{_MODEL}#L328",
        patches=(
            Patch(
                "layouts/orbax/metadata.py",
                "return bool(value_suffix) or len(children[parent]) == 1",
                'return all(path.endswith(f"/{SUFFIX}") for path in paths)',
            ),
        ),
        caught_by=("restore.strips_the_suffix_in_mixed_trees",),
    ),
    Fault(
        id="value_is_always_a_suffix",
        bugs=("C17",),
        story="A parameter that is really called `value` loses its name.",
        evidence=f"{_MODEL}#L330",
        patches=(
            Patch(
                "layouts/orbax/metadata.py", "return bool(value_suffix) or len(children[parent]) == 1", "return True"
            ),
        ),
        caught_by=("restore.keeps_a_parameter_called_value",),
    ),
    Fault(
        id="serving_dtype_for_everything",
        bugs=("B7",),
        story="Every parameter is restored in bfloat16, even norm scales and projections trained in float32.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/policies/policy_config.py#L57",
        patches=(
            Patch(
                "layouts/orbax/read.py",
                "return leaf if dtype is None else Leaf(leaf.shape, np.dtype(dtype))",
                "return Leaf(leaf.shape, np.dtype(dtype or 'bfloat16'))",
            ),
        ),
        caught_by=("restore.keeps_every_bit", "restore.keeps_odd_floats", "restore.reads_what_old_orbax_wrote"),
    ),
    Fault(
        id="arithmetic_on_the_way",
        story="Arrays are multiplied by one: the numbers stay the same, but NaN payloads do not.",
        evidence="Mutation: a scale that is one by default.",
        patches=(
            Patch(
                "layouts/orbax/read.py",
                "restored[path] = plan.placing.place(path, array)",
                "restored[path] = plan.placing.place(path, 1 * array)",
            ),
        ),
        caught_by=("restore.keeps_odd_floats",),
    ),
    Fault(
        id="asked_dtype_is_ignored",
        story="Parameters are restored in their stored dtype, whatever was requested, in twice the memory.",
        evidence="Mutation: an argument that is not passed on.",
        patches=(
            Patch("layouts/orbax/restore.py", "dict.fromkeys(stored.leaves, dtype)", "dict.fromkeys(stored.leaves)"),
        ),
        caught_by=("restore.casts_as_asked",),
    ),
    Fault(
        id="blocks_are_rounded_on_the_way",
        story="Blocks pass through bfloat16 when they are decoded, even float32 ones.",
        evidence="Mutation: a cast too early.",
        patches=(
            Patch(
                "layouts/orbax/chunks.py",
                "np.copyto(part, decoded.reshape(part.shape), casting",
                "np.copyto(part, decoded.astype('bfloat16').reshape(part.shape), casting",
            ),
        ),
        caught_by=("restore.keeps_every_bit",),
    ),
    Fault(
        id="chunk_that_is_cut_off_is_zeros",
        story="A chunk that ends early counts as complete; the rest is uninitialized memory.",
        evidence="Mutation: a length that nobody compares.",
        patches=(
            Patch(
                "layouts/orbax/chunks.py",
                "if reader.readinto(decoded.view(np.uint8)) != decoded.nbytes:\n            return False",
                "reader.readinto(decoded.view(np.uint8))",
            ),
            Patch("layouts/orbax/chunks.py", "return not reader.read(1) and not source.left", "return True"),
        ),
        caught_by=("damage.is_refused",),
    ),
    Fault(
        id="order_of_a_set",
        bugs=("C19",),
        story="The result is built by iterating over a set, so its order differs between processes.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/training/weight_loaders.py#L100",
        patches=(
            Patch(
                "layouts/orbax/read.py",
                "return dict(sorted(restored.items()))",
                "return {path: restored[path] for path in set(restored)}",
            ),
        ),
        caught_by=("restore.order_is_the_same_in_every_process",),
    ),
    Fault(
        id="slash_in_a_name_splits_it",
        bugs=("C8",),
        story="Nested names are joined by unescaped slashes, so a name with a slash becomes two.",
        evidence="https://github.com/google/flax/blob/v0.10.2/flax/traverse_util.py#L59",
        patches=(Patch("params.py", 'return part.replace("~", "~0").replace("/", "~1")', "return part"),),
        caught_by=("restore.keeps_any_names",),
    ),
    Fault(
        id="digits_become_integers",
        bugs=("F3", "C8"),
        story="Names made of digits are cast to integers, which equal no key of the checkpoint.",
        evidence="https://github.com/google/flax/issues/4858",
        patches=(
            Patch(
                "layouts/orbax/metadata.py",
                "(PARAMS, *tree.split(raw))",
                "(PARAMS, *(int(key) if key.isdigit() else key for key in tree.split(raw)))",
            ),
        ),
        caught_by=("restore.keeps_any_names", "restore.keeps_numbers_as_names"),
    ),
    Fault(
        id="metadata_is_subscripted",
        bugs=("F1",),
        story="orbax's metadata is treated as a dict, which it was before orbax 0.11.22.",
        evidence="https://github.com/google-deepmind/gemma/issues/379",
        patches=(
            Patch("layouts/orbax/metadata.py", "nested, metadata = item.tree,", 'nested, metadata = item["tree"],'),
        ),
        caught_by=("restore.keeps_every_bit", "restore.reads_what_old_orbax_wrote"),
    ),
    Fault(
        id="only_one_file_for_all_arrays",
        bugs=("F1",),
        story="A checkpoint by an old orbax, with a folder per array, is not recognized.",
        evidence="https://github.com/google/orbax/blob/main/checkpoint/CHANGELOG.md",
        patches=(
            Patch(
                "layouts/orbax/folder.py",
                "return (folder / METADATA_FILE).is_file()",
                'return (folder / METADATA_FILE).is_file() and (folder / "manifest.ocdbt").is_file()',
            ),
        ),
        caught_by=("restore.reads_what_old_orbax_wrote",),
    ),
    Fault(
        id="reading_leaves_a_mark",
        story="Reading touches a file in the checkpoint's folder, which fails if that is read-only.",
        evidence="Mutation: a lock beside the data.",
        patches=(
            Patch(
                "layouts/orbax/folder.py",
                "    if _UNFINISHED in folder.name:",
                '    (folder / ".lock").touch()\n    if _UNFINISHED in folder.name:',
            ),
        ),
        caught_by=("restore.leaves_the_files_alone", "restore.wrong_path_is_refused_by_name"),
    ),
    Fault(
        id="restored_arrays_are_cached",
        story="A second restore returns the arrays of the first, including later changes to them.",
        evidence="Mutation: a cache of something that can be changed.",
        patches=(
            Patch(
                "../suite/subjects/reference.py", "def restore(path: str", "@functools.lru_cache\ndef restore(path: str"
            ),
        ),
        caught_by=("restore.results_are_their_own",),
    ),
    Fault(
        id="link_is_no_folder",
        story="A checkpoint behind a symbolic link is not found.",
        evidence="Mutation: a check of the link in place of what it points to.",
        patches=(
            Patch(
                "layouts/orbax/folder.py", "if not folder.exists():", "if not folder.exists() or folder.is_symlink():"
            ),
        ),
        caught_by=("restore.other_spellings_of_a_path_work",),
    ),
    Fault(
        id="paths_are_text_only",
        bugs=("C16",),
        story="A Path has no `startswith`, and the resulting error is about that.",
        evidence=f"{_OPENPI}/commit/61c2755",
        patches=(Patch("storage/download.py", "_URL.match(os.fspath(path))", "_URL.match(path)"),),
        caught_by=("restore.paths_are_text_or_objects",),
    ),
    Fault(
        id="tilde_is_a_folder",
        bugs=("C16",),
        story="`~` is treated as a folder of that name instead of the home folder.",
        evidence="Mutation: a path that is made absolute without being expanded.",
        patches=(
            Patch("storage/download.py", "return Path(path).expanduser().absolute()", "return Path(path).absolute()"),
        ),
        caught_by=("restore.paths_are_text_or_objects",),
    ),
    Fault(
        id="url_is_a_local_path",
        bugs=("C16",),
        story="A URL with a scheme other than gs becomes a local path, and the error names a path nobody passed.",
        evidence=f"{_MODEL}#L308",
        patches=(
            Patch(
                "storage/download.py", '_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")', '_URL = re.compile("gs://")'
            ),
        ),
        caught_by=("restore.url_without_driver_is_refused_by_name",),
    ),
    Fault(
        id="no_metadata_is_all_it_says",
        bugs=("C16",),
        story="For a wrong folder, the error says that _METADATA is missing, not which folder to pass.",
        evidence=f"{_MODEL}#L308",
        patches=(
            Patch("layouts/orbax/folder.py", "(no {METADATA_FILE}); {_folder_advice(folder)}", "(no {METADATA_FILE})"),
        ),
        caught_by=(
            "restore.step_folder_is_refused_by_name",
            "restore.run_folder_is_refused_by_the_newest_step",
            "restore.folders_beside_are_refused_by_name",
            "restore.two_models_in_a_step_are_refused",
            "restore.other_formats_are_called_by_their_name",
        ),
    ),
    Fault(
        id="newest_step_by_its_text",
        story="Steps are compared as text, so 999 is newer than 1000.",
        evidence="Mutation: a sort without a key.",
        patches=(Patch("layouts/orbax/folder.py", "key=lambda step: int(step.name)", "key=lambda step: step.name"),),
        caught_by=("restore.run_folder_is_refused_by_the_newest_step",),
    ),
    Fault(
        id="safetensors_win",
        bugs=("H5",),
        story="A PyTorch file in a step's folder wins over `params`, although it is ambiguous which is meant.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/policies/policy_config.py#L48",
        patches=(
            Patch(
                "layouts/orbax/folder.py",
                "if holds_tree(folder / PARAMS):",
                "if not torch and holds_tree(folder / PARAMS):",
            ),
        ),
        caught_by=("restore.two_models_in_a_step_are_refused",),
    ),
    Fault(
        id="unfinished_save_is_read",
        bugs=("E4",),
        story="A killed save is renamed and read, as people do by hand, even if parts are missing.",
        evidence=f"{_OPENPI}/issues/566",
        patches=(
            # orbax looks at the name too.
            Patch(
                "layouts/orbax/folder.py",
                "    if _UNFINISHED in folder.name:",
                "    if _UNFINISHED in folder.name:\n"
                '        folder = folder.rename(folder.with_name(folder.name.partition(".")[0]))\n'
                "    if False:",
            ),
        ),
        caught_by=("restore.unfinished_save_is_refused",),
    ),
    Fault(
        id="npz_has_no_advice",
        bugs=("C16",),
        story="An npz is refused for being a file, without saying that there is a loader for it.",
        evidence="Mutation: an error without its way out.",
        patches=(
            Patch("layouts/orbax/folder.py", '"; for an official PaliGemma npz use PaliGemmaWeightLoader(path)"', '""'),
        ),
        caught_by=("restore.other_formats_are_called_by_their_name",),
    ),
    Fault(
        id="wrong_path_is_made",
        bugs=("D4",),
        story="A missing folder is created and then found to be empty.",
        evidence=f"{_OPENPI}/blob/15a9616/src/openpi/shared/download.py#L108",
        patches=(
            Patch(
                "layouts/orbax/folder.py",
                "    if not folder.exists():",
                "    folder.parent.joinpath(folder.name + '.lock').touch()\n    if not folder.exists():",
            ),
        ),
        caught_by=("restore.wrong_path_is_refused_by_name",),
    ),
)
