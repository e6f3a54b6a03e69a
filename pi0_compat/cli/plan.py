"""Run ``pi0-compat plan``."""

import argparse
from collections.abc import Iterator, Sequence

from pi0_compat.cli import NO, YES
from pi0_compat.cli.config_files import read_config
from pi0_compat.cli.output import Output, Refusal
from pi0_compat.planning.answers import PlanError
from pi0_compat.planning.devices import device as device_of
from pi0_compat.planning.plan import Plan, Verdict, plan
from pi0_compat.text import format_bytes


def run(options: argparse.Namespace, output: Output) -> int:
    """Compute the plan, and print it."""
    model = read_config(options)
    if model is None:
        raise Refusal("what is to be planned? Name a training config with --config, or sizes with --config-file")
    try:
        shown = None if options.device is None else device_of(options.device)
        planned = plan(
            options.config or model,
            purpose=options.purpose,
            batch=options.batch,
            devices=options.devices,
            device=options.device,
            remat=options.remat,
            frozen_dtype=options.frozen_dtype,
            freeze_vision=options.freeze_vision,
        )
    except (ValueError, PlanError, ImportError) as error:
        raise Refusal(str(error)) from error
    verdicts = [each for each in planned.verdicts if shown is None or each.device == shown]
    document = planned.to_json()
    if shown is not None:
        document["devices"] = [each for each in document["devices"] if each["device"]["name"] == shown.name]
    output.give(document, "\n".join(_text(planned, verdicts)))
    return NO if shown is not None and not verdicts[0].fits else YES


def _text(planned: Plan, verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield _title(planned)
    yield "  (all numbers are computed, from shapes and by XLA's CPU compiler; none is measured)"
    yield "stays on each device:"
    yield from _resident(planned)
    yield "held at most on each device:"
    for need in planned.needs:
        yield (
            f"  batch {need.batch:>4}: {format_bytes(need.peak):>9}  (state {format_bytes(need.resident)}, gradients "
            f"and activations {format_bytes(need.temporary)})"
        )
    yield "devices:"
    yield from map(_device, verdicts)
    if planned.remedies:
        yield "what needs less on each device, in the order of its cost:"
        yield from _remedies(planned)
    yield "host and disk:"
    yield from _storage(planned)


def _title(planned: Plan) -> str:
    question = planned.question
    name = question.config if isinstance(question.config, str) else "the given sizes"
    over = f" over {question.devices} devices" if question.devices > 1 else ""
    return f"{name}: {question.purpose}, batch {question.batch}{over}"


def _resident(planned: Plan) -> Iterator[str]:
    for row in planned.resident:
        state = "trained" if row["trainable"] else "frozen" if planned.question.purpose == "training" else "served"
        where = f"{row['role']}, {row['part']}"
        yield f"  {format_bytes(row['device_bytes']):>9}  {where}: {row['size']:,} x {row['dtype']}, {state}"


def _device(each: Verdict) -> str:
    fits = "fits" if each.fits else "does not fit"
    largest = "not even 1 sample" if each.largest_batch is None else f"largest batch about {each.largest_batch}"
    floor = "no known peak" if each.floor_s is None else f"never below {_seconds(each.floor_s)} ({each.bound})"
    memory = format_bytes(each.device.memory_bytes)
    return f"  {each.device.name:<28} {memory:>9}  {fits:<12} {each.share:>4.0%}  {largest}, {floor}"


def _remedies(planned: Plan) -> Iterator[str]:
    for each in planned.remedies:
        compiled = "" if each.saved is None else f"; compiled: {format_bytes(each.peak or 0)} in all"
        yield f"  {each.name}: {_signed(each.state_saved)} of state and gradients{compiled}"


def _signed(number: int) -> str:
    return f"{format_bytes(number)} less" if number >= 0 else f"{format_bytes(-number)} more"


def _storage(planned: Plan) -> Iterator[str]:
    storage = planned.storage
    yield f"  load: reads {format_bytes(storage.read)}, host memory {format_bytes(storage.load_host)}"
    if storage.saved:
        yield f"  save a step: {format_bytes(storage.saved)} on disk, as much host memory"
    if storage.folded:
        yield f"  fold: host memory at most {format_bytes(storage.fold_host)}, writes {format_bytes(storage.folded)}"


def _seconds(number: float) -> str:
    return f"{number * 1e3:.3g} ms" if number < 1 else f"{number:.3g} s"
