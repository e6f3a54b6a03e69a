"""Faults in what becomes of a checkpoint when something dies, is damaged, or is read by two."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_RESTORE = f"{_OPENPI}/blob/15a9616/src/openpi/models/model.py#L281"

FAULTS = (
    Fault(
        id="save_appears_piece_by_piece",
        story="Files are copied to the target one after the other: a save that is killed leaves half a checkpoint.",
        evidence="mutation: a copy where a rename is meant",
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
        story="The scratch folder has a fixed name: what a killed save left there makes the next one fail.",
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
        story="An error while saving is logged at best; the caller goes on and has no checkpoint.",
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
        story="A save that fails leaves what it wrote: a disk that is full stays full.",
        evidence="mutation: no cleaning up after an error",
        patches=(Patch("layouts/orbax/save.py", "shutil.rmtree(scratch, ignore_errors=True)", "scratch.exists()"),),
        caught_by=("durability.full_disk_loses_nothing",),
    ),
    Fault(
        id="digests_are_not_compared",
        bugs=("C18",),
        story="What decodes is taken for what was saved: zeros in the middle of a file become weights.",
        evidence=_RESTORE,
        patches=(Patch("layouts/orbax/restore.py", "integrity.verify(stored.path, found, digests)", "pass"),),
        caught_by=(
            "durability.damaged_file_is_refused_or_harmless",
            "durability.other_numbers_are_refused_by_name",
            "durability.other_numbers_are_not_loaded",
        ),
    ),
    Fault(
        id="digests_are_compared_after_the_cast",
        story="Digests of stored values are compared with cast ones: whoever asks for a dtype is refused.",
        evidence="mutation: verification after the cast instead of before it",
        patches=(
            Patch(
                "layouts/orbax/restore.py",
                "dtype = array.leaf.dtype if path in plan.digests else leaf.dtype",
                "dtype = leaf.dtype",
            ),
        ),
        caught_by=("durability.saved_checkpoint_casts_as_asked",),
    ),
    Fault(
        id="a_cast_switches_verification_off",
        story="Digests are compared only where nothing is cast: a bfloat16 load takes damaged numbers.",
        evidence="mutation: the easy way out of comparing after the cast",
        patches=(
            Patch(
                "layouts/orbax/restore.py",
                "stored.digests if verify else {}",
                "{p: d for p, d in stored.digests.items() if dtypes.get(p) is None} if verify else {}",
            ),
        ),
        caught_by=("durability.other_numbers_are_refused_by_name",),
    ),
    Fault(
        id="digest_is_a_sum",
        story="The digest is the sum of the numbers: the same numbers in another order pass.",
        evidence="mutation: statistics in the place of a hash",
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
        story="Digests are made of numpy arrays only: what a training saves, jax arrays, has none.",
        evidence=_RESTORE,
        patches=(
            Patch(
                "layouts/orbax/save.py",
                "integrity.record(params)",
                "integrity.record({p: x for p, x in params.items() if isinstance(x, np.ndarray)})",
            ),
        ),
        caught_by=("durability.other_numbers_are_not_trained_on",),
    ),
    Fault(
        id="resuming_does_not_verify",
        bugs=("C18",),
        story="Serving compares digests, resuming does not: a training goes on from damaged numbers.",
        evidence=_RESTORE,
        patches=(
            Patch(
                "training/runs.py",
                "dict.fromkeys(places), restore_type=jax.Array,",
                "dict.fromkeys(places), verify=False, restore_type=jax.Array,",
            ),
        ),
        caught_by=("durability.other_numbers_are_not_trained_on",),
    ),
    Fault(
        id="lost_parameters_are_not_missed",
        bugs=("P12",),
        story="A checkpoint that lost a parameter from its list restores as if it had never had it.",
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
        story="A load from a checkpoint without digests looks like one whose every bit was compared.",
        evidence=_RESTORE,
        patches=(Patch("storage/digests.py", "return (NOT_RECORDED,)", "return ()"),),
        caught_by=("durability.unguarded_checkpoint_is_said_to_be",),
    ),
    Fault(
        id="everything_is_called_unchecked",
        story="A load says that integrity was not checked although it was: a note that is always there tells nothing.",
        evidence="mutation: a constant in the place of the condition",
        patches=(Patch("storage/digests.py", "    if not digests:\n", "    if True:\n"),),
        caught_by=("durability.unguarded_checkpoint_is_said_to_be",),
    ),
    Fault(
        id="one_reader_at_a_time",
        story="A reader marks the checkpoint as taken while it reads: a second one fails.",
        evidence="mutation: an exclusive lock for reading",
        patches=(
            Patch(
                "layouts/orbax/restore.py",
                "restored, found = _read(plan)",
                '(mark := stored.path.parent / ".reading").touch(exist_ok=False)\n'
                "    restored, found = _read(plan)\n"
                "    mark.unlink()",
            ),
        ),
        caught_by=("durability.two_readers_agree",),
    ),
)
