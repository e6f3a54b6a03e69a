"""Say whether a training, or a model in service, fits a device, what would make it fit, and how fast it can be."""

import dataclasses
import math
from typing import Any, NamedTuple

from pi0_compat.model.named import spec_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import Remat
from pi0_compat.planning import flops
from pi0_compat.planning.answers import ask, ask_all
from pi0_compat.planning.devices import Device
from pi0_compat.planning.devices import device as device_of
from pi0_compat.planning.devices import devices as known_devices
from pi0_compat.planning.question import Purpose, Question
from pi0_compat.planning.remedies import Remedy, remedies
from pi0_compat.planning.storage import Storage, storage_of

_DEFAULT_BATCH = {"training": None, "serving": 1}
# Compiled beside the batch that is asked for, to tell what a sample adds.
_OTHER_BATCH, _OTHER_OF_ONE = 1, 8


class Need(NamedTuple):
    """What a program holds on one device, in bytes, as XLA assigns it.

    Attributes:
      batch: samples on all devices together.
      resident: what stays between steps.
      temporary: gradients and activations.
      peak: the most at any time: state, batch, and temporary.
    """

    batch: int
    resident: int
    temporary: int
    peak: int


class Verdict(NamedTuple):
    """Whether a program fits one kind of device.

    Attributes:
      device: the device.
      fits: whether the peak is within what a program can have of its memory.
      share: the peak over that.
      largest_batch: the largest batch that fits, on the line through the compiled batches; None if not even one sample
        fits; computed, not compiled.
      floor_s: the least seconds of a step, or a call, at the device's peaks; None where they are not known.
      bound: what the floor is of: ``compute`` or ``memory``; None without a floor.
    """

    device: Device
    fits: bool
    share: float
    largest_batch: int | None
    floor_s: float | None
    bound: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a program needs; every number is computed, none is measured.

    Attributes:
      question: the program, with its batch.
      model: the sizes of its model.
      resident: what stays on the devices, by role, part, dtype and whether it is trained.
      gradients: bytes of the gradients on all devices together, part of ``temporary``.
      needs: what XLA assigns for each compiled batch, the smallest first.
      flops: FLOPs of one sample: matrix products, forward and backward, nothing twice.
      moved_bytes: bytes that a step or call moves on one device at least.
      verdicts: for every device of the table, the smallest first.
      remedies: what would need less, in the order of what it costs, with what each saves.
      storage: memory of the host, and disk, for loading and saving.
    """

    question: Question
    model: Pi0Spec
    resident: list[dict[str, Any]]
    gradients: int
    needs: tuple[Need, ...]
    flops: int
    moved_bytes: int
    verdicts: tuple[Verdict, ...]
    remedies: tuple[Remedy, ...]
    storage: Storage

    @property
    def need(self) -> Need:
        """What the batch that was asked for needs."""
        return next(need for need in self.needs if need.batch == self.question.batch)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "question": self.question.to_json() | {"config": _name(self.question)},
            "computed": True,
            "resident": self.resident,
            "gradients": self.gradients,
            "needs": [need._asdict() for need in self.needs],
            "flops": self.flops,
            "moved_bytes": self.moved_bytes,
            "devices": [each._asdict() | {"device": each.device._asdict()} for each in self.verdicts],
            "remedies": [each.to_json() for each in self.remedies],
            "storage": self.storage._asdict(),
        }


def plan(
    config: str | Pi0Spec,
    *,
    purpose: Purpose = "training",
    batch: int | None = None,
    devices: int = 1,
    device: str | None = None,
    remat: Remat | None = None,
    frozen_dtype: str | None = None,
    freeze_vision: bool = False,
) -> Plan:
    """Compute what a training or a model in service needs, without weights and without an accelerator.

    The program of the real size is compiled from shapes, in another process, and never run: up to a minute on two cores
    for each of two batches. Answers are cached (``$PI0_COMPAT_CACHE``).

    Args:
      config: the name of a training config, or a model.
      purpose: ``training``: a step; ``serving``: sampling actions, with all parameters in the compute dtype.
      batch: samples on all devices together; by default the config's, and 1 for serving.
      devices: the number of devices that state and batch are spread over (FSDP).
      device: a device of the table, to compile what would make it fit if it does not; see ``Plan.remedies``.
      remat: what training computes a second time to save memory; by default as the config has it.
      frozen_dtype: dtype of frozen parameters; by default as the config has it.
      freeze_vision: whether the image encoder is frozen too.

    Raises:
      ValueError: there is no such config or device, or the batch is no positive number.
      PlanError: the program could not be compiled.
      ImportError: jax is not installed; ``pip install 'pi0-compat[jax]'``.
    """
    spec_of(config)
    target = None if device is None else device_of(device)
    asked = Question(
        config=config,
        purpose=purpose,
        batch=1,
        devices=devices,
        remat=remat,
        frozen_dtype=frozen_dtype,
        freeze_vision=freeze_vision,
    )
    _require_positive(batch, devices)
    [counted] = ask_all([asked])
    chosen = batch or _DEFAULT_BATCH[purpose] or counted["batch"]
    return _planned(dataclasses.replace(asked, batch=chosen), target)


def _planned(question: Question, target: Device | None) -> Plan:
    other = _OTHER_OF_ONE if question.batch == _OTHER_BATCH else _OTHER_BATCH
    # What is spread over devices has a sample for each of them.
    other *= question.devices if other < question.devices else 1
    batches = sorted({question.batch, other})
    answers = {each: ask(dataclasses.replace(question, batch=each)) for each in batches}
    answer = answers[question.batch]
    needs = tuple(_need(each, answers[each]) for each in batches)
    need = next(each for each in needs if each.batch == question.batch)
    model = Pi0Spec.from_json(answer["model"])
    work, moved = _work(question, model, answer)
    verdicts = tuple(
        _verdict(each, need, _line(needs), work * question.batch / question.devices, moved) for each in known_devices()
    )
    does_not_fit = target is not None and need.peak > target.usable_bytes
    return Plan(
        question=question,
        model=model,
        resident=answer["resident"],
        gradients=answer["gradients"],
        needs=needs,
        flops=work,
        moved_bytes=moved,
        verdicts=verdicts,
        remedies=remedies(question, answer, need.peak, target if does_not_fit else None),
        storage=storage_of(question, model, answer["resident"]),
    )


def _need(batch: int, answer: dict[str, Any]) -> Need:
    program = answer["program"]
    held = sum(row["device_bytes"] for row in answer["resident"])
    peak = program["arguments"] + program["outputs"] - program["aliased"] + program["temporary"]
    return Need(batch, held, program["temporary"], peak)


def _line(needs: tuple[Need, ...]) -> tuple[float, float]:
    """Return what no sample needs and what a sample adds, from the smallest and the largest batch."""
    first, last = needs[0], needs[-1]
    each = (last.peak - first.peak) / (last.batch - first.batch)
    return first.peak - each * first.batch, each


def _verdict(device: Device, need: Need, line: tuple[float, float], work: float, moved: int) -> Verdict:
    fixed, each = line
    room = device.usable_bytes - fixed
    largest = math.floor(room / each) if each > 0 and room >= each else None
    floor_s, bound = _floor(device, work, moved)
    fits = need.peak <= device.usable_bytes
    if fits:
        largest = max(largest or 0, need.batch)
    return Verdict(device, fits, need.peak / max(device.usable_bytes, 1), largest, floor_s, bound)


def _floor(device: Device, work: float, moved: int) -> tuple[float | None, str | None]:
    if device.bf16_flops is None or device.bytes_per_s is None:
        return None, None
    seconds = {"compute": work / device.bf16_flops, "memory": moved / device.bytes_per_s}
    bound = max(seconds, key=lambda name: seconds[name])
    return seconds[bound], bound


def _work(question: Question, model: Pi0Spec, answer: dict[str, Any]) -> tuple[int, int]:
    """Return the FLOPs of a sample, and the bytes that a device moves at least."""
    if question.purpose == "serving":
        return flops.serving_flops(model), flops.serving_bytes(model, answer["resident"])

    def is_frozen(path: str) -> bool:
        return model.is_frozen(path) or (question.freeze_vision and flops.in_vision(path))

    return flops.training_flops(model, is_frozen), flops.training_bytes(model, answer["resident"])


def _require_positive(batch: int | None, devices: int) -> None:
    for name, value in (("batch", batch), ("devices", devices)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected a positive whole number")


def _name(question: Question) -> str:
    return question.config if isinstance(question.config, str) else "custom"
