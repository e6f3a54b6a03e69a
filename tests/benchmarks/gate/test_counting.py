"""What is said of counts that are made up: which changes are worse, and what is not counted the same twice."""

from typing import Any

import pytest

from benchmarks.gate import counting
from benchmarks.gate.cells import cells
from benchmarks.gate.findings import Finding
from benchmarks.gate.metrics import COUNTED

CELL = cells()[0]
LEAF = ["bfloat16", [2, 3], "0" * 64, "1 device"]


def counts(losses: list[float] | None = None, leaves: dict[str, Any] | None = None, **values: float | None) -> Any:
    """What a worker tells."""
    told: dict[str, Any] = {"values": dict.fromkeys(COUNTED, 100) | values, "cpu_s": 0.1}
    if losses is not None:
        return told | {"losses": losses, "program": "abc"}
    return told | {"leaves": leaves or {"a": LEAF, "b": LEAF}}


def found(old: list[Any], new: list[Any]) -> dict[str, Finding]:
    return {finding.metric: finding for finding in counting.compare(CELL, old, new)}


@pytest.mark.parametrize("metric", COUNTED)
@pytest.mark.parametrize(("change", "verdict"), [(1.2, "regressed"), (0.8, "improved"), (1.0, "same")])
def test_more_is_worse(metric: str, change: float, verdict: str) -> None:
    if metric == "alias_bytes":
        verdict = {"regressed": "improved", "improved": "regressed"}.get(verdict, verdict)
    million: dict[str, Any] = {metric: 1e6}
    told = found([counts(**million)], [counts(**{name: change * number for name, number in million.items()})])
    assert told.pop(metric).verdict == verdict
    assert {finding.verdict for finding in told.values()} == {"same"}


def test_reads_may_differ_by_little() -> None:
    assert found([counts(bytes_read=10**6)], [counts(bytes_read=1_040_000)])["bytes_read"].verdict == "same"
    assert found([counts()], [counts(bytes_read=4000)])["bytes_read"].verdict == "same"
    assert found([counts()], [counts(bytes_allocated=101)])["bytes_allocated"].verdict == "regressed"


def test_from_nothing_to_something_is_worse() -> None:
    told = found([counts(compiles_again=0)], [counts(compiles_again=2)])["compiles_again"]
    assert (told.verdict, told.ratio) == ("regressed", None)


@pytest.mark.parametrize(
    "leaf",
    [["float32", *LEAF[1:]], ["bfloat16", [3, 2], *LEAF[2:]], [*LEAF[:2], "1" * 64, LEAF[3]], [*LEAF[:3], "host"]],
    ids=["dtype", "shape", "values", "placement"],
)
def test_another_leaf_is_worse(leaf: list[Any]) -> None:
    told = found([counts()], [counts(leaves={"a": LEAF, "b": leaf})])["result"]
    assert (told.verdict, "1 of 2 parameters" in told.note, "b" in told.note) == ("regressed", True, True)


@pytest.mark.parametrize("leaves", [{"a": LEAF}, {"a": LEAF, "b": LEAF, "c": LEAF}], ids=["lost", "added"])
def test_other_leaves_are_worse(leaves: dict[str, Any]) -> None:
    told = found([counts()], [counts(leaves=leaves)])["result"]
    assert (told.verdict, "nothing" in (told.old, told.new)) == ("regressed", True)


def test_losses_may_be_rounded() -> None:
    assert found([counts([1.0, 0.5])], [counts([1.0, 0.50001])])["losses"].verdict == "same"
    assert found([counts([1.0, 0.5])], [counts([1.0, 0.501])])["losses"].verdict == "regressed"


def test_what_varies_on_one_side_is_no_regression() -> None:
    told = found([counts(), counts()], [counts(compiles=101), counts()])["compiles"]
    assert (told.verdict, "100, 101" in told.note) == ("unstable", True)
    shaky = counts(leaves={"a": LEAF, "b": [*LEAF[:2], "1" * 64, LEAF[3]]})
    assert found([counts(), counts()], [shaky, counts()])["result"].verdict == "unstable"


def test_what_varies_less_than_it_grew_is_a_regression() -> None:
    old, new = [counts(flops=17), counts(flops=17)], [counts(flops=3054), counts(flops=3320)]
    assert found(old, new)["flops"].verdict == "regressed"


def test_what_varies_hides_nothing_else() -> None:
    values, dtype = [*LEAF[:2], "1" * 64, LEAF[3]], ["float32", *LEAF[1:]]
    new = [counts(leaves={"a": values, "b": dtype}), counts(leaves={"a": LEAF, "b": dtype})]
    assert found([counts(), counts()], new)["result"].verdict == "regressed"


def test_what_one_side_does_not_know_is_said() -> None:
    assert found([counts()], [counts(bytes_allocated=None)])["bytes_allocated"].verdict == "skipped"
    assert "bytes_allocated" not in found([counts(bytes_allocated=None)], [counts(bytes_allocated=None)])


def test_only_programs_can_be_the_same() -> None:
    assert counting.same_program(counts([1.0]), counts([1.0]))
    assert not counting.same_program(counts([1.0]), counts([1.0]) | {"program": "other"})
    assert not counting.same_program(counts(), counts())


def test_what_is_the_same_is_not_looked_at_again() -> None:
    assert not counting.differ(CELL, counts(), counts())
    assert counting.differ(CELL, counts(), counts(bytes_held=99))
