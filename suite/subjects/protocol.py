"""How a subject is reached: a few operations on params, paths and plain JSON-able specs.

A harness is a module (or any object) with a ``NAME``, the ``TRAITS`` it declares, a function ``describe()`` that
gives versions and device as plain data, and any of the operations below as functions. It translates and does nothing
else: no repairs, no casts, no defaults of its own. Params are flat ``dict[str, np.ndarray]`` in both directions. An
operation that it lacks raises ``Unsupported``, one that fails raises whatever the implementation raises.

    param_spec(model)                                         {path: (shape, dtype name)}
    init(model, seed)                                         params
    restore(path, dtype)                                      params; dtype is a name, or None for "as stored"
    load(model, source, seed)                                 {"params", "report", "nonfinite", "warnings", "notes"}
    load_for_inference(model, path)                           params
    save(model, params, path)                                 None
    download(url, cache)                                      the local path, a string; cache is a folder
    loss(model, params, batch, noise, time, seed)             float[b, horizon]; None for noise or time: drawn
    sample_actions(model, params, batch, noise, num_steps)    float[b, horizon, action_dim]
    embed_prefix(model, params, batch)                        float[b, tokens, width]
    trainable(model)                                          [path]
    begin(model, source, options)                             {"device_bytes"} of a training's first state
    train(model, params, batches, options, folder)            {"params", "losses", "grad_norms", "averaged", ...}
    resume(model, batches, options, folder, step)             what train gives, of the steps after the saved one
    restore_sharded(path, shard_above)                        {"params", "device_bytes"}
    join(coordinator, num_processes, process_id)              None; to be called before anything else
    fold(model, params)                                       params
    fold_checkpoint(model, path, out, dtype)                  {path of an adapted weight: share of its delta lost}
    convert(model, path, layout, out)                         {"warnings": [text]}; layout is "openpi_pytorch"
    fold_losses(model, params)                                {path of an adapted weight: share of its delta lost}
    unfold(model, params)                                     the params again, after folding and unfolding
    extract(model, params)                                    {"base": params, "lora": params}
    merge(model, base, lora)                                  params

What a load gives beside its params: ``report``, {path: status} of every leaf of model and source; ``nonfinite``, {path:
number of NaN and infinite values}; ``notes``, texts of what had to be assumed; all None without the trait load_report;
``warnings``, a list of texts.

``fold_checkpoint`` makes ``<out>/params``; ``dtype`` is a name, or None for "as stored". With the trait every_layout,
``convert`` also takes the layouts "paligemma_npz" and "huggingface" (the PaliGemma part; the rest is left out), and
"peft".

A name within a path that has ``~`` or ``/`` in it has ``~0`` and ``~1`` there (RFC 6901): no two names share a path.

A model is a spec as ``fixtures.specs`` writes it, a batch has the keys of ``fixtures.observations``. A source is
``{"kind": "checkpoint" | "paligemma" | "hugging_face" | "gemma_flax" | "openpi_pytorch" | "nothing", "path": ...}``, or
``{"kind": "peft", "path": of a base in openpi's PyTorch layout, "adapter": of a PEFT adapter}``;
with ``"resample_positions": True`` position embeddings of a PaliGemma for another image size are resampled, with
``"extend_vocabulary": True`` a Gemma's token table gets fresh rows for tokens that it lacks. The options of a
training are ``optimizer`` (as in a golden case.json), ``seed``, ``frozen_dtype``, ``ema_decay``, ``shard_above``, and
optionally ``noise`` and ``time``, one a step. ``shard_above`` is None for one device; otherwise arrays of that many
bytes or more are spread over all devices. With a ``folder`` (None by default) a training saves its state there after
its last step and deletes no earlier one: ``<folder>/<step>/params`` is what to serve. ``resume`` goes on from a saved
step (the latest by default); ``batches`` are those of all steps, the made ones included.

What a training gives beside the rest: ``compiled``, how often each step was compiled (trait counts_compilations);
``optimizer_bytes``, what the optimizer's state takes (trait counts_bytes), and ``device_bytes``, what each device holds
of the whole state (trait sharding). Subjects without the trait give None.
"""

from collections.abc import Callable
from typing import Any

from suite.subjects.capabilities import OPERATIONS, TRAITS


class Unsupported(NotImplementedError):
    """The subject does not offer the operation."""


class ProcessDiedError(Exception):
    """The process that a subject runs in ended, or did not answer in time."""


class Subject:
    """A harness behind the protocol: every operation is there; one that the harness lacks raises ``Unsupported``."""

    def __init__(self, harness: Any, *, asked_as: str | None = None) -> None:
        self._harness = harness
        # What finds the same subject in another process.
        self.asked_as = asked_as
        self.name: str = harness.NAME
        traits = frozenset(harness.TRAITS)
        if unknown := sorted(traits - TRAITS.keys()):
            raise ValueError(f"{self.name}: unknown traits {unknown}; known ones are {sorted(TRAITS)}")
        self.capabilities = traits | {name for name in OPERATIONS if hasattr(harness, name)}

    def describe(self) -> dict[str, Any]:
        """Versions and device as the harness tells them."""
        return {
            "name": self.name,
            "capabilities": sorted(self.capabilities),
            **self._harness.describe(),
        }

    def rest(self) -> None:
        """Let go of what can be had again: the process of a harness that runs in another."""
        getattr(self._harness, "rest", lambda: None)()

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        """The operation, whether or not the harness has it."""
        if operation not in OPERATIONS:
            raise AttributeError(operation)
        function: Callable[..., Any] | None = getattr(self._harness, operation, None)
        return function or self._refuse(operation)

    def _refuse(self, operation: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise Unsupported(f"{self.name} does not offer {operation}: {OPERATIONS[operation]}")

        return refuse
