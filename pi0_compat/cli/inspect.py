"""Run ``pi0-compat inspect``."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from pi0_compat.checkpoints.inspect import Description, inspect_checkpoint, site_of
from pi0_compat.checkpoints.model_file import ModelFile, write_model_file
from pi0_compat.cli import NO, YES, norm_stats
from pi0_compat.cli.config_files import read_alpha
from pi0_compat.cli.output import Output, counted
from pi0_compat.layouts.layout import Layout
from pi0_compat.layouts.wholes import ADAPTERS_ALONE
from pi0_compat.model.specs import EXPERTS
from pi0_compat.model.variants import variant_of
from pi0_compat.text import format_bytes, shorten

_LAYOUTS = {
    Layout.OPENPI: "openpi, orbax: the parameters alone",
    Layout.TRAIN_STATE: "orbax: the optimizer state of a training run; the parameters are in params, next to it",
    Layout.GEMMA_FLAX: "gemma for flax, orbax: layers side by side",
    Layout.PALIGEMMA_NPZ: "PaliGemma's npz, of big_vision",
    Layout.OPENPI_PYTORCH: "openpi's PyTorch, safetensors",
    Layout.LEROBOT: "a policy of lerobot, safetensors",
    Layout.HUGGING_FACE: "Hugging Face, safetensors",
    Layout.PEFT: "PEFT, adapters alone, safetensors",
    Layout.UNKNOWN: "of no model that pi0-compat reads",
}
_NAMES = {"paligemma": "language", "action_expert": "expert"}


def run(options: argparse.Namespace, output: Output) -> int:
    """Inspect the checkpoint, and print what it is."""
    described = inspect_checkpoint(options.path)
    text = [described.name, *_lines(described, arrays=options.arrays)]
    document = {"path": described.name, **_document(described)}
    if options.write_config:
        alpha = read_alpha(options)
        written = write_model_file(described, options.write_config, alpha=alpha, rslora=options.rslora)
        text += _model_file(written)
        document["config_file"] = str(written.path)
    output.give(document, "\n".join(text))
    return YES if described.is_whole else NO


def _model_file(written: ModelFile) -> Iterator[str]:
    """Render what was written, and what no shape shows."""
    values = ", ".join(f"{name} {value}" for name, value in written.assumed.items())
    yield f"wrote {written.path}: a {written.model.family}, for --config-file"
    source = f"as {written.like} has it" if written.like else "as openpi has it by default"
    yield f"  in no shape, so {source}: {values}"


def _document(described: Description) -> dict[str, Any]:
    """Return the description as plain data."""
    return {
        "layout": str(described.layout),
        "family": described.family,
        "other": described.other,
        "sizes": described.sizes,
        "variants": {name: variant_of(part) for name, part in described.sizes.items() if isinstance(part, dict)},
        "values": described.num_values,
        "bytes": described.bytes_by_dtype,
        "ranks": described.ranks,
        "lora": described.lora,
        "written_by": described.written_by,
        "training": described.training,
        "digests": described.digests,
        "norm_stats": [norm_stats.document(found, found.flaws()) for found in described.norm_stats],
        "missing": list(described.missing),
        "strays": list(described.strays),
        "why_not": described.why_not,
        "leftovers": list(described.leftovers),
        "arrays": {
            name: {"shape": list(leaf.shape), "dtype": leaf.dtype.name} for name, leaf in described.leaves.items()
        },
    }


def _lines(described: Description, *, arrays: bool) -> Iterator[str]:
    for name, words in _facts(described):
        yield f"  {name:<11} {words}"
    for line in shorten(list(described.missing)):
        yield f"  - {line}"
    if arrays:
        yield from (f"    {name}: {leaf}" for name, leaf in described.leaves.items())


def _facts(described: Description) -> Iterator[tuple[str, str]]:
    with_adapters = described.ranks and not described.family.startswith(ADAPTERS_ALONE)
    other = f": {described.other}" if described.other else ""
    yield "family", described.family + (" with LoRA" if with_adapters else other)
    yield "layout", _LAYOUTS[described.layout]
    if described.written_by:
        yield "written by", described.written_by
    yield "holds", _holds(described)
    yield from _sizes(described.sizes)
    yield from _lora(described)
    yield from _run(described)
    for found in described.norm_stats:
        yield "norm stats", norm_stats.describe(found)
        yield from (("", line) for line in norm_stats.flaw_lines([] if found.problem else found.flaws()))
    if described.layout is Layout.OPENPI:
        number = len(described.leaves)
        yield "digests", f"of {described.digests} of {number} parameters" if described.digests else "none recorded"
    if described.leftovers:
        yield "leftovers", f"of an interrupted save or copy, harmless: {', '.join(described.leftovers)}"
    if described.strays:
        yield "no place", f"for {counted(len(described.strays), 'array')}, for example {described.strays[0]}"
    if described.why_not:
        yield "why not", described.why_not
    yield "complete", _complete(described)


def _complete(described: Description) -> str:
    if described.why_not:
        return "no: not a model that pi0 is made of"
    return f"no: {counted(len(described.missing), 'problem')}" if described.missing else "yes"


def _holds(described: Description) -> str:
    dtypes = ", ".join(f"{name} {format_bytes(size)}" for name, size in described.bytes_by_dtype.items())
    return (
        f"{counted(described.num_values, 'number')} in {counted(len(described.leaves), 'array')}: {dtypes or 'nothing'}"
    )


def _sizes(sizes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if siglip := sizes.get("siglip"):
        image = f"; images of {sizes['image_size']} pixels" if "image_size" in sizes else ""
        yield "vision", f"{_part(siglip, 'SigLIP')}{image}"
    for expert in EXPERTS:
        if part := sizes.get(expert):
            vocabulary = f"; {sizes['vocab_size']} tokens" if expert == "paligemma" and "vocab_size" in sizes else ""
            yield _NAMES[expert], f"{_part(part, 'Gemma')}{vocabulary}"
    if "action_dim" in sizes:
        yield "actions", f"action_dim {sizes['action_dim']}"


def _part(part: Mapping[str, Any], kind: str) -> str:
    """Return the name of an expert or the image encoder, if it has one, and its sizes."""
    name = variant_of(part)
    sizes = ", ".join(f"{key} {value}" for key, value in sorted(part.items()))
    return f"{kind} {name} ({sizes})" if name else f"{kind} ({sizes})"


def _lora(described: Description) -> Iterator[tuple[str, str]]:
    for expert, ranks in described.ranks.items():
        sites: dict[int, list[str]] = {}
        for weight, rank in ranks.items():
            sites.setdefault(rank, []).append(site_of(weight))
        words = "; ".join(f"rank {rank} at {', '.join(names)}" for rank, names in sites.items())
        yield "LoRA", f"{_NAMES[expert]}: {words}; {_alpha((described.lora or {}).get(expert))}"
    if described.layout is Layout.PEFT:
        config = described.lora or {}
        yield "LoRA", ", ".join(f"{key} {value}" for key, value in config.items()) or "no adapter_config.json: no alpha"


def _alpha(recorded: Mapping[str, Any] | None) -> str:
    if recorded is None:
        return "alpha is not recorded"
    kinds = {"attn": "attention", "ffn": "feed-forward"}
    words = [
        f"{spec['alpha']:g} of {kinds[kind]}{' (rslora)' if spec.get('rslora') else ''}"
        for kind, spec in recorded.items()
        if spec
    ]
    return f"alpha {', '.join(words)}"


def _run(described: Description) -> Iterator[tuple[str, str]]:
    if (training := described.training) is None:
        return
    step = "a step" if training["step"] is None else f"step {training['step']}"
    steps = f" (saved steps: {', '.join(map(str, training['steps']))})" if len(training["steps"]) > 1 else ""
    state = "with optimizer state" if training["train_state"] else "no optimizer state"
    served = {True: "; the parameters are a moving average (EMA)", False: "; the parameters as trained, no EMA"}
    yield "training", f"{step}{steps}, {state}{served.get(training['ema'], '')}"
