"""How a subject is called: a few operations on params, paths and plain, JSON-able specs.

A harness is a module (or any object) that makes an implementation a subject. It has a ``NAME``, the ``TRAITS`` that it
declares, a function ``describe()`` that returns versions and device as plain data, and any of the operations below as
functions. It translates and does nothing else: no repairs, no casts, no defaults of its own. Params are flat
``dict[str, np.ndarray]`` in both directions. An operation that the harness lacks raises ``Unsupported``; one that fails
raises whatever the implementation raises.

    param_spec(model)                                         {path: (shape, dtype name)}
    init(model, seed)                                         params
    restore(path, dtype)                                      params; dtype is a name, or None for "as stored"
    restore_limited(path, limits)                             params in the stored dtypes
    load(model, source, seed)                                 {"params", "report", "nonfinite", "warnings", "notes"}
    load_for_inference(model, path)                           params
    save(model, params, path)                                 None
    download(url, cache)                                      the local path as a string; cache is a folder
    loss(model, params, batch, noise, time, seed)             float[b, horizon]; noise or time None: drawn from seed
    sample_actions(model, params, batch, noise, num_steps)    float[b, horizon, action_dim]
    embed_prefix(model, params, batch)                        float[b, tokens, width]
    prompt_logits(model, params, tokens, mask)                float[b, tokens, vocab_size]; mask: false where padded
    token_logits(model, params, batch)                        float[b, tokens, vocab_size], of pi0_fast
    sample_tokens(model, params, batch, num_steps)            int[b, num_steps], of pi0_fast; greedy
    trainable(model)                                          [path]
    needs(model, options)                                     {"optimizer_bytes", "device_bytes"}, computed
    begin(model, source, options)                             {"device_bytes"} of the first state of a training
    train(model, params, batches, options, folder)            {"params", "losses", "grad_norms", "averaged", ...}
    resume(model, batches, options, folder, step)             as train, for the steps after the saved one
    restore_sharded(path, shard_above)                        {"params", "device_bytes"}
    join(coordinator, num_processes, process_id)              None; called before anything else
    fold(model, params)                                       params
    fold_checkpoint(model, path, out, dtype)                  {path of an adapted weight: share of its delta lost}
    convert(model, path, layout, out)                         {"warnings": [text]}; layout is "openpi_pytorch"
    write_policy(model, path, out, options)                   None
    act(model, path, observation, noise)                      {"state", "actions", "robot_actions"}
    fold_losses(model, params)                                {path of an adapted weight: share of its delta lost}
    unfold(model, params)                                     the params again, after folding and unfolding
    extract(model, params)                                    {"base": params, "lora": params}
    merge(model, base, lora)                                  params

Besides its params, ``load`` returns ``report``, {path: status} for every leaf of model and source; ``nonfinite``,
{path: number of NaN and infinite values}; and ``notes``, texts that say what had to be assumed. These are None without
the trait load_report. ``warnings`` is a list of texts.

The limits of ``restore_limited`` are some of ``array_bytes``, which any array may claim; ``compression``, how many
times larger than all files together an array may be beyond that; and ``piece_bytes``, what each piece of an array takes
at least. They are for tests: with low ones, a small and valid checkpoint claims too much.

``fold_checkpoint`` writes ``<out>/params``; its ``dtype`` is a name, or None for "as stored". With the trait
every_layout, ``convert`` also takes the layouts "paligemma_npz" and "hugging_face" (the PaliGemma part; the rest is
left out), and "peft".

``write_policy`` writes the step at ``path``, with the norm stats in its ``assets``, as lerobot 0.6.1 has policies. Its
options are some of ``delta_actions`` (as openpi's ``make_bool_mask`` takes them), ``state_in_prompt`` (of a pi05) and
``adapters_base`` (a path, to write adapters alone). ``act`` takes a batch whose ``state`` and ``actions`` are the
robot's; it returns them normalized, and the actions that ten steps of denoising from the noise give the robot.

Of pi0_fast, ``loss`` returns float[b] and takes no noise and time. ``sample_tokens`` has openpi's positions: the first
token that is written stands one after the next (openpi #705).

In a path, ``~`` and ``/`` within a name are written ``~0`` and ``~1`` (RFC 6901), so no two names share a path.

A model is a spec as ``fixtures.specs`` writes it; a batch has the keys of ``fixtures.observations``. A source is
``{"kind": KIND, "path": ...}`` with a kind of ``openpi``, ``paligemma_npz``, ``hugging_face``, ``gemma_flax``,
``openpi_pytorch``, ``lerobot``, ``saved`` (what ``save`` wrote) or ``nothing``, or ``{"kind": "peft", "path": of a base
in openpi's PyTorch layout, "adapter": of a PEFT adapter}``. A source of kind ``lerobot`` may have an ``adapter`` as
well, a PEFT training of that policy, which is merged into its weights. With ``"resample_positions": True``, position
embeddings of a PaliGemma for another image size are resampled; with ``"extend_vocabulary": True``, a Gemma's token
table gets fresh rows for the tokens that it lacks.

The options of a training are ``optimizer`` (as in a golden case.json), ``seed``, ``frozen_dtype``, ``ema_decay``,
``shard_above``, and optionally ``noise`` and ``time``, one per step. ``shard_above`` is None for one device; otherwise
arrays of at least that many bytes are spread over all devices. If ``folder`` is given, a training saves its state there
after its last step and deletes no earlier state; ``<folder>/<step>/params`` is what to serve. ``resume`` continues from
a saved step (the latest by default); ``batches`` are those of all steps, including the steps before it.

``needs`` makes no array. Its options are ``devices``, the number that state is spread over, and ``freeze_vision``; it
returns the bytes of the optimizer's state on all devices, and of the whole state on one.

A training also returns ``compiled``, how often each step was compiled (trait counts_compilations);
``optimizer_bytes``, the size of the optimizer's state (trait counts_bytes); and ``device_bytes``, what each device
holds of the whole state (trait sharding). Each is None for a subject without the trait.

The benchmarks and the gate measure a harness that has functions ``bench_<operation>(job)``, for any operation of
``benchmarks.cells.cells``. All are optional.

* ``job`` is plain data: the ``path`` of a checkpoint, the spec of a ``model``, a ``dtype``, a ``seed``, and for
  training and sampling ``inputs`` (a batch), ``devices``, ``spread`` (over the devices, or a copy each), ``num_steps``.
  The model may be a pi0-FAST (``--family``), whose inputs have its cameras and masks.
* A load, or a change of LoRA adapters in memory, does what is not measured and returns a function without arguments,
  which is what is measured.
* ``bench_train_step``, ``bench_train_step_kept``, ``bench_sample_actions`` and ``bench_sample_tokens`` return a dict,
  as a program is compiled once and called many times: ``jitted``, as ``jax.jit`` returns it; ``state``, what the first
  call starts from; ``arguments``, a function from a state to the arguments of ``jitted``; ``after``, a function from
  the outputs of ``jitted`` to the next state and a number, the loss, or the written tokens [rows, ``num_steps``].
* ``bench_arrays(result)`` returns the params of what a load returned; without it, the result is params.
* ``BENCH_STAGES``, ``{stage: ("module:function", ...)}``, names functions of the implementation whose time is shown.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from suite.subjects.capabilities import OPERATIONS, TRAITS
from suite.subjects.marks import run_marked

# Seconds that one operation may take in another process, unless the caller says otherwise.
TIMEOUT = 300.0


class Unsupported(NotImplementedError):
    """The subject does not offer the operation."""


class UnavailableError(Exception):
    """A subject cannot run here: there is no such interpreter, or the interpreter lacks the implementation."""


class CallError(Exception):
    """A call in another process has no result."""


class SubjectError(CallError):
    """A call raised an exception in the other process.

    Attributes:
      kind: the name of the exception's type.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class OutOfMemoryError(SubjectError):
    """A call needs more memory than the host or the device has."""


