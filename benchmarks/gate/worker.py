"""The other side of the gate: counts and times operations of a subject.

The worker, the cells and the checkpoints are those of this checkout on both sides. Only the implementation, and its
harness, are a side's own.
"""

import gc
import hashlib
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.gate.counters import bytes_of, compiled_by, held_by
from benchmarks.measure.digests import digests
from benchmarks.measure.harness import arrays, operations, prepared
from benchmarks.measure.measuring import keep_memory, measured, read_through
from benchmarks.measure.programs import Program, number_of
from benchmarks.measure.stages import Stages

Data = dict[str, Any]
_STEPS = 3
_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"


class Worker:
    """Operations of a subject; every call of a method prepares its operation again."""

    def __init__(self, harness: Any) -> None:
        self._harness = harness
        # Counts compiled programs; no stage is timed.
        self._stages = Stages({})
        self._ready: dict[str, Callable[[], Any]] = {}
        # Imported objects stay: keep the garbage collector from scanning them, a tenth of a second each time.
        gc.freeze()

    def describe(self) -> Data:
        """Return versions, device, and the operations that the harness offers."""
        return {"operations": operations(self._harness), **self._harness.describe()}

    def count(self, operation: str, job: Data) -> Data:
        """Count all that can be counted of an operation, and time it once it is compiled."""
        ready = self._prepare(operation, job)
        return self._count_steps(ready) if isinstance(ready, Program) else self._count_calls(ready)

    def peak(self, cell: str, operation: str, job: Data) -> Data:
        """Measure the memory that a call takes; the call stays prepared under the name of its cell."""
        ready = self._prepare(operation, job)
        call = self._ready[cell] = _Steps(ready) if isinstance(ready, Program) else ready
        jax.block_until_ready(call())
        return {"host_peak_bytes": measured(call)[1]["host_peak_bytes"]}

    def time(self, calls: dict[str, int]) -> dict[str, tuple[float, float]]:
        """Return the CPU and wall seconds of a call of each cell; ``calls`` says how many are timed together."""
        keep_memory()
        gc.collect()
        # Otherwise the next round would scan all of it again.
        gc.freeze()
        return {name: _timed(self._ready[name], number) for name, number in calls.items()}

    def _prepare(self, operation: str, job: Data) -> Any:
        read_through(job["path"])
        return prepared(self._harness, operation, job)

    def _count_calls(self, call: Callable[[], Any]) -> Data:
        result, first = compiled_by(call, self._stages)
        leaves = digests(params := arrays(self._harness, result))
        places = {path: _placement(array) for path, array in params.items()}
        del result, params
        _, again = compiled_by(call, self._stages)
        counted = {"compiles": first, "compiles_again": again, "bytes_held": held_by(call)}
        return {
            "values": counted | bytes_of(call),
            "leaves": {path: [*leaf, places[path]] for path, leaf in leaves.items()},
            "cpu_s": _timed(call, 1)[0],
        }

    def _count_steps(self, program: Program) -> Data:
        steps = _Steps(program)
        _, first = compiled_by(steps, self._stages)
        _, again = compiled_by(lambda: _repeated(steps, _STEPS - 1), self._stages)
        program_hash, compiled = _compiled(program, steps.state)
        counted = {"compiles": first, "compiles_again": again, "bytes_held": None}
        return {
            "values": counted | bytes_of(steps) | compiled,
            "losses": steps.losses,
            "program": program_hash,
            "cpu_s": _timed(steps, 1)[0],
        }


class _Steps:
    """A program as its users call it: jitted, and compiled again if jax has to."""

    def __init__(self, program: Program) -> None:
        self._program, self.state, self.losses = program, program.state, list[float]()

    def __call__(self) -> None:
        outputs = self._program.jitted(*self._program.arguments(self.state))
        self.state, loss = self._program.after(outputs)
        self.losses.append(float(number_of(loss)))


def _compiled(program: Program, state: Any) -> tuple[str, Data]:
    """Return a hash of the program's text, and the compiler's analysis of it."""
    lowered = program.jitted.lower(*program.arguments(state))
    compiled = _analyzable(lowered)
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
    # Old versions of jax return one per device.
    costs = costs[0] if isinstance(costs, list) else costs
    sizes = {kind: getattr(memory, f"{kind}_size_in_bytes", None) for kind in ("argument", "output", "temp", "alias")}
    analysis = {"flops": (costs or {}).get("flops")} | {f"{kind}_bytes": size for kind, size in sizes.items()}
    return hashlib.sha256(lowered.as_text().encode()).hexdigest(), analysis


def _analyzable(lowered: Any) -> Any:
    """Return the program compiled so that its analysis has all buffers.

    On a CPU, jax 0.10 hands whole chains of products to a library that allocates what lies between them: 0 bytes are
    said of a program that takes 217 MB (docs/gate.md).
    """
    try:
        return lowered.compile(compiler_options={_LIBRARY: ""})
    except Exception:  # noqa: BLE001 - what an unknown option raises changed from release to release
        return lowered.compile()


def _placement(array: Any) -> str:
    """Describe where an array is, in the same words for every version of jax."""
    if not isinstance(array, jax.Array):
        return "host"
    spec = getattr(array.sharding, "spec", "")
    return f"{len(array.sharding.device_set)} {spec}".strip()


def _repeated(call: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        call()


def _timed(call: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Return CPU seconds (all threads) and wall seconds per call, averaged over ``calls``."""
    gc.disable()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        jax.block_until_ready(call())
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    gc.enable()
    return cpu / calls, wall / calls
