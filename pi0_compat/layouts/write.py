"""Write a checkpoint in another layout: what each layout has room for, how it is written, and how it is verified."""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.layout import Layout
from pi0_compat.layouts.lerobot.adapters import write_adapters
from pi0_compat.layouts.lerobot.policy import Policy
from pi0_compat.layouts.lerobot.weights import write_policy
from pi0_compat.layouts.orbax.folder import PARAMS
from pi0_compat.layouts.orbax.write_stream import save_streamed
from pi0_compat.layouts.paligemma_npz import open_npz, write_npz
from pi0_compat.layouts.sizes import model_of, sizes_of
from pi0_compat.layouts.torch import openpi as openpi_pytorch
from pi0_compat.layouts.torch.hugging_face import open_hugging_face, write_hugging_face
from pi0_compat.layouts.torch.peft import write_peft
from pi0_compat.layouts.torch.write_folder import dtype_name, write_folder
from pi0_compat.lora.sites import ExpertLoRAs
from pi0_compat.model.named import named_models
from pi0_compat.model.pi0_spec import ParamsMismatchError, Pi0Spec
from pi0_compat.params import Leaf, differences, num_bytes
from pi0_compat.paths import TOKEN_TABLE, UNUSED_HEAD, in_paligemma, is_adapter
from pi0_compat.progress import Progress
from pi0_compat.storage.stream import Counted, Source, slabs_ahead
from pi0_compat.storage.transforms import Summed


def writable(name: str) -> Layout:
    """Return the layout of this name, if checkpoints can be written in it.

    Raises:
      ValueError: no layout has the name, or none that can be written; the message names the one that is nearest.
    """
    if name in TARGETS:
        return Layout(name)
    near = next((layout for layout in TARGETS if _letters(layout) == _letters(name)), None)
    question = f"did you mean {near}? " if near else ""
    raise ValueError(f"unknown layout {name!r}; {question}expected one of {', '.join(TARGETS)}")


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


class Job(NamedTuple):
    """What to write, and what is known about it.

    Attributes:
      source: all parameters of the checkpoint, folded and cast if requested.
      experts: the adapters of both experts, as far as they are known.
      lora: what to record of the adapters; None if nothing is known.
      config: the model that the caller named, without adapters.
      family: pi0, pi05 or another, from the names of all parameters.
      progress: is called as the work goes on.
      policy: of lerobot's layout, everything but weights.
      max_shard_bytes: the most that the tensors of a file may have; None for one file.
    """

    source: Source
    experts: ExpertLoRAs
    lora: Mapping[str, Any] | None
    config: Pi0Spec | None
    family: str
    progress: Progress
    policy: Policy | None = None
    max_shard_bytes: int | None = None


class Target(NamedTuple):
    """A layout that can be written.

    Attributes:
      holds: whether the layout has room for a parameter.
      write: writes a job to a path that does not exist yet, reads it back and compares.
      takes_adapters: whether the layout holds adapters as adapters.
      takes_assets: whether norm stats go along.
      takes_shards: whether the layout's own reader takes weights in several files.
      suffix: the end of the file name, for a layout that is one file.
    """

    holds: Callable[[str], bool]
    write: Callable[[Job, Path], None]
    takes_adapters: bool = False
    takes_assets: bool = False
    takes_shards: bool = False
    suffix: str = ""


def _write_openpi(job: Job, place: Path) -> None:
    if job.config:
        _require_sizes(job.source, job.config)
    place.mkdir()
    save_streamed(
        job.source,
        place / PARAMS,
        lora=job.lora,
        family=_recorded_family(job),
        title="converting",
        progress=job.progress,
    )


def _recorded_family(job: Job) -> str | None:
    """Return the family of the config, if the parameters are a whole model of it and not a part."""
    base = {path for path in job.source.leaves if not is_adapter(path)}
    return job.config.family if job.config and base == job.config.param_spec().keys() else None


def _write_pytorch(job: Job, place: Path) -> None:
    leaves = job.source.leaves
    model = job.config or known_model(job.source)
    if model.action_expert is None:
        raise LoadError(
            f"{job.source.path}: a pi0_fast, which openpi does not have in PyTorch; its weights fit hugging_face and "
            "paligemma_npz"
        )
    _require_fit(job.source, model)
    table = leaves[TOKEN_TABLE]
    unused = {UNUSED_HEAD: Leaf((table.shape[0], model.action_expert.width), table.dtype)}
    config = openpi_pytorch.recorded_config(model, dtype_name(leaves.values()))

    def write(source: Source, place: Path) -> None:
        write_folder(place, source, openpi_pytorch.rules(model), config, unused)

    _compared(job, place, write, lambda path: nullcontext(openpi_pytorch.open_pytorch(path, model)))


