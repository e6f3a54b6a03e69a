"""Anomaly checks on values: NaN and infinities, constants, untrained initialization; and no alarm on trained values."""

from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures import content, golden_cases, specs
from fixtures.writers import openpi
from pi0_compat import Pi0Config
from pi0_compat.checkpoints.values import Finding, examine
from pi0_compat.params import Leaf, leaves_of
from pi0_compat.storage.stream import Source
from tests.pi0_compat.tiny_models import Params

CONFIG = Pi0Config.from_json({**specs.tiny(lora="both"), "vocab_size": 4096})
Q = "PaliGemma/llm/layers/attn/q_einsum/w"


class InMemoryParams(Source):
    """Arrays in memory as a source of parameters."""

    path = Path("memory")

    def __init__(self, params: Params) -> None:
        self.leaves: dict[str, Leaf] = leaves_of(params)
        self._params = params

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield slabs of two rows, so that arrays have several."""
        return iter([self._params[path][row : row + 2] for row in range(0, len(self._params[path]), 2)])


def trained(dtype: str = "float32") -> Params:
    """Return the parameters of the fixture's model."""
    return content.params({**specs.tiny(lora="both"), "vocab_size": 4096}, 0, dtype)


def alarms(params: Params) -> list[Finding]:
    return [finding for finding in examine(InMemoryParams(params)) if not finding.expected]


def changed(path: str, change: Callable[[np.ndarray], None]) -> Params:
    params = trained()
    params[path] = params[path].copy()
    change(params[path])
    return params


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_trained_values_raise_no_alarm(dtype: str) -> None:
    """A model without the initializer's values raises no alarm."""
    assert alarms(trained(dtype)) == []


@pytest.mark.parametrize("case", golden_cases.find_cases(), ids=lambda case: case.name)
def test_golden_values_raise_no_alarm(case: Path) -> None:
    """openpi's own checkpoints of random values raise no alarm."""
    assert alarms(openpi.read_params(case / "params")) == []


def test_values_that_are_not_finite_are_counted() -> None:
    """NaN and infinities are counted separately."""

    def damage(array: np.ndarray) -> None:
        array.reshape(-1)[:3] = [np.nan, np.inf, np.nan]

    (finding,) = alarms(changed(Q, damage))
    assert str(finding) == f"{Q}: values that are not finite (2 NaN and 1 infinite of {trained()[Q].size})"


def test_zeros_are_an_alarm_in_weights() -> None:
    """A weight of zeros is an alarm."""
    (finding,) = alarms(changed(Q, lambda array: array.fill(0)))
    assert str(finding) == f"{Q}: all zero (all {trained()[Q].size} values are 0)"


def test_a_constant_weight_is_an_alarm() -> None:
    """A weight with a single value is an alarm; for a norm at its initial value the evidence says so."""
    (finding,) = alarms(changed(Q, lambda array: array.fill(0.25)))
    assert (finding.finding, finding.evidence) == ("constant", f"all {trained()[Q].size} values are 0.25")
    (finding,) = alarms(changed("PaliGemma/llm/final_norm_1/scale", lambda array: array.fill(0)))
    assert finding.evidence == "all 36 values are 0, as freshly initialized"


def test_zero_biases_are_expected() -> None:
    """A bias may stay zero; it is reported as expected."""
    path = "PaliGemma/img/head/bias"
    findings = examine(InMemoryParams(changed(path, lambda array: array.fill(0))))
    assert [(finding.path, finding.expected) for finding in findings] == [(path, True)]


def test_a_fresh_lora_b_is_expected() -> None:
    """A lora_b of zeros belongs to a fresh adapter and is expected."""
    path = "PaliGemma/llm/layers/attn/q_einsum/lora_b"
    findings = examine(InMemoryParams(changed(path, lambda array: array.fill(0))))
    assert [(finding.path, finding.expected) for finding in findings] == [(path, True)]
    assert "a fresh adapter, which adds nothing yet" in findings[0].evidence


def test_a_lost_layer_is_an_alarm() -> None:
    """A layer of zeros within a stack is counted."""
    (finding,) = alarms(changed(Q, lambda array: array[1].fill(0)))
    assert str(finding) == f"{Q}: constant layers (1 of 3)"


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("seed", range(4))
def test_fresh_values_are_reported(dtype: type, seed: int) -> None:
    """Every array of a fresh model that is large enough is reported as fresh; biases and adapters are expected."""
    fresh = {path: array.astype(dtype) for path, array in CONFIG.init_params(seed).items()}
    findings = {finding.path: finding for finding in examine(InMemoryParams(fresh))}
    large = {path for path, array in fresh.items() if array.size >= 4096}
    assert len(large) > 10
    assert large <= findings.keys()
    assert "spread as the initializer draws them: chi-square" in findings[Q].evidence
    assert not findings[Q].expected
    assert findings["PaliGemma/llm/layers/mlp/gating_einsum_lora_a"].expected


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_another_spread_is_not_fresh(scale: float) -> None:
    """Values whose spread differs from the initializer's by ten percent are not called fresh."""
    table = "PaliGemma/llm/embedder/input_embedding"
    fresh = CONFIG.init_params(0, only=[table])
    assert len(examine(InMemoryParams(fresh))) == 1
    assert examine(InMemoryParams({table: fresh[table] * np.float32(scale)})) == []


def test_a_short_training_is_not_fresh() -> None:
    """An array whose values moved by a tenth of their spread is not called fresh."""
    table = "PaliGemma/llm/embedder/input_embedding"
    fresh = CONFIG.init_params(0, only=[table])[table]
    moved = fresh + np.float32(0.02) * np.sign(fresh)
    assert examine(InMemoryParams({table: moved})) == []


def test_openpis_fresh_lora_b_is_known() -> None:
    """openpi draws lora_b as it draws lora_a, which is reported as expected."""
    path = "PaliGemma/llm/layers/mlp/gating_einsum_lora_b"
    drawn = np.random.default_rng(0).normal(0, 0.01, (3, 2, 13, 88)).astype(np.float32)
    (finding,) = examine(InMemoryParams({path: drawn}))
    assert (finding.finding, finding.expected) == ("looks freshly initialized", True)


def test_unknown_arrays_and_integers_are_ignored() -> None:
    """Arrays of no pi0 model, or flat ones, are only checked for constants, and integers not at all."""
    assert examine(InMemoryParams({Q: np.arange(9999, dtype=np.float32)})) == []
    assert examine(InMemoryParams({"other": np.arange(9999, dtype=np.float32), "codes": np.zeros(9, np.int8)})) == []


def test_progress_is_reported() -> None:
    """The bytes of every array are reported when it is done."""
    done: list[int] = []
    params = trained()
    examine(InMemoryParams(params), done.append)
    assert sum(done) == sum(array.nbytes for array in params.values())
