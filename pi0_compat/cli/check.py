"""Run ``pi0-compat check``."""

import argparse
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pi0_compat.checkpoints.check import CONFIG, PURPOSES, Check, Fit, Purpose, Verdict, base_first, check_checkpoint
from pi0_compat.checkpoints.values import Finding
from pi0_compat.cli import NO, YES, norm_stats
from pi0_compat.cli.config_files import read_config
from pi0_compat.cli.output import Output, counted
from pi0_compat.norm_stats.fit import StatsFits
from pi0_compat.text import shorten

# A period in the name of a tensor ends no sentence.
_SECOND_SENTENCE = re.compile(r"\. (?=[A-Z])")
# Lines of a loader's list that a person reads; a document has all of them.
_DETAILS = 4


def run(options: argparse.Namespace, output: Output) -> int:
    """Check the checkpoint and print the verdicts."""
    purposes: tuple[Purpose, ...] = (options.purpose,) if options.purpose else PURPOSES
    model = read_config(options)
    asked = options.config or model
    check = check_checkpoint(options.path, asked, values=options.values, progress=output.progress)
    if options.config_file:
        check = dataclasses.replace(check, fits={str(options.config_file): check.fits[CONFIG]})
    fits = _one(check) if model else _all(check, purposes)
    text = [f"{check.name}: {check.layout}", *fits, *_norm_stats(check.norm_stats), *_values(check.findings)]
    output.give(_document(check), "\n".join(text))
    return YES if check.loads(*purposes) else NO


def _one(check: Check) -> Iterator[str]:
    """Render the fit with the config that was named."""
    for name, fit in check.fits.items():
        yield f"config {name}"
        yield f"  {'training':<11} {_verdict(fit.training)}"
        same = not fit.inference.loads and fit.inference.reason == fit.training.reason
        yield f"  {'inference':<11} {'no: as for training' if same else _verdict(fit.inference)}"
        yield from (f"  {'sizes':<11} {words}" for words in fit.sizes)
        for group in fit.groups:
            yield f"  {group.kind:<11} {len(group.paths)} of the {group.part}, for example"
            yield f"              {group.example}"
        yield from (f"    {line}" for line in fit.details[:_DETAILS])
    yield from (f"  {'fix':<11} {fix}" for fix in check.fixes)


def _all(check: Check, purposes: tuple[Purpose, ...]) -> Iterator[str]:
    """Render the configs that fit; where none does, how far off the closest is."""
    known = check.fits
    fitting = {name: fit for name, fit in known.items() if fit.training.loads or fit.inference.loads}
    for name in base_first(fitting):
        fit = fitting[name]
        answers = ", ".join(f"{purpose}: {_verdict(fit.verdict(purpose), brief=True)}" for purpose in purposes)
        yield f"  {name:<35} {answers}"
    if check.why_not:
        yield f"  none of the {len(known)} named configs fits: {check.why_not}"
    elif not fitting and check.problems:
        number = counted(len(check.problems), "problem")
        yield f"  none of the {len(known)} named configs fits: the checkpoint is not whole: {number}, for example"
        yield f"  - {check.problems[0]}"
    elif not fitting:
        yield f"  none of the {len(known)} named configs fits"
        closest = min(base_first(known), key=lambda name: known[name].apart)
        fit = known[closest]
        number = f"{counted(fit.apart, 'parameter')} {'differs' if fit.apart == 1 else 'differ'}"
        yield f"  closest: {closest}, {number}: {'; '.join(fit.sizes) or fit.training.reason}"
        yield "  for a model of other sizes, write them to a file for --config-file: inspect --write-config FILE"


def _verdict(verdict: Verdict, *, brief: bool = False) -> str:
    if not verdict.loads:
        # The second sentence is what to call in Python; here the fixes follow.
        return "no" if brief else f"no: {_SECOND_SENTENCE.split(verdict.reason)[0]}"
    counts = [(verdict.fresh, "start fresh", "starts fresh"), (verdict.dropped, "are not used", "is not used")]
    words = [f"{number} {single if number == 1 else many}" for number, many, single in counts if number]
    if brief:
        return f"yes ({', '.join(words)})" if words else "yes"
    return f"yes: {', '.join([f'{verdict.loaded} parameters are loaded', *words])}"


def _norm_stats(fits: StatsFits) -> Iterator[str]:
    for fit in fits.files:
        yield f"norm stats  {norm_stats.describe(fit.found)}{'' if fit.is_taken else '; not for this config'}"
        yield from (f"  {line}" for line in norm_stats.flaw_lines([] if fit.found.problem else fit.flaws))
    if fits.note:
        yield f"norm stats  {fits.note}"


def _values(findings: Sequence[Finding] | None) -> Iterator[str]:
    if findings is None:
        return
    wrong = [f"  ! {finding}" for finding in findings if not finding.expected]
    expected = [f"    {finding}" for finding in findings if finding.expected]
    what = counted(len(wrong), "finding")
    yield f"values: {what} that a trained model does not have" if wrong else "values: nothing is wrong"
    yield from shorten(wrong)
    if expected:
        yield f"  unusual but expected: {counted(len(expected), 'array')}"
        yield from shorten(expected)


def _document(check: Check) -> dict[str, Any]:
    document: dict[str, Any] = {
        "path": check.name,
        "layout": str(check.layout),
        "configs": {name: _plain(fit) for name, fit in check.fits.items()},
        "why_not": check.why_not,
        "problems": list(check.problems),
        "fixes": list(check.fixes),
        "norm_stats": [
            {**norm_stats.document(fit.found, fit.flaws), "is_taken": fit.is_taken} for fit in check.norm_stats.files
        ],
    }
    values = check.findings
    return document if values is None else document | {"values": [finding._asdict() for finding in values]}


def _plain(fit: Fit) -> dict[str, Any]:
    return {
        **{str(purpose): _verdict_document(fit.verdict(purpose)) for purpose in PURPOSES},
        "differences": [{**group._asdict(), "paths": list(group.paths)} for group in fit.groups],
        "sizes": list(fit.sizes),
        "details": list(fit.details),
        "apart": fit.apart,
    }


def _verdict_document(verdict: Verdict) -> dict[str, Any]:
    return {"loads": verdict.loads, **verdict._asdict()}
