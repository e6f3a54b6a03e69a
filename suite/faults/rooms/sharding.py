"""Faults in training on several devices: everything on every device first, or parts in the wrong place."""

from suite.faults.fault import Fault, Patch

AT = "https://github.com/Physical-Intelligence/openpi/blob/15a9616"

FAULTS = (
    Fault(
        id="everything_is_on_every_device_first",
        bugs=("C15",),
        story="The whole checkpoint is read onto every device and split there.",
        evidence=f"{AT}/scripts/train.py#L123",
        patches=(
            Patch(
                "../suite/subjects/reference.py",
                "restored = checkpoints.restore_params(path, sharding=places.__getitem__)",
                "everywhere = checkpoints.restore_params(path)\n"
                "    restored = {name: jax.device_put(array, places[name]) for name, array in everywhere.items()}",
            ),
        ),
        caught_by=("sharding.restoring_gives_no_device_everything",),
    ),
    Fault(
        id="nothing_is_cut",
        bugs=("C15",),
        story="Arrays that belong in shards are on every device in full.",
        evidence=f"{AT}/scripts/train.py#L123",
        patches=(Patch("storage/placement.py", "if len(axes) > 1 and divisible", "if len(axes) > 9 and divisible"),),
        caught_by=("sharding.restores_in_parts", "sharding.begins_in_parts", "sharding.resumes_in_parts"),
    ),
    Fault(
        id="every_device_gets_the_first_part",
        story="Every device gets the first part of an array.",
        evidence="mutation: the offset of a part is dropped",
        patches=(
            Patch(
                "storage/placement.py",
                "lambda index: host[index])",
                "lambda index: host[tuple(slice(i.stop and i.stop - (i.start or 0)) for i in index)])",
            ),
        ),
        caught_by=(
            "sharding.steps_equal_those_of_one_device",
            "sharding.resumes_on_fewer_devices",
            "sharding.resumes_its_average_on_fewer_devices",
            "sharding.two_processes_train_together",
        ),
    ),
    Fault(
        id="resumes_where_it_was_saved",
        bugs=("E1",),
        story="A resumed state goes to the devices it was saved from instead of the requested ones.",
        evidence=f"{AT}/scripts/train.py#L240",
        patches=(
            Patch(
                "training/runs.py",
                "ocp.ArrayRestoreArgs(sharding=leaf.sharding, dtype=leaf.dtype, global_shape=leaf.shape)",
                "ocp.ArrayRestoreArgs(dtype=leaf.dtype, global_shape=leaf.shape)",
            ),
        ),
        caught_by=(
            "sharding.resumes_on_fewer_devices",
            "sharding.resumes_in_parts",
            "sharding.holds_everything_on_one_device",
        ),
    ),
)