def _write_lerobot(job: Job, place: Path) -> None:
    assert job.policy
    policy, model = job.policy, job.policy.model
    if policy.base is not None:
        if not job.source.leaves:
            raise LoadError(f"{job.source.path}: it has no adapters to write for {policy.base}; leave --adapters out")
        with job.progress("converting", num_bytes(job.source.leaves)) as advance:
            write_adapters(Counted(job.source, advance), place, job.experts, policy)
        return
    _require_fit(job.source, model)
    _compared(
        job,
        place,
        lambda source, place: write_policy(source, place, policy),
        lambda path: nullcontext(openpi_pytorch.open_pytorch(path, model)),
    )


def _write_hugging_face(job: Job, place: Path) -> None:
    model = _paligemma(job)
    _compared(
        job,
        place,
        lambda source, place: write_hugging_face(source, place, model, job.max_shard_bytes),
        lambda path: open_hugging_face(path, model),
    )


def _write_npz(job: Job, place: Path) -> None:
    _paligemma(job)
    _compared(job, place, write_npz, open_npz)


def _write_peft(job: Job, place: Path) -> None:
    if not job.source.leaves:
        raise LoadError(f"{job.source.path}: it has no adapters, and a PEFT folder holds nothing else")
    if job.family in ("pi05", "pi0_fast"):
        raise LoadError(
            f"{job.source.path}: a {job.family}, which transformers does not have: there is nothing to put them on"
        )
    with job.progress("converting", num_bytes(job.source.leaves)) as advance:
        write_peft(Counted(job.source, advance), place, job.experts)


def _compared(
    job: Job,
    place: Path,
    write: Callable[[Source, Path], None],
    reopen: Callable[[Path], AbstractContextManager[Source]],
) -> None:
    """Write the parameters; then read them with the layout's own reader and compare the checksum of each one."""
    with job.progress("converting", num_bytes(job.source.leaves)) as advance:
        meant = Summed(Counted(job.source, advance))
        write(meant, place)
    with job.progress("reading it back", num_bytes(job.source.leaves)) as advance, reopen(place) as written:
        found = Summed(Counted(written, advance))
        for path in job.source.leaves:
            for slab in slabs_ahead(found, path):
                del slab
    if wrong := [path for path in job.source.leaves if found.sums[path] != meant.sums.get(path)]:
        raise CheckpointError(
            f"{place}: {len(wrong)} parameters that are read back are not what was meant, for example {wrong[0]}; "
            "nothing was kept"
        )


def _require_fit(source: Source, model: Pi0Spec) -> None:
    """Reject parameters that are not exactly those of the model."""
    try:
        model.require_fit(dict(source.leaves))
    except ParamsMismatchError as error:
        raise LoadError(f"{source.path}: {error}") from error


def _require_sizes(source: Source, model: Pi0Spec) -> None:
    """Reject parameters that do not have the model's shapes; a part of the model is enough."""
    spec = model.param_spec()
    shared = {path: leaf for path, leaf in source.leaves.items() if path in spec}
    if wrong := differences({path: spec[path] for path in shared}, shared, dtypes=False):
        raise LoadError(f"{source.path}: not of the sizes of the config\n{wrong}")


def _paligemma(job: Job) -> Pi0Spec:
    """Return the model whose PaliGemma this is; reject a part of a PaliGemma."""
    leaves = job.source.leaves
    model = job.config or model_of(sizes_of(leaves), leaves, job.source.path)
    spec = {path: leaf for path, leaf in model.param_spec().items() if in_paligemma(path)}
    if wrong := differences(spec, leaves, dtypes=False):
        raise LoadError(f"{job.source.path}: these are not the parameters of a whole PaliGemma\n{wrong}")
    return model


def known_model(source: Source) -> Pi0Spec:
    """Return the named model that has these parameters: the lengths of chunk and prompt are in no shape.

    Raises:
      LoadError: none has, or several have.
    """
    models: dict[Pi0Spec, list[str]] = {}
    for name, model in named_models().items():
        models.setdefault(model.without_lora(), []).append(name)
    fitting = {m: names for m, names in models.items() if not differences(m.param_spec(), source.leaves, dtypes=False)}
    if len(fitting) == 1:
        return next(iter(fitting))
    if not fitting:
        raise LoadError(
            f"{source.path}: no known config has these parameters; pass the one that it is of (--config, --config-file)"
        )
    lines = [
        f"  {names[0]}: action_horizon {model.action_horizon}, max_token_len {model.max_token_len}"
        for model, names in fitting.items()
    ]
    raise LoadError(
        f"{source.path}: several known configs have these parameters, and no shape tells which; pass the one that it "
        "is of (--config)\n" + "\n".join(lines)
    )


TARGETS: dict[Layout, Target] = {
    Layout.OPENPI: Target(lambda path: True, _write_openpi, takes_adapters=True, takes_assets=True),
    Layout.OPENPI_PYTORCH: Target(lambda path: True, _write_pytorch, takes_assets=True),
    Layout.LEROBOT: Target(lambda path: True, _write_lerobot),
    Layout.HUGGING_FACE: Target(in_paligemma, _write_hugging_face, takes_shards=True),
    Layout.PALIGEMMA_NPZ: Target(in_paligemma, _write_npz, suffix=".npz"),
    Layout.PEFT: Target(is_adapter, _write_peft, takes_adapters=True),
}
