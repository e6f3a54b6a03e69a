"""A template: copy this file, put your implementation in, and run `nox -s compat -- --subject ./my_harness.py=PYTHON`.

It is sent to the interpreter that you name and runs there alone: it may import numpy, your implementation, and what
that brings. As it stands it drives a copy of this project's reference, so you can try it before you change a line.

A harness translates and does nothing else. No repairs, no casts, no defaults of its own, no checks that your users do
not get: whatever it mends here is a bug that nobody finds. What your implementation lacks, leave out; it is then not
asked for. All operations, what they take and give, are in protocol.py; all traits are in capabilities.py.
"""

from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax.numpy as jnp
import numpy as np

# Your implementation, here and in the functions below.
from pi0_compat import CheckpointWeightLoader, Pi0Config, restore_params, save_params
from pi0_compat.params import to_numpy

# What rows, tables and the file of expectations call it.
NAME = "template"
# What it has beside operations. Contracts that need another trait count as absent.
TRAITS = ("pi0", "pi05", "lora", "openpi_orbax")

# Every operation speaks of parameters in this way: openpi's names, slashes between them, no `value` at the end.
Params = dict[str, np.ndarray]


def describe() -> dict[str, Any]:
    """What was run: `version` stands beside the name in the table of results."""
    return {
        "version": metadata.version("orbax-checkpoint"),
        "packages": {name: metadata.version(name) for name in ("jax", "numpy")},
        "device": "cpu",
    }


def restore(path: str, dtype: str | None) -> Params:
    """The parameters of a checkpoint as they are stored, or all cast to one dtype."""
    return restore_params(path, restore_type=np.ndarray, dtype=dtype and jnp.dtype(dtype))


def bench_restore(job: dict[str, Any]) -> Callable[[], Params]:
    """Measured by `python -m benchmarks --subject ./my_harness.py=PYTHON`: the call that is returned, nothing else."""
    return lambda: restore_params(job["path"], dtype=jnp.dtype(job["dtype"]))


def load(model: dict[str, Any], source: dict[str, Any], seed: int) -> dict[str, Any]:
    """What training starts from: call what your training calls, with its checks. A model is plain JSON."""
    params, _ = CheckpointWeightLoader(source["path"]).load(Pi0Config.from_json(model), seed=seed)
    return {"params": to_numpy(params), "report": None, "nonfinite": None, "warnings": [], "notes": None}


def load_for_inference(model: dict[str, Any], path: str) -> Params:
    """What serving starts from."""
    return to_numpy(CheckpointWeightLoader(path).load_for_inference(Pi0Config.from_json(model))[0])


def save(model: dict[str, Any], params: Params, path: str) -> None:
    """A checkpoint in a folder that is not there yet."""
    save_params(params, path, config=Pi0Config.from_json(model))
