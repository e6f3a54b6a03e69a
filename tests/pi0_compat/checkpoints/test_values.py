"""What values give away: not finite, constant, as initialised; and what trained ones never do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures import content, golden_cases, specs
from fixtures.writers import openpi_orbax
from pi0_compat import Pi0Config
from pi0_compat.checkpoints.values import Finding, examine
from pi0_compat.params import Leaf, leaves_of
from pi0_compat.storage.stream import Source
from tests.pi0_compat.tiny_models import Params

CONFIG = Pi0Config.from_json({**specs.tiny(lora="both"), "vocab_size": 4096})
Q = "PaliGemma/llm/layers/attn/q_einsum/w"


class Held(Source):
    """Arrays in memory as parameters."""

    path = Path("memory")

    def __init__(self, params: Params) -> None:
        self.leaves: dict[str, Leaf] = leaves_of(params)
        self._params = params

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """In slabs of two rows, so that there are several."""
        return iter([self._params[path][row : row + 2] for row in range(0, len(self._params[path]), 2)])


def trained(dtype: str = "float32") -> Params:
    """A model that the fixture drew."""
    return content.params({**specs.tiny(lora="both"), "vocab_size": 4096}, 0, dtype)


def alarms(params: Params) -> list[Finding]:
    return [finding for finding in examine(Held(params)) if not finding.expected]


def changed(path: str, change: Callable[[np.ndarray], None]) -> Params:
    params = trained()
    params[path] = params[path].copy()
    change(params[path])
    return params


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_is_wrong_with_trained_values(dtype: str) -> None:
    """A model whose values are not those of the initialiser raises no alarm."""
    assert alarms(trained(dtype)) == []


@pytest.mark.parametrize("case", golden_cases.find_cases(), ids=lambda case: case.name)
def test_nothing_is_wrong_with_golden_values(case: Path) -> None:
    """Neither do openpi's own checkpoints of random values."""
    assert alarms(openpi_orbax.read_params(case / "params")) == []


def test_what_is_not_finite_is_counted() -> None:
    """NaN and infinities are counted apart."""

    def damage(array: np.ndarray) -> None:
        array.reshape(-1)[:3] = [np.nan, np.inf, np.nan]

    (found,) = alarms(changed(Q, damage))
    assert str(found) == f"{Q}: values that are not finite (2 NaN and 1 infinite of {trained()[Q].size})"


def test_zeros_are_an_alarm_in_weights() -> None:
    """A weight that is all zero is an alarm."""
    (found,) = alarms(changed(Q, lambda array: array.fill(0)))
    assert str(found) == f"{Q}: all zero (all {trained()[Q].size} values are 0)"


def test_a_constant_weight_is_an_alarm() -> None:
    """A weight of one value is an alarm; a norm of the value that it is initialised with says so."""
    (found,) = alarms(changed(Q, lambda array: array.fill(0.25)))
    assert (found.finding, found.evidence) == ("constant", f"all {trained()[Q].size} values are 0.25")
    (found,) = alarms(changed("PaliGemma/llm/final_norm_1/scale", lambda array: array.fill(0)))
    assert found.evidence == "all 36 values are 0, as freshly initialised"


def test_zero_biases_are_expected() -> None:
    """A bias may stay zero; it is told, and no alarm."""
    path = "PaliGemma/img/head/bias"
    found = examine(Held(changed(path, lambda array: array.fill(0))))
    assert [(finding.path, finding.expected) for finding in found] == [(path, True)]


def test_a_fresh_lora_b_is_expected() -> None:
    """A lora_b of zeros is a fresh adapter, and no alarm."""
    path = "PaliGemma/llm/layers/attn/q_einsum/lora_b"
    found = examine(Held(changed(path, lambda array: array.fill(0))))
    assert [(finding.path, finding.expected) for finding in found] == [(path, True)]
    assert "a fresh adapter, which adds nothing yet" in found[0].evidence


def test_a_lost_layer_is_an_alarm() -> None:
    """A layer of zeros in the middle of a stack is named by its number."""
    (found,) = alarms(changed(Q, lambda array: array[1].fill(0)))
    assert str(found) == f"{Q}: constant layers (1 of 3)"


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_as_initialised_is_told(dtype: type, seed: int) -> None:
    """Every array of a fresh model that is large enough is told as such, biases and adapters as expected; in bfloat16
    too."""
    fresh = {path: array.astype(dtype) for path, array in CONFIG.init_params(seed).items()}
    found = {finding.path: finding for finding in examine(Held(fresh))}
    large = {path for path, array in fresh.items() if array.size >= 4096}
    assert len(large) > 10
    assert large <= found.keys()
    assert "spread as the initialiser draws them: chi-square" in found[Q].evidence
    assert not found[Q].expected
    assert found["PaliGemma/llm/layers/mlp/gating_einsum_lora_a"].expected


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_another_spread_is_not_fresh(scale: float) -> None:
    """Values of another spread than the initialiser's are not called fresh, be it ten percent."""
    table = "PaliGemma/llm/embedder/input_embedding"
    fresh = CONFIG.init_params(0, only=[table])
    assert len(examine(Held(fresh))) == 1
    assert examine(Held({table: fresh[table] * np.float32(scale)})) == []


def test_a_short_training_is_not_fresh() -> None:
    """Where each value moved by a tenth of its spread, the array is not called fresh."""
    table = "PaliGemma/llm/embedder/input_embedding"
    fresh = CONFIG.init_params(0, only=[table])[table]
    moved = fresh + np.float32(0.02) * np.sign(fresh)
    assert examine(Held({table: moved})) == []


def test_openpis_fresh_lora_b_is_known() -> None:
    """openpi draws lora_b as it draws lora_a: told, and expected."""
    path = "PaliGemma/llm/layers/mlp/gating_einsum_lora_b"
    drawn = np.random.default_rng(0).normal(0, 0.01, (3, 2, 13, 88)).astype(np.float32)
    (found,) = examine(Held({path: drawn}))
    assert (found.finding, found.expected) == ("looks freshly initialised", True)


def test_unknown_arrays_and_codes_are_passed_over() -> None:
    """What is of no pi0 model, or flat, is looked at for constants alone, and whole numbers not at all."""
    assert examine(Held({Q: np.arange(9999, dtype=np.float32)})) == []
    assert examine(Held({"other": np.arange(9999, dtype=np.float32), "codes": np.zeros(9, np.int8)})) == []


def test_progress_is_told() -> None:
    """The bytes of every array are told as it is done."""
    done: list[int] = []
    params = trained()
    examine(Held(params), done.append)
    assert sum(done) == sum(array.nbytes for array in params.values())
