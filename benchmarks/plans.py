"""Compare what `pi0-compat plan` says with what a process really takes: ``python -m benchmarks.plans``.

For each batch, a fresh process compiles the LoRA step of size small in float32 on the CPU, notes how large it is, makes
a train state, takes two steps, and says by how much it grew at most (VmHWM), beside what the plan of the step says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.results import result
from fixtures import specs

_ROOT = Path(__file__).parents[1]
_BATCHES = (1, 2, 4)
# Runs in the measured process. Everything is float32: a CPU has no products in bfloat16, and would copy frozen weights
# to float32, which no accelerator does. Buffers do not depend on how well code is optimized.
_MEASURED = """\
import json, sys
import jax
import numpy as np
from pi0_compat.model.config import Pi0Config
from pi0_compat.planning.assigned import assigned, observation
from pi0_compat.planning.question import Question
from pi0_compat.training.configs import TrainConfig
from pi0_compat.training.step import abstract_train_state, make_train_step
from suite.subjects.process.memory import peak, start_anew
asked = json.load(open(sys.argv[1]))
model = Pi0Config.from_json(asked["model"])
config = TrainConfig(model=model, ema_decay=None, frozen_dtype="float32")
size = asked["batch"]
computed = assigned(Question(config=model, batch=size, frozen_dtype="float32")).peak
actions = jax.ShapeDtypeStruct((size, model.action_horizon, model.action_dim), "float32")
state, batch = abstract_train_state(config), (observation(model, size), actions)
key = jax.random.key(0)
quickly = {"xla_backend_optimization_level": 0}
step = make_train_step(config, compiler_options=quickly).lower(state, key, batch).compile()
before = start_anew(1 << 16)
def made(leaf):
    return jax.block_until_ready(jax.device_put(np.ones(leaf.shape, leaf.dtype)))
state, batch = jax.tree.map(made, state), jax.tree.map(made, batch)
for _ in range(2):
    state, metrics = jax.block_until_ready(step(state, key, batch))
print(json.dumps({"computed_bytes": computed, "measured_bytes": peak() - before}))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all batches, write the result file, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plans", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("reports/plans"))
    options = parser.parse_args(arguments)
    started, noise = datetime.now(UTC), machine.Noise()
    rows = list(measure())
    file = result.write(
        {
            "schema": "pi0-compat/plans",
            "schema_version": 1,
            "run": result.run_of(started, []),
            "environment": machine.environment([], noise),
            "size": "small",
            "compared": rows,
        },
        options.results,
    )
    print(file)
    return 0


def measure(batches: Sequence[int] = _BATCHES) -> Iterator[dict[str, Any]]:
    """Yield one row per batch: ``batch``, ``computed_bytes`` and ``measured_bytes`` of the step with its state."""
    with tempfile.TemporaryDirectory(prefix="pi0-compat-") as folder:
        asked = Path(folder, "asked.json")
        for batch in batches:
            asked.write_text(json.dumps({"model": specs.small(lora="both"), "batch": batch}), encoding="utf-8")
            yield {"batch": batch, **json.loads(_output(["-c", _MEASURED, str(asked)]))}


def _output(arguments: Sequence[str]) -> str:
    """Return what a Python process prints."""
    done = subprocess.run([sys.executable, *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
