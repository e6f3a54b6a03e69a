"""The sizes that are measured: ``tiny`` (does it run), ``small`` (a laptop's), ``full`` (the real pi0)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

from fixtures import openpi_sizes, specs
from fixtures.specs import ModelSpec


@dataclasses.dataclass(frozen=True)
class Size:
    """A model's size, and how much is measured of it.

    Attributes:
      spec: makes the base model's spec.
      compute_dtype: what programs compute in: bfloat16 where the device has it, as a CPU computes it by way of float32.
      batches: samples a training step, a sweep.
      passes: fresh processes of each load, of which each gives one sample.
      steps: timed calls of a compiled program a process.
      devices: over how many the training step is measured too, with as many samples each as one alone has.
    """

    name: str
    spec: Callable[[], ModelSpec]
    compute_dtype: str
    batches: tuple[int, ...]
    passes: int
    steps: int
    devices: tuple[int, ...] = ()

    @property
    def is_smoke(self) -> bool:
        """Whether this size only shows that the benchmarks run."""
        return self.name == "tiny"

    def model(self, *, lora: bool) -> ModelSpec:
        """The spec, with adapters or without."""
        spec = cast(ModelSpec, {**self.spec(), "dtype": self.compute_dtype})
        adapters = {"paligemma": specs.SMALL_PALIGEMMA_LORA, "action_expert": specs.SMALL_ACTION_EXPERT_LORA}
        return specs.with_lora(spec, **adapters) if lora else spec


def sizes(device: str, batches: Sequence[int] | None = None, devices: Sequence[int] | None = None) -> dict[str, Size]:
    """The sizes by name.

    Args:
      device: ``cpu``, ``gpu`` or ``tpu``.
      batches: samples a training step, instead of each size's own.
      devices: of training steps over several, instead of each size's own.
    """
    on_cpu = device == "cpu"
    dtype = "float32" if on_cpu else "bfloat16"
    small, full = ((1,), (1,)) if on_cpu else ((8, 64), (1, 8, 32, 64, 128))
    known = (
        # Devices that are made of one CPU share its cores: they show that a program runs on several.
        Size("tiny", specs.tiny, dtype, (2,), passes=1, steps=5, devices=(8,) if on_cpu else ()),
        Size("small", specs.small, dtype, small, passes=10, steps=4),
        Size("full", _real, dtype, full, passes=3, steps=10),
    )
    return {
        size.name: dataclasses.replace(
            size,
            batches=tuple(batches or size.batches),
            devices=tuple(count for count in devices if count > 1) if devices else size.devices,
        )
        for size in known
    }


def _real() -> ModelSpec:
    return openpi_sizes.model_spec({})
