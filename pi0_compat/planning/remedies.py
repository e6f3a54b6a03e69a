"""What would make a program need less: each of the options, alone, with what it saves on one device."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from pi0_compat.planning.answers import ask, ask_all
from pi0_compat.planning.devices import Device
from pi0_compat.planning.question import Question

_SPREAD = (2, 4, 8)


class Remedy(NamedTuple):
    """One change.

    Attributes:
      name: the change, in words.
      question: the program after it.
      state_saved: bytes that state and gradients need less on one device, exactly.
      peak: what XLA assigns after it, in bytes on one device; None where it was not compiled.
      saved: how much less that is than before; None where it was not compiled.
    """

    name: str
    question: Question
    state_saved: int
    peak: int | None
    saved: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data, without the question."""
        return {name: value for name, value in self._asdict().items() if name != "question"}


def remedies(question: Question, answer: dict[str, Any], peak: int, target: Device | None) -> tuple[Remedy, ...]:
    """Return what would need less, in the order of what it costs: quality, time, then more devices.

    Args:
      question: the program.
      answer: its answer.
      peak: what it needs on one device.
      target: a device that it does not fit: changes are compiled, one after the other, until one fits. None compiles
        none.
    """
    changes = list(_changes(question, answer))
    counted: list[dict[str, Any]] = []
    # One process has the devices of its largest question, so all can be asked at once.
    if changes:
        counted = ask_all([changed for _, changed in changes])
    found = []
    for (name, changed), after in zip(changes, counted, strict=True):
        saved = _held(answer) - _held(after)
        compiled = None
        if target is not None:
            compiled = _peak(ask(changed))
            target = None if compiled <= target.usable_bytes else target
        found.append(Remedy(name, changed, saved, compiled, None if compiled is None else peak - compiled))
    return tuple(found)


def _changes(question: Question, answer: dict[str, Any]) -> Iterator[tuple[str, Question]]:
    if question.purpose == "serving":
        return
    model = answer["model"]
    adapted = any(model[name] and model[name]["lora"] for name in ("paligemma", "action_expert"))
    trained = {row["part"] for row in answer["resident"] if row["trainable"]}
    frozen = {row["dtype"] for row in answer["resident"] if not row["trainable"]}
    if not adapted:
        yield "LoRA on all experts", dataclasses.replace(question, lora=True)
    if "float32" in frozen:
        yield "frozen parameters in bfloat16", dataclasses.replace(question, frozen_dtype="bfloat16")
    if "vision" in trained:
        yield "frozen vision encoder", dataclasses.replace(question, freeze_vision=True)
    if model["remat"] != "layers":
        yield "remat of whole layers", dataclasses.replace(question, remat="layers")
    for number in _SPREAD:
        if number > question.devices and question.batch % number == 0:
            yield f"FSDP over {number} devices", dataclasses.replace(question, devices=number)


def _held(answer: dict[str, Any]) -> int:
    """Return state and gradients of one device; gradients are spread as the parameters are."""
    state = sum(row["device_bytes"] for row in answer["resident"])
    trained = [row for row in answer["resident"] if row["role"] == "params" and row["trainable"]]
    return state + sum(row["device_bytes"] for row in trained)


def _peak(answer: dict[str, Any]) -> int:
    program = answer["program"]
    peak: int = program["arguments"] + program["outputs"] - program["aliased"] + program["temporary"]
    return peak
