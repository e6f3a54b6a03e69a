"""Norm stats are computed exactly, of any dtype and at any mean, and openpi's and lerobot's mistakes are not made."""

import ml_dtypes
import numpy as np
import pytest

from pi0_compat.norm_stats import parquet
from pi0_compat.norm_stats.compute import compute_norm_stats
from pi0_compat.norm_stats.parquet import norm_stats_of_parquet


def test_statistics_are_exact() -> None:
    """Every statistic is numpy's in float64, over all axes but the last."""
    x = np.random.default_rng(1).normal(3, 2, (20, 50, 3)).astype(np.float32)
    found, flat = compute_norm_stats(x), x.reshape(-1, 3).astype(np.float64)
    expected = {"mean": flat.mean(0), "std": flat.std(0), "min": flat.min(0), "max": flat.max(0)}
    expected |= {f"q{level:02}": np.quantile(flat, level / 100, axis=0) for level in (1, 10, 90, 99)}
    assert {name for name, _ in found.known()} == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.bool_, np.float16, ml_dtypes.bfloat16, np.float64])
def test_any_dtype(dtype: type) -> None:
    """Squares of integers do not wrap (openpi's std is 0 there), and sums of short floats do not stick."""
    x: np.ndarray = (np.arange(4000) % 2 * 200).reshape(-1, 1).astype(dtype)
    std = 0.5 if dtype is np.bool_ else 100.0
    assert compute_norm_stats(x)["std"] == pytest.approx([std])


def test_a_large_mean() -> None:
    """1e4 +- 0.01, where float32 squares cancel: openpi gives 0, lerobot 2.83."""
    x = (1e4 + np.random.default_rng(2).normal(0, 0.01, (1000, 1))).astype(np.float32)
    assert compute_norm_stats(x)["std"] == pytest.approx([x.astype(np.float64).std()], rel=1e-9)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((1, 3)), "1 vectors; expected two or more"),
        (np.array([[1.0, 2], [3, np.nan]]), "dimension 1 of vector 1 is nan"),
        (np.array([["a"], ["b"]]), "expected vectors of numbers"),
        (np.float64(3), "expected vectors of numbers"),
        (np.zeros((3, 0)), "expected vectors of numbers"),
    ],
)
def test_what_has_no_statistics(values: np.ndarray, words: str) -> None:
    """Too little, NaN and text are rejected."""
    with pytest.raises(ValueError, match=words):
        compute_norm_stats(values)


def test_parquet_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow, the error has the line that installs it."""
    monkeypatch.setattr(parquet, "pa", None)
    with pytest.raises(ImportError, match=r"needs pyarrow, .*pip install 'pi0-compat\[parquet\]'"):
        norm_stats_of_parquet("data")
