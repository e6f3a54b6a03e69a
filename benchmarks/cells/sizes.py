"""The measured sizes: ``tiny`` (smoke test), ``small`` (fits a laptop), ``full`` (the real pi0)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

from fixtures import openpi_sizes, specs
from fixtures.specs import Family, ModelSpec


@dataclasses.dataclass(frozen=True)
class Size:
    """A model size and how much of it is measured.

    Attributes:
      spec: creates the spec of a family's base model.
      compute_dtype: the dtype programs compute in: bfloat16 where the device supports it; a CPU emulates it in float32.
      batches: batch sizes of training steps; one cell per value.
      passes: fresh processes per load, one sample each.
      steps: timed calls of a compiled program per process.
      devices: device counts at which the training step is also measured, with the same batch per device.
    """

    name: str
    spec: Callable[[Family], ModelSpec]
    compute_dtype: str
    batches: tuple[int, ...]
    passes: int
    steps: int
    devices: tuple[int, ...] = ()

    @property
    def is_smoke(self) -> bool:
        """Whether this size is only a smoke test of the benchmarks."""
        return self.name == "tiny"

    def model(self, *, lora: bool, family: Family = "pi0") -> ModelSpec:
        """Return the spec of a family, with adapters if ``lora``."""
        spec = cast(ModelSpec, {**self.spec(family), "dtype": self.compute_dtype})
        adapters = {"paligemma": specs.SMALL_PALIGEMMA_LORA, "action_expert": specs.SMALL_ACTION_EXPERT_LORA}
        return specs.with_lora(spec, **adapters) if lora else spec


def sizes(device: str, batches: Sequence[int] | None = None, devices: Sequence[int] | None = None) -> dict[str, Size]:
    """Return the sizes by name.

    Args:
      device: ``cpu``, ``gpu`` or ``tpu``.
      batches: batch sizes of training steps, in place of each size's default.
      devices: device counts of training steps, in place of each size's default.
    """
    on_cpu = device == "cpu"
    dtype = "float32" if on_cpu else "bfloat16"
    small, full = ((1,), (1,)) if on_cpu else ((8, 64), (1, 8, 32, 64, 128))
    known = (
        # Devices emulated on one CPU share its cores: they only show that a program runs on several devices.
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


def _real(family: Family) -> ModelSpec:
    return openpi_sizes.model_spec({}, fast=family == "pi0_fast")
