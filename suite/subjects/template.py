"""A template: copy this file, put your implementation in, and run `nox -s compat -- --subject ./my_harness.py=PYTHON`.

It is sent to the interpreter that you name and runs there alone: it may import numpy, your implementation, and what
that brings. As it stands it drives a copy of this project's reference, so you can try it before you change a line.

A harness translates and does nothing else: no repairs, no casts, no defaults of its own, no checks that your users do
not get. Whatever it repairs is a bug that nobody finds. Leave out what your implementation lacks; contracts do not ask
for it. protocol.py describes all operations, with arguments and results; capabilities.py lists all traits.
"""

from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax.numpy as jnp
import numpy as np

# Your implementation, here and in the functions below.
from pi0_compat import CheckpointWeightLoader, Pi0Config, restore_params, save_params
from pi0_compat.params import to_numpy

# The name in result rows and tables, and of the file of known failures.
NAME = "template"
# What it has besides operations. Contracts that need any other trait count as absent.
TRAITS = ("pi0", "pi05", "lora", "openpi")

# Parameters in every operation: openpi's names, joined by slashes, without `value` at the end.
Params = dict[str, np.ndarray]


def describe() -> dict[str, Any]:
    """Say what was run: `version` is shown beside the name in the table of results."""
    return {
        "version": metadata.version("orbax-checkpoint"),
        "packages": {name: metadata.version(name) for name in ("jax", "numpy")},
        "device": "cpu",
    }


def restore(path: str, dtype: str | None) -> Params:
    """Return the parameters of a checkpoint, in the stored dtypes (None) or cast to one."""
    return restore_params(path, restore_type=np.ndarray, dtype=dtype and jnp.dtype(dtype))


def bench_restore(job: dict[str, Any]) -> Callable[[], Params]:
    """Return the call that `python -m benchmarks --subject ./my_harness.py=PYTHON` measures."""
    return lambda: restore_params(job["path"], dtype=jnp.dtype(job["dtype"]))


def load(model: dict[str, Any], source: dict[str, Any], seed: int) -> dict[str, Any]:
    """Load what training starts from: call what your training calls, with its checks. `model` is plain JSON."""
    params, _ = CheckpointWeightLoader(source["path"]).load(Pi0Config.from_json(model), seed=seed)
    return {"params": to_numpy(params), "report": None, "nonfinite": None, "warnings": [], "notes": None}


def load_for_inference(model: dict[str, Any], path: str) -> Params:
    """Load what serving starts from."""
    return to_numpy(CheckpointWeightLoader(path).load_for_inference(Pi0Config.from_json(model))[0])


def save(model: dict[str, Any], params: Params, path: str) -> None:
    """Write a checkpoint to a folder that does not exist yet."""
    save_params(params, path, config=Pi0Config.from_json(model))
