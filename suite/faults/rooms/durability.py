"""Faults in durability: killed saves, damaged files, concurrent readers."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_RESTORE = f"{_OPENPI}/blob/15a9616/src/openpi/models/model.py#L281"

FAULTS = (
    Fault(
        id="save_appears_piece_by_piece",
        story="Files are copied to the target one by one, so a killed save leaves half a checkpoint.",
        evidence="mutation: a copy in place of a rename",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "(scratch / path.name).rename(path)",
                "shutil.move(shutil.copytree(scratch / path.name, path), path); shutil.rmtree(scratch / path.name)",
            ),
        ),
        caught_by=("durability.killed_save_leaves_whole_checkpoints",),
    ),
    Fault(
        id="leftover_scratch_blocks_the_next_save",
        bugs=("E4",),
        story="The scratch folder has a fixed name, so leftovers of a killed save make the next one fail.",
        evidence=f"{_OPENPI}/issues/566",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                'scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))',
                'scratch = path.with_name(f"{path.name}.orbax-checkpoint-tmp-0")\n    scratch.mkdir()',
            ),
        ),
        caught_by=("durability.killed_save_leaves_whole_checkpoints",),
    ),
    Fault(
        id="failed_save_is_silent",
        bugs=("E4",),
        story="A failed save is logged at best; the caller continues without a checkpoint.",
        evidence=f"{_OPENPI}/issues/728",
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "(_SECONDS_BETWEEN_REMOVALS)\n        raise",
                "(_SECONDS_BETWEEN_REMOVALS)\n        return",
            ),
        ),
        caught_by=("durability.full_disk_loses_nothing",),
    ),
    Fault(
        id="failed_save_keeps_its_scratch",
        story="A failed save leaves its partial files, so a full disk stays full.",
        evidence="mutation: no cleanup after an error",
        patches=(Patch("layouts/orbax/save.py", "shutil.rmtree(scratch, ignore_errors=True)", "scratch.exists()"),),
        caught_by=("durability.full_disk_loses_nothing",),
    ),
    Fault(
        id="digests_are_not_compared",
        bugs=("C18",),
        story="Whatever decodes counts as what was saved: zeros in the middle of a file become weights.",
        evidence=_RESTORE,
        patches=(Patch("layouts/orbax/read.py", "integrity.verify(stored.path, found, digests)", "pass"),),
        caught_by=(
            "durability.damaged_file_is_refused_or_harmless",
            "durability.other_numbers_are_refused_by_name",
            "durability.other_numbers_are_not_loaded",
            "durability.other_numbers_are_not_served",
        ),
    ),
    Fault(
        id="digests_are_compared_after_the_cast",
        story="Digests of stored values are compared with cast values, so every cast is refused.",
        evidence="mutation: verification after the cast instead of before it",
        patches=(
            Patch(
                "layouts/orbax/read.py",
                "dtype = array.leaf.dtype if path in plan.digests else leaf.dtype",
                "dtype = leaf.dtype",
            ),
        ),
        caught_by=("durability.saved_checkpoint_casts_as_asked",),
    ),
    Fault(
        id="a_cast_switches_verification_off",
        story="Digests are compared only without a cast, so a bfloat16 load accepts damaged numbers.",
        evidence="mutation: the easy way to avoid comparing after the cast",
        patches=(
            Patch(
                "layouts/orbax/read.py",
                "stored.digests if verify else {}",
                "{p: d for p, d in stored.digests.items() if dtypes.get(p) is None} if verify else {}",
            ),
        ),
        caught_by=("durability.other_numbers_are_refused_by_name",),
    ),
    Fault(
        id="digest_is_a_sum",
        story="The digest is a sum, so the same numbers in another order pass.",
        evidence="mutation: a statistic in place of a hash",
        patches=(
            Patch(
                "storage/digests.py",
                "hashed.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)",
                "hashed.update(f'{np.sort(little.reshape(-1)).sum(dtype=np.float64):.4g}'.encode())",
            ),
        ),
        caught_by=("durability.other_numbers_are_refused_by_name", "durability.other_numbers_are_not_loaded"),
    ),
    Fault(
        id="training_records_no_digests",
        bugs=("C18",),
        story="Digests are computed for numpy arrays only, so jax arrays saved by training have none.",
        evidence=_RESTORE,
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "integrity.record(params)",
                "integrity.record({p: x for p, x in params.items() if isinstance(x, np.ndarray)})",
            ),
        ),
        caught_by=(
            "durability.other_numbers_are_not_trained_on",
            "durability.other_numbers_of_a_run_are_not_restored",
        ),
    ),
    Fault(
        id="resuming_does_not_verify",
        bugs=("C18",),
        story="Serving compares digests but resuming does not, so training continues from damaged numbers.",
        evidence=_RESTORE,
        patches=(
            Patch(
                "training/runs.py",
                "dict.fromkeys(places), sharding=",
                "dict.fromkeys(places), verify=False, sharding=",
            ),
        ),
        caught_by=("durability.other_numbers_are_not_trained_on",),
    ),
    Fault(
        id="lost_parameters_are_not_missed",
        bugs=("P12",),
        story="A checkpoint whose list of arrays lacks a parameter restores as if it never existed.",
        evidence="https://github.com/google-deepmind/gemma/issues/161",
        patches=(
            Patch("storage/digests.py", "sorted(digests.keys() - leaves.keys()):", "[]:"),
            Patch(
                "storage/digests.py", "return dict(digests)", "return {p: d for p, d in digests.items() if p in leaves}"
            ),
        ),
        caught_by=("durability.lost_parameter_is_refused_by_name",),
    ),
    Fault(
        id="unchecked_integrity_is_not_said",
        bugs=("C18",),
        story="A load from a checkpoint without digests looks like one that verified every bit.",
        evidence=_RESTORE,
        patches=(Patch("storage/digests.py", "return (NOT_RECORDED,)", "return ()"),),
        caught_by=("durability.unguarded_checkpoint_is_said_to_be",),
    ),
    Fault(
        id="everything_is_called_unchecked",
        story="A load always says that integrity was not checked, so the note means nothing.",
        evidence="mutation: a constant in place of the condition",
        patches=(Patch("storage/digests.py", "    if not digests:\n", "    if True:\n"),),
        caught_by=("durability.guarded_checkpoint_needs_no_note",),
    ),
    Fault(
        id="one_reader_at_a_time",
        story="A reader locks the checkpoint while it reads, so a second reader fails.",
        evidence="mutation: an exclusive lock for reading",
        patches=(
            Patch(
                "layouts/orbax/read.py",
                "restored, found = _read(plan)",
                '(mark := stored.path.parent / ".reading").touch(exist_ok=False)\n'
                "    restored, found = _read(plan)\n"
                "    mark.unlink()",
            ),
        ),
        caught_by=("durability.two_readers_agree",),
    ),
)