class ProcessDiedError(CallError):
    """The process that a subject runs in ended, or did not answer in time."""


class ProcessKilledError(ProcessDiedError):
    """The process that a subject runs in was killed (SIGKILL), as a system does that is short of memory."""


class Subject:
    """A harness behind the protocol: has every operation; one that the harness lacks raises ``Unsupported``.

    Attributes:
      name: the harness's ``NAME``.
      capabilities: its operations and traits.
      asked_as: ``NAME[=PYTHON]``, by which another process finds the same subject; None if there is no such name.
      finder: the module of this project whose ``find_harness`` finds the harness; None for one that is sent.
    """

    def __init__(self, harness: Any, *, asked_as: str | None = None, finder: str | None = None) -> None:
        self._harness = harness
        self.asked_as, self.finder = asked_as, finder
        self.name: str = harness.NAME
        traits = frozenset(harness.TRAITS)
        if unknown := sorted(traits - TRAITS.keys()):
            raise ValueError(f"{self.name}: unknown traits {unknown}; known ones are {sorted(TRAITS)}")
        self.capabilities = traits | {name for name in OPERATIONS if hasattr(harness, name)}

    def describe(self) -> dict[str, Any]:
        """Return name and capabilities, and the harness's own description: versions and device."""
        return {
            "name": self.name,
            "capabilities": sorted(self.capabilities),
            **self._harness.describe(),
        }

    def rest(self) -> None:
        """Release the subprocess, if the harness runs in one; it is restarted on the next call."""
        getattr(self._harness, "rest", lambda: None)()

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        """Return the operation; one that raises ``Unsupported`` if the harness lacks it.

        An error that the operation raises is marked as the subject's; see ``marks``.
        """
        if operation not in OPERATIONS:
            raise AttributeError(operation)
        function: Callable[..., Any] | None = getattr(self._harness, operation, None)
        return partial(run_marked, operation, function) if function else self._refuse(operation)

    def _refuse(self, operation: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise Unsupported(f"{self.name} does not offer {operation}: {OPERATIONS[operation]}")

        return refuse
