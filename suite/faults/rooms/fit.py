"""Faults in loading checkpoints that fit, of any layout: numbers and layers that get lost on the way."""

from suite.faults.fault import Fault, Patch

_LOADERS = "https://github.com/Physical-Intelligence/openpi/blob/15a9616/src/openpi/training/weight_loaders.py"
_READ = "    return loaded, dataclasses.replace(\n"
_LOADED = "    loaded = {p: x for p, x in loaded.items() if stored.leaves[p].dtype == expected[p].dtype}\n"
_SORTED = (
    "    order = {p: sorted(range(len(x)), key=str) for p, x in loaded.items() if 'layers/' in p}\n"
    "    loaded = {p: x[order[p]] if p in order else x for p, x in loaded.items()}\n"
)

FAULTS = (
    Fault(
        id="other_dtypes_stay_fresh",
        story="A parameter keeps its fresh value wherever checkpoint and model differ in dtype.",
        evidence=f"{_LOADERS}#L97",
        patches=(
            Patch(
                "loading/loaders.py",
                _READ,
                _LOADED + _READ,
            ),
        ),
        caught_by=("fit.casts_exactly",),
    ),
    Fault(
        id="stacked_layers_are_sorted_as_text",
        story="The layers of an openpi checkpoint are put in the order of their numbers as text: 10 before 2.",
        evidence="a typical mistake: names with numbers in them, sorted",
        patches=(
            Patch(
                "loading/loaders.py",
                _READ,
                _SORTED + _READ,
            ),
        ),
        caught_by=("fit.fills_the_model",),
    ),
    Fault(
        id="not_finite_becomes_zero",
        story="NaN becomes zero and infinity the largest number, so a diverged checkpoint looks sound.",
        evidence="a typical mistake: numpy.nan_to_num over everything that is loaded",
        patches=(
            Patch(
                "loading/match.py",
                "    return dict(sorted((loaded | cast).items()))",
                "    return {path: np.nan_to_num(array) for path, array in sorted((loaded | cast).items())}",
            ),
        ),
        caught_by=("fit.keeps_unusual_values",),
    ),
    Fault(
        id="a_load_leaves_a_mark",
        story="A load marks the folder of a checkpoint as seen, before it knows whether it can be loaded.",
        evidence="a typical mistake: a cache or lock file beside the data that is read",
        patches=(
            Patch(
                "loading/loaders.py",
                "    refuse_half_adapters(source, stored.leaves)\n",
                '    open(f"{source}/seen", "w").close()\n    refuse_half_adapters(source, stored.leaves)\n',
            ),
        ),
        caught_by=(
            "damage.refusal_changes_no_file",
            "start.changes_no_file",
        ),
    ),
    Fault(
        id="strays_become_parameters",
        story="What the model has no place for is loaded under its own name, and the optimizer trains it.",
        evidence="a typical mistake: dict.update with everything that is in the file",
        patches=(
            Patch(
                "loading/loaders.py",
                _READ,
                "    extra = {e.path: None for e in entries if e.status is Status.DROPPED}\n"
                "    loaded |= restore_leaves(stored, extra, verify=False)\n" + _READ,
            ),
        ),
        caught_by=("fit.a_stray_changes_no_parameter",),
    ),
)
