"""Verdicts on made-up counts: which changes are worse, and which counts vary by themselves."""

from typing import Any

import pytest

from benchmarks.gate import counting
from benchmarks.gate.findings import Finding
from benchmarks.gate.gate_cells import cells
from benchmarks.gate.metrics import COUNTED

CELL = cells()[0]
LEAF = ["bfloat16", [2, 3], "0" * 64, "1 device"]


def counts(losses: list[float] | None = None, leaves: dict[str, Any] | None = None, **values: float | None) -> Any:
    """Return the counts of one worker."""
    answer: dict[str, Any] = {"values": dict.fromkeys(COUNTED, 100) | values, "cpu_s": 0.1}
    if losses is not None:
        return answer | {"losses": losses, "program": "abc"}
    return answer | {"leaves": leaves or {"a": LEAF, "b": LEAF}}


def findings(old: list[Any], new: list[Any]) -> dict[str, Finding]:
    return {finding.metric: finding for finding in counting.compare(CELL, old, new)}


@pytest.mark.parametrize("metric", COUNTED)
@pytest.mark.parametrize(("change", "verdict"), [(1.2, "regressed"), (0.8, "improved"), (1.0, "same")])
def test_more_is_worse(metric: str, change: float, verdict: str) -> None:
    if metric == "alias_bytes":
        verdict = {"regressed": "improved", "improved": "regressed"}.get(verdict, verdict)
    million: dict[str, Any] = {metric: 1e6}
    changed = findings([counts(**million)], [counts(**{name: change * number for name, number in million.items()})])
    assert changed.pop(metric).verdict == verdict
    assert {finding.verdict for finding in changed.values()} == {"same"}


def test_reads_may_differ_by_little() -> None:
    assert findings([counts(bytes_read=10**6)], [counts(bytes_read=1_040_000)])["bytes_read"].verdict == "same"
    assert findings([counts()], [counts(bytes_read=4000)])["bytes_read"].verdict == "same"
    assert findings([counts()], [counts(bytes_allocated=101)])["bytes_allocated"].verdict == "regressed"


def test_from_nothing_to_something_is_worse() -> None:
    finding = findings([counts(compiles_again=0)], [counts(compiles_again=2)])["compiles_again"]
    assert (finding.verdict, finding.ratio) == ("regressed", None)


@pytest.mark.parametrize(
    "leaf",
    [["float32", *LEAF[1:]], ["bfloat16", [3, 2], *LEAF[2:]], [*LEAF[:2], "1" * 64, LEAF[3]], [*LEAF[:3], "host"]],
    ids=["dtype", "shape", "values", "placement"],
)
def test_another_leaf_is_worse(leaf: list[Any]) -> None:
    finding = findings([counts()], [counts(leaves={"a": LEAF, "b": leaf})])["result"]
    assert (finding.verdict, "1 of 2 parameters" in finding.note, "b" in finding.note) == ("regressed", True, True)


@pytest.mark.parametrize("leaves", [{"a": LEAF}, {"a": LEAF, "b": LEAF, "c": LEAF}], ids=["lost", "added"])
def test_other_leaves_are_worse(leaves: dict[str, Any]) -> None:
    finding = findings([counts()], [counts(leaves=leaves)])["result"]
    assert (finding.verdict, "nothing" in (finding.old, finding.new)) == ("regressed", True)


def test_losses_may_be_rounded() -> None:
    assert findings([counts([1.0, 0.5])], [counts([1.0, 0.50001])])["losses"].verdict == "same"
    assert findings([counts([1.0, 0.5])], [counts([1.0, 0.501])])["losses"].verdict == "regressed"


def test_a_count_that_varies_on_one_side_is_unstable() -> None:
    finding = findings([counts(), counts()], [counts(compiles=101), counts()])["compiles"]
    assert (finding.verdict, "100, 101" in finding.note) == ("unstable", True)
    shaky = counts(leaves={"a": LEAF, "b": [*LEAF[:2], "1" * 64, LEAF[3]]})
    assert findings([counts(), counts()], [shaky, counts()])["result"].verdict == "unstable"


def test_growth_beyond_the_variation_is_a_regression() -> None:
    old, new = [counts(flops=17), counts(flops=17)], [counts(flops=3054), counts(flops=3320)]
    assert findings(old, new)["flops"].verdict == "regressed"


def test_unstable_values_do_not_hide_a_wrong_dtype() -> None:
    values, dtype = [*LEAF[:2], "1" * 64, LEAF[3]], ["float32", *LEAF[1:]]
    new = [counts(leaves={"a": values, "b": dtype}), counts(leaves={"a": LEAF, "b": dtype})]
    assert findings([counts(), counts()], new)["result"].verdict == "regressed"


def test_a_count_that_one_side_lacks_is_skipped() -> None:
    assert findings([counts()], [counts(bytes_allocated=None)])["bytes_allocated"].verdict == "skipped"
    assert "bytes_allocated" not in findings([counts(bytes_allocated=None)], [counts(bytes_allocated=None)])


def test_only_programs_can_be_the_same() -> None:
    assert counting.same_program(counts([1.0]), counts([1.0]))
    assert not counting.same_program(counts([1.0]), counts([1.0]) | {"program": "other"})
    assert not counting.same_program(counts(), counts())


def test_equal_counts_do_not_differ() -> None:
    assert not counting.differ(CELL, counts(), counts())
    assert counting.differ(CELL, counts(), counts(bytes_held=99))
