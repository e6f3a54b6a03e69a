"""What a load reports, in every layout: each parameter of model and checkpoint once, as what happened to it."""

import numpy as np

from suite.contracts import fitting, starts
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, assert_same_paths
from suite.writing.layouts import Case, Outcome, every_layout
from suite.writing.loads import Loads

NEEDS = ("load", "load_report")


def paths_with(outcome: Outcome, status: str) -> list[str]:
    """Return the paths that a load reports with a status."""
    return [path for path, found in outcome.loaded()["report"].items() if found == status]


@contract(source="docs/bugs.md#rule-5, #c1", needs=(*NEEDS, "param_spec"))
@every_layout(starts.bases)
def test_lists_every_parameter(subject: Subject, loads: Loads, case: Case) -> None:
    """The report has every parameter of the model; whatever else it has is dropped."""
    report = loads(case).loaded()["report"]
    assert_same_paths([path for path in report if report[path] != "dropped"], subject.param_spec(case.model))


@contract(source="docs/bugs.md#rule-5, #p1", needs=NEEDS)
@every_layout(starts.bases)
def test_calls_loaded_what_is_stored(loads: Loads, case: Case) -> None:
    """Reported as loaded are all parameters that the checkpoint holds in the model's dtype, and no others."""
    assert_same_paths(paths_with(loads(case), "loaded"), case.expected())


@contract(source="docs/bugs.md#rule-5, #c6; openpi scripts/train.py:77", needs=NEEDS)
@every_layout(starts.halves)
def test_calls_cast_what_is_cast(loads: Loads, case: Case) -> None:
    """Reported as cast are all parameters that the checkpoint holds in another dtype, and no others."""
    shown = case.expected()
    other = [path for path, array in case.written().items() if path in shown and array.dtype != np.float32]
    assert other
    assert_same_paths(paths_with(loads(case), "cast"), other)


@contract(source="docs/bugs.md#rule-5, #c5; openpi #283", needs=(*NEEDS, "param_spec"))
@every_layout(starts.lacking, empty=starts.WHOLE)
def test_calls_initialized_what_is_lacking(subject: Subject, loads: Loads, case: Case) -> None:
    """Reported as initialized are all parameters that the checkpoint lacks, and no others."""
    fresh = set(subject.param_spec(case.model)) - case.expected().keys()
    assert fresh
    assert_same_paths(paths_with(loads(case), "initialized"), fresh)


@contract(source="docs/bugs.md#rule-5, #c1, #p10; ZibinDong/openpi_pytorch #2", needs=NEEDS)
@every_layout(starts.with_unused, empty=starts.NO_UNUSED)
def test_calls_dropped_what_the_model_lacks(loads: Loads, case: Case) -> None:
    """A tensor that the model does not have is reported as dropped, and nothing else is dropped because of it."""
    before, dropped = (paths_with(loads(each), "dropped") for each in (fitting.plain(case.layout), case))
    # Wrappers' names may be left out, and openpi's name be used.
    unused = starts.UNUSED[case.layout.name].removeprefix("model.paligemma").removeprefix("params/")
    [found] = set(dropped) - set(before)
    assert found.endswith(unused)


@contract(source="lerobot #4577; docs/bugs.md#p1, #rule-4", needs=NEEDS)
@every_layout(starts.bases)
def test_what_is_called_loaded_does_not_depend_on_the_seed(loads: Loads, case: Case) -> None:
    """Two loads with two seeds agree bit for bit on whatever they report as loaded."""
    first, second = (loads(case, seed=seed) for seed in (0, 1))
    loaded = paths_with(first, "loaded")
    assert loaded
    assert_same_bits({path: first.params[path] for path in loaded}, {path: second.params[path] for path in loaded})


@contract(source="docs/bugs.md#c6: a diverged run was saved", needs=NEEDS)
@every_layout(starts.not_finite)
def test_counts_what_is_not_finite(loads: Loads, case: Case) -> None:
    """The numbers that are not finite are counted for each parameter that has any; a sound checkpoint has none."""
    counts = {path: int((~np.isfinite(array)).sum()) for path, array in case.expected().items()}
    assert loads(case).loaded()["nonfinite"] == {path: count for path, count in counts.items() if count}
