"""Damaged checkpoints in every layout: critical damage is refused by name, harmless oddities load as written."""

from suite.contracts import damages
from suite.contracts.load_asserts import assert_landed
from suite.session.registry import contract
from suite.writing.layouts import Case, every_layout
from suite.writing.loads import Loads
from suite.writing.refusals import assert_names, assert_rejected

SOURCE = "the damage's entry in fixtures/damage"


@contract(source=SOURCE, needs=("load",))
@every_layout(damages.critical)
def test_is_refused(loads: Loads, case: Case) -> None:
    """A checkpoint with critical damage, to its tensors or its files, is refused."""
    assert_rejected(loads(case))


@contract(source=SOURCE, needs=("load",))
@every_layout(damages.critical)
def test_is_named(loads: Loads, case: Case) -> None:
    """The error about a damaged checkpoint names its file or folder."""
    outcome = loads(case)
    assert_names(outcome, str(outcome.path))


@contract(source=SOURCE, needs=("load",))
@every_layout(damages.critical)
def test_refusal_changes_no_file(loads: Loads, case: Case) -> None:
    """A load of a damaged checkpoint changes, makes and deletes no file."""
    assert loads(case).changed == ()


@contract(source=SOURCE, needs=("load",))
@every_layout(damages.harmless, empty=damages.NO_ODDITY)
def test_harmless_oddity_loads(loads: Loads, case: Case) -> None:
    """A checkpoint with a harmless oddity loads with the written values."""
    assert_landed(loads(case).params, case.expected())


@contract(source=SOURCE, needs=("load_for_inference",))
@every_layout(damages.served, empty=damages.NOT_SERVED)
def test_is_not_served(loads: Loads, case: Case) -> None:
    """A checkpoint with critical damage is refused for serving."""
    assert_rejected(loads.serve(case))


@contract(source=SOURCE, needs=("load_for_inference",))
@every_layout(damages.harmless_served, empty=damages.NOT_SERVED)
def test_harmless_oddity_is_served(loads: Loads, case: Case) -> None:
    """A checkpoint with a harmless oddity is served with the written values."""
    served = loads.serve(case).params
    assert_landed({path: array.astype("float32") for path, array in served.items()}, case.expected())
