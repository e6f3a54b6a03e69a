"""How a subject is reached: a few operations on params, paths and plain JSON-able specs.

An adapter is a module (or any object) with a ``NAME``, the ``TRAITS`` it declares, a function ``describe()`` that
gives versions and device as plain data, and any of the operations below as functions. It translates and does nothing
else: no repairs, no casts, no defaults of its own. Params are flat ``dict[str, np.ndarray]`` in both directions. An
operation that it lacks raises ``Unsupported``, one that fails raises whatever the implementation raises.

    param_spec(model)                                         {path: (shape, dtype name)}
    init(model, seed)                                         params
    restore(path, dtype)                                      params; dtype is a name, or None for "as stored"
    load(model, source, seed)                                 {"params", "report"}: {path: status}, or None
    load_for_inference(model, path)                           params
    save(model, params, path)                                 None
    loss(model, params, batch, noise, time, seed)             float[b, horizon]; None for noise or time: drawn
    sample_actions(model, params, batch, noise, num_steps)    float[b, horizon, action_dim]
    embed_prefix(model, params, batch)                        float[b, tokens, width]
    trainable(model)                                          [path]
    train(model, params, batches, options)                    {"params", "losses", "grad_norms", "averaged"}
    resume(model, params, batches, options, interrupt_after, folder)    what train gives
    fold(model, params)                                       params

A model is a spec as ``fixtures.specs`` writes it, a batch has the keys of ``fixtures.observations``. A source is
``{"kind": "checkpoint" | "paligemma" | "nothing", "path": ...}``. The options of a training are ``optimizer`` (as in a
golden case.json), ``seed``, ``frozen_dtype``, ``ema_decay``, and optionally ``noise`` and ``time``, one a step.
"""

from collections.abc import Callable
from typing import Any

from suite.capabilities import OPERATIONS, TRAITS


class Unsupported(NotImplementedError):
    """The subject does not offer the operation."""


class Subject:
    """An adapter behind the protocol: every operation is there; one that the adapter lacks raises ``Unsupported``."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.name: str = adapter.NAME
        traits = frozenset(adapter.TRAITS)
        if unknown := sorted(traits - TRAITS.keys()):
            raise ValueError(f"{self.name}: unknown traits {unknown}; known ones are {sorted(TRAITS)}")
        self.capabilities = traits | {name for name in OPERATIONS if hasattr(adapter, name)}

    def describe(self) -> dict[str, Any]:
        """Versions and device as the adapter tells them."""
        return {
            "name": self.name,
            "capabilities": sorted(self.capabilities),
            **self._adapter.describe(),
        }

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        """The operation, whether or not the adapter has it."""
        if operation not in OPERATIONS:
            raise AttributeError(operation)
        function: Callable[..., Any] | None = getattr(self._adapter, operation, None)
        return function or self._refuse(operation)

    def _refuse(self, operation: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise Unsupported(f"{self.name} does not offer {operation}: {OPERATIONS[operation]}")

        return refuse
