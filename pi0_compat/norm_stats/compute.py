"""Compute norm stats of an array exactly: in float64, in two passes, with quantiles of all values."""

import numpy as np

from pi0_compat.norm_stats.stats import Stats

_LEVELS = {"q01": 0.01, "q10": 0.1, "q90": 0.9, "q99": 0.99}


def compute_norm_stats(values: np.ndarray) -> Stats:
    """Return the statistics of an array, of any dtype, at any mean; one dimension at a time is in memory as float64.

    Mean and standard deviation (of all values, not of a sample) are those of ``numpy`` in float64, quantiles are
    interpolated between neighbors (numpy's ``linear``). openpi's own are of a running histogram, and its squares wrap
    in integers and cancel at large means; lerobot's quantiles are averages over episodes.

    Args:
      values: [..., dimensions], of at least two vectors; in the unit that is normalized, after delta actions and the
        like. Booleans count as 0 and 1.

    Returns:
      Vectors with an entry per dimension: mean, std, min, max, q01, q10, q90, q99.

    Raises:
      ValueError: there are fewer than two vectors, or a value is not a finite number.
    """
    array = np.asarray(values)
    if not array.ndim or not array.shape[-1] or (array.dtype.kind not in "buif" and array.dtype.name != "bfloat16"):
        raise ValueError(f"values are {array.dtype.name}{list(array.shape)}; expected vectors of numbers")
    vectors = array.reshape(-1, array.shape[-1])
    if len(vectors) < 2:
        raise ValueError(f"values have {len(vectors)} vectors; expected two or more")
    columns = [_column(vectors[:, number], number) for number in range(vectors.shape[1])]
    return Stats(**{name: np.array([column[name] for column in columns]) for name in columns[0]})


def _column(stored: np.ndarray, number: int) -> dict[str, float]:
    values = stored.astype(np.float64)
    if not (finite := np.isfinite(values)).all():
        raise ValueError(f"dimension {number} of vector {np.argmin(finite)} is {values[np.argmin(finite)]}")
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        **dict(zip(_LEVELS, np.quantile(values, list(_LEVELS.values())).tolist(), strict=True)),
    }
