"""The cells of a benchmark: a cell is one operation at one size, with options. Subjects offer operations by name.

load       load a checkpoint for a purpose; each sample is the first call of a fresh process, as users experience it
lora       operations on adapters in memory
step       training steps on one batch, compiled once per process
sampling   sample the actions for one observation, compiled once per process; a pi0-FAST writes them as tokens
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from benchmarks.cells.sizes import Size
from fixtures.specs import Family, ModelSpec

Temperature = Literal["warm", "cold"]
Adapters = Literal["lora", "full"]

# Operation -> the layout of the checkpoint it reads.
LOADS = {
    "restore": "openpi",
    "inference": "openpi",
    "lora_state": "openpi",
    "paligemma_state": "paligemma_npz",
    "hugging_face_state": "hugging_face",
    "gemma_state": "gemma_flax",
}
# At the sizes in between it would show nothing beyond `restore`, and take one of the run's ten minutes.
_AT_BOTH_ENDS = ("gemma_state",)
LORA = ("initialize", "merge", "fold", "extract")
# Operations whose result has the dtype that inference computes in.
_IN_BFLOAT16 = ("restore", "inference")
_SAMPLING_STEPS = 10
# The tokens that a pi0-FAST writes: one shows how long the first takes.
TOKENS = (64, 1)
FAMILIES: tuple[Family, ...] = ("pi0", "pi0_fast")
_ENOUGH_PROCESSES = 3
SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to measure.

    Attributes:
      operation: the subject's function.
      layout: the layout of the checkpoint it reads.
      adapted: whether that checkpoint has adapters.
      lora: whether the model has adapters.
      temperature: "warm" if the checkpoint's files are in the page cache, else "cold".
      dtype: the dtype of loaded parameters; for programs, the dtype that the model computes in.
      batch: samples per step.
      devices: number of devices.
      spread: whether several devices shard the state (FSDP) or hold a copy each.
      family: of the model; pi0 is in no id.
      num_steps: steps of sampling: of a flow, or tokens.
    """

    workload: Literal["load", "lora", "step", "sampling"]
    operation: str
    size: Size
    layout: str = "openpi"
    adapted: bool = False
    lora: bool = True
    temperature: Temperature = "warm"
    dtype: str = "bfloat16"
    batch: int | None = None
    devices: int = 1
    spread: bool = False
    family: Family = "pi0"
    num_steps: int = _SAMPLING_STEPS

    @property
    def id(self) -> str:
        """A name that is equal for every subject, machine and run."""
        family = [] if self.family == "pi0" else [self.family]
        return "/".join([self.workload, self.operation, self.size.name, *family, *self._variant()])

    @property
    def passes(self) -> int:
        """The number of fresh processes; a process yields one sample of a load, and several of the other workloads."""
        return self.size.passes if self.workload == "load" else min(self.size.passes, _ENOUGH_PROCESSES)

    @property
    def options(self) -> dict[str, Any]:
        """Everything that determines what is measured, as plain data."""
        names = ("lora", "temperature", "dtype", "batch", "devices", "spread", "num_steps")
        return {name: getattr(self, name) for name in names} | {"seed": SEED}

    @property
    def model(self) -> ModelSpec:
        """The spec of the model that receives the parameters."""
        return self.size.model(lora=self.lora, family=self.family)

    def job(self, path: str) -> dict[str, Any]:
        """Return the job passed to a subject, with the checkpoint's path."""
        return self.options | {"path": path, "model": self.model}

    def _variant(self) -> list[str]:
        if self.workload == "load":
            return [self.temperature]
        if self.workload == "lora":
            return []
        kind = [] if self.workload == "sampling" else ["lora" if self.lora else "full"]
        devices = [] if self.devices == 1 else [f"devices-{self.devices}-{'fsdp' if self.spread else 'data'}"]
        written = [f"tokens-{self.num_steps}"] if self.operation == "sample_tokens" else []
        return [*kind, f"batch-{self.batch}", *devices, *written]


def cells_of(size: Size, *, cold: bool = False, family: Family = "pi0") -> list[Cell]:
    """Return every cell of a size and a family, including loads from a cold page cache if ``cold``."""
    temperatures: Sequence[Temperature] = ("warm", "cold") if cold else ("warm",)
    if family == "pi0_fast":
        return _fast(size, temperatures)
    return [*_loads(size, temperatures), *_lora(size), *_steps(size), *_spread(size), _sampling(size)]


def _fast(size: Size, temperatures: Sequence[Temperature]) -> list[Cell]:
    """Return the cells of a pi0-FAST, whose other loads and adapters are those of a pi0."""
    loads = [cell for cell in _loads(size, temperatures) if cell.operation in ("restore", "lora_state")]
    steps = [_step(size, batch=batch) for batch in size.batches]
    written = [dataclasses.replace(_sampling(size), operation="sample_tokens", num_steps=number) for number in TOKENS]
    return [dataclasses.replace(cell, family="pi0_fast") for cell in (*loads, *steps, *written)]


def _loads(size: Size, temperatures: Sequence[Temperature]) -> list[Cell]:
    return [
        Cell(
            workload="load",
            operation=operation,
            size=size,
            layout=layout,
            lora=operation not in _IN_BFLOAT16,
            temperature=temperature,
            dtype="bfloat16" if operation in _IN_BFLOAT16 else "float32",
        )
        for operation, layout in LOADS.items()
        if operation not in _AT_BOTH_ENDS or size.name in ("tiny", "full")
        for temperature in temperatures
    ]


def _lora(size: Size) -> list[Cell]:
    return [
        Cell(workload="lora", operation=operation, size=size, adapted=operation != "initialize", dtype="float32")
        for operation in LORA
    ]


def _steps(size: Size) -> list[Cell]:
    lora = [_step(size, batch=batch) for batch in size.batches]
    kept = dataclasses.replace(lora[-1], operation="train_step_kept")
    full = _step(size, batch=size.batches[0], lora=False)
    # One sample has few activations to keep, and each cell takes minutes to compile.
    return [*lora, full] if size.batches == (1,) else [*lora, kept, full]


def _spread(size: Size) -> list[Cell]:
    return [
        _step(size, batch=size.batches[0] * devices, devices=devices, spread=spread)
        for devices in size.devices
        for spread in (False, True)
    ]


def _step(size: Size, *, batch: int, lora: bool = True, devices: int = 1, spread: bool = False) -> Cell:
    return Cell(
        workload="step",
        operation="train_step",
        size=size,
        adapted=lora,
        lora=lora,
        dtype=size.compute_dtype,
        batch=batch,
        devices=devices,
        spread=spread,
    )


def _sampling(size: Size) -> Cell:
    return Cell(
        workload="sampling", operation="sample_actions", size=size, lora=False, dtype=size.compute_dtype, batch=1
    )
