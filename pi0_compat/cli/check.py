"""Would a checkpoint load, for training and for inference, and if not, what to do?

Only metadata are read; a no comes with every difference in groups. --values reads the arrays too, a slab at a time, and
names what no trained model has: NaN, infinities, constant arrays, arrays that are still as they were initialised.
Without a config, all named ones are tried. Action horizon, prompt length and (unless recorded) alpha are in no shape:
nobody can check them. Exit status 1: it does not load for what was asked, or values are wrong.

--json gives: path, layout, configs (name -> training and inference: loads, reason, loaded, fresh, dropped; differences:
kind, part, paths, example; sizes; details), way_out, and with --values: values (path, finding, evidence, expected).
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from pi0_compat.checkpoints.check import Fit, Verdict, fits, way_out
from pi0_compat.checkpoints.values import Finding, examine
from pi0_compat.cli import NO, YES
from pi0_compat.cli.locating import add_config, located, located_metadata, read_config
from pi0_compat.cli.output import Output, counted
from pi0_compat.layouts.layout import Detected
from pi0_compat.layouts.open import open_parameters
from pi0_compat.model.named import named_models
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import num_bytes
from pi0_compat.text import shorten

EXAMPLES = """\
  pi0-compat check checkpoints/pi0_base/params --config pi0_libero
  pi0-compat check checkpoints/pi0_base/params                which of the named configs fit
  pi0-compat check checkpoints/my_run --config-file sizes.json --for inference
  pi0-compat check checkpoints/my_run --values
"""
_PURPOSES = ("training", "inference")
# Lines of a loader's list that a person reads; a document has all of them.
_DETAILS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("path", metavar="PATH", help="a checkpoint in any layout: a file or folder, local or a URL")
    add_config(parser, "the model that it should load into")
    parser.add_argument("--for", dest="purpose", choices=_PURPOSES, help="ask for this alone; default: for both")
    parser.add_argument("--values", action="store_true", help="read the arrays too")


def run(options: argparse.Namespace, output: Output) -> int:
    """Check the checkpoint and print the verdicts."""
    purposes = (options.purpose,) if options.purpose else _PURPOSES
    model = read_config(options)
    # Values have to be downloaded; for the rest, the metadata of a remote checkpoint do.
    place = nullcontext(located(options.path)) if options.values else located_metadata(options.path)
    with place as (checkpoint, name):
        asked = {} if model is None else {_config(options): model}
        known = fits(checkpoint, named_models() | asked)
        told = {name: known[name] for name in asked or known}
        ways = way_out(checkpoint, model, told[_config(options)], known) if model else []
        values = _examined(checkpoint, model, output) if options.values else None
    text = _one(told, ways) if model else _all(told, purposes)
    document = {"path": name, "layout": str(checkpoint.layout), **_document(told, ways, values)}
    output.give(document, "\n".join([f"{name}: {checkpoint.layout}", *text, *_values(values)]))
    loads = any(all(getattr(fit, purpose).loads for purpose in purposes) for fit in told.values())
    return YES if loads and not any(not finding.expected for finding in values or []) else NO


def _config(options: argparse.Namespace) -> str:
    return str(options.config or options.config_file)


def _examined(found: Detected, model: Pi0Spec | None, output: Output) -> list[Finding]:
    with open_parameters(found, model) as source, output.progress("reading", num_bytes(source.leaves)) as advance:
        return examine(source, advance)


def _one(asked: Mapping[str, Fit], ways: list[str]) -> Iterator[str]:
    for name, told in asked.items():
        yield f"config {name}"
        yield f"  {'training':<11} {_verdict(told.training)}"
        again = not told.inference.loads and told.inference.reason == told.training.reason
        yield f"  {'inference':<11} {'no: as for training' if again else _verdict(told.inference)}"
        yield from (f"  {'sizes':<11} {words}" for words in told.sizes)
        for group in told.groups:
            yield f"  {group.kind:<11} {len(group.paths)} of the {group.part}, for example"
            yield f"              {group.example}"
        yield from (f"    {line}" for line in told.details[:_DETAILS])
    yield from (f"  {'way out':<11} {way}" for way in ways)


def _all(known: Mapping[str, Fit], purposes: tuple[str, ...]) -> Iterator[str]:
    """Which configs fit; where none does, how far the closest is off."""
    fitting = {name: told for name, told in known.items() if told.training.loads or told.inference.loads}
    for name, told in fitting.items():
        answers = ", ".join(f"{purpose}: {_verdict(getattr(told, purpose), brief=True)}" for purpose in purposes)
        yield f"  {name:<35} {answers}"
    if not fitting:
        yield f"  none of the {len(known)} named configs fits"
        closest = min(known, key=lambda name: known[name].num_differences)
        yield f"  closest: {closest}: {known[closest].training.reason}"
        yield "  for a model of other sizes, pass them: --config-file"


def _verdict(verdict: Verdict, *, brief: bool = False) -> str:
    if not verdict.loads:
        # The second sentence is what to call in Python; here the ways out follow.
        return "no" if brief else f"no: {verdict.reason.partition('. ')[0]}"
    counts = [(verdict.fresh, "start fresh"), (verdict.dropped, "are not used")]
    words = [f"{number} {what}" for number, what in counts if number]
    if brief:
        return f"yes ({', '.join(words)})" if words else "yes"
    return f"yes: {', '.join([f'{verdict.loaded} parameters are loaded', *words])}"


def _values(found: list[Finding] | None) -> Iterator[str]:
    if found is None:
        return
    wrong = [f"  ! {finding}" for finding in found if not finding.expected]
    expected = [f"    {finding}" for finding in found if finding.expected]
    what = counted(len(wrong), "finding")
    yield f"values: {what} that a trained model does not have" if wrong else "values: nothing is wrong"
    yield from shorten(wrong)
    if expected:
        yield f"  conspicuous, but as it may be: {counted(len(expected), 'array')}"
        yield from shorten(expected)


def _document(asked: Mapping[str, Fit], ways: list[str], values: list[Finding] | None) -> dict[str, Any]:
    document: dict[str, Any] = {"configs": {name: _plain(told) for name, told in asked.items()}, "way_out": ways}
    return document if values is None else document | {"values": [finding._asdict() for finding in values]}


def _plain(told: Fit) -> dict[str, Any]:
    verdicts = {
        purpose: {"loads": getattr(told, purpose).loads, **getattr(told, purpose)._asdict()} for purpose in _PURPOSES
    }
    groups = [{**group._asdict(), "paths": list(group.paths)} for group in told.groups]
    return {**verdicts, "differences": groups, "sizes": list(told.sizes), "details": list(told.details)}
