"""Faults that cost memory: unnecessary copies, and arrays that are kept while others are made from them."""

from suite.faults.fault import Fault, Patch

OPENPI = "https://github.com/Physical-Intelligence/openpi"
AT = f"{OPENPI}/blob/15a9616"

FAULTS = (
    Fault(
        id="every_leaf_is_copied",
        bugs=("C13", "P6"),
        story="Every array is copied once more while the original tree is still in memory.",
        evidence=f"{OPENPI}/commit/0fffc72",
        patches=(
            Patch(
                "layouts/orbax/read.py",
                "    return dict(sorted(restored.items()))",
                "    return {path: np.array(array) for path, array in sorted(restored.items())}",
            ),
        ),
        caught_by=("resources.restores_within_its_budget", "resources.loads_within_its_budget"),
    ),
    Fault(
        id="everything_is_read_before_it_is_cast",
        bugs=("C14",),
        story="All arrays are read in the file's dtype before the first one is cast.",
        evidence=f"{AT}/src/openpi/training/weight_loaders.py#L58",
        patches=(
            Patch(
                "layouts/orbax/read.py",
                "if path in plan.digests else leaf.dtype",
                "if path in plan.dtypes else leaf.dtype",
            ),
            Patch("layouts/orbax/read.py", "return _cast(plan, path, array)\n\n    def", "return array\n\n    def"),
            Patch(
                "layouts/orbax/read.py",
                "    return dict(sorted(restored.items()))",
                "    cast = {path: _cast(plan, path, array) for path, array in restored.items()}\n"
                "    return dict(sorted(cast.items()))",
            ),
        ),
        caught_by=("resources.restores_within_its_budget",),
    ),
    Fault(
        id="float32_tree_is_kept_while_it_is_cast",
        bugs=("C14",),
        story="A checkpoint is loaded completely in float32, and frozen parameters are cast afterward.",
        evidence=f"{AT}/scripts/train.py#L106",
        patches=(Patch("training/step.py", "seed=seed, frozen_dtype=config.frozen_dtype)", "seed=seed)"),),
        caught_by=("resources.begins_within_its_budget",),
    ),
)
