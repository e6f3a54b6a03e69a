"""Save and resume a run through orbax's ``CheckpointManager``: steps in one folder, each complete or absent.

A step holds ``params``, what to serve (openpi's layout: pass ``<run>/<step>/params`` to ``restore_params``), and
``train_state``, what else the run needs: optimizer state and, with a moving average, the parameters as trained.
"""

import os
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from pi0_compat import params as tree
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.folder import PARAMS, require_tree
from pi0_compat.layouts.orbax.item import item_metadata
from pi0_compat.layouts.orbax.metadata import Metadata, read_metadata
from pi0_compat.layouts.orbax.restore import restore_on_devices
from pi0_compat.layouts.orbax.save import params_item
from pi0_compat.params import Params
from pi0_compat.storage.placement import Placement, shardings
from pi0_compat.training.configs import TrainConfig
from pi0_compat.training.step import TrainState, abstract_train_state


def open_run(folder: str | os.PathLike[str], *, max_to_keep: int | None = 1) -> ocp.CheckpointManager:
    """Open the checkpoints of a run. Close the result (or use ``with``) to wait for the last save.

    Args:
      folder: the run's folder; it is made if it does not exist.
      max_to_keep: the number of latest steps to keep; None keeps all.
    """
    options = ocp.CheckpointManagerOptions(max_to_keep=max_to_keep, create=True)
    handlers = {
        "params": ocp.PyTreeCheckpointHandler(),
        "train_state": ocp.PyTreeCheckpointHandler(),
    }
    return ocp.CheckpointManager(Path(folder).expanduser().absolute(), options=options, item_handlers=handlers)


def save_train_state(run: ocp.CheckpointManager, config: TrainConfig, state: TrainState) -> None:
    """Write the state as step ``state.step``, in the background; errors surface at the next call or at close.

    Args:
      run: the run's checkpoints, as ``open_run`` returns them.
      config: the run's config; rank and alpha of its adapters are recorded.
      state: the state to save.

    Raises:
      CheckpointError: the run already has this step or a later one. Orbax would skip the save silently.
    """
    latest = run.latest_step()
    if latest is not None and int(state.step) <= latest:
        raise CheckpointError(
            f"{run.directory}: step {int(state.step)} is not after the latest one, {latest}, and would not be saved; "
            "delete the later steps or save to another folder"
        )
    items = ocp.args.Composite(
        params=params_item(state.inference_params, config=config.model),
        train_state=ocp.args.PyTreeSave(item=_rest_of(state), custom_metadata={"ema": state.ema is not None}),
    )
    run.save(int(state.step), args=items)


def resume_train_state(
    run: ocp.CheckpointManager,
    config: TrainConfig,
    *,
    step: int | None = None,
    sharding: Placement | None = None,
) -> TrainState:
    """Return the state of a step, wherever it was saved.

    Args:
      run: the run's checkpoints, as ``open_run`` returns them.
      config: the config that the run was trained with.
      step: the step; by default the latest.
      sharding: where arrays go; by default the first device.

    Raises:
      CheckpointError: there is no such step, or it is of another model, rank or alpha, or was trained with a moving
        average and the config has none, or the other way round.
    """
    run.wait_until_finished()
    step = run.latest_step() if step is None else step
    if step is None or step not in run.all_steps():
        wanted = "any step" if step is None else f"step {step}"
        raise CheckpointError(f"{run.directory}: no checkpoint of {wanted}; found {sorted(run.all_steps())}")
    template = abstract_train_state(config, sharding)
    folder = Path(run.directory) / str(step)
    stored = _require_same_run(folder, config, template)
    places = shardings(template.params)
    saved = restore_on_devices(stored, dict.fromkeys(places), sharding=places.__getitem__)
    try:
        restored = run.restore(step, args=ocp.args.Composite(train_state=_restore(_rest_of(template))))
    except Exception as error:
        raise CheckpointError(f"{folder}: the step is damaged or incomplete ({error})") from error
    return _join(template, saved, restored["train_state"])


def _rest_of(state: TrainState) -> dict[str, Any]:
    """Return what the ``params`` item lacks. If that item holds an average, the trained parameters go here."""
    rest = {"step": state.step, "opt_state": state.opt_state}
    return rest if state.ema is None else rest | {"trainable": state.trainable}


def _join(template: TrainState, saved: Params, rest: dict[str, Any]) -> TrainState:
    averaged = {path: saved[path] for path in template.trainable}
    return TrainState(
        step=rest["step"],
        trainable=averaged if template.ema is None else rest["trainable"],
        frozen={path: saved[path] for path in template.frozen},
        opt_state=rest["opt_state"],
        ema=None if template.ema is None else averaged,
    )


def _require_same_run(folder: Path, config: TrainConfig, template: TrainState) -> Metadata:
    """The step's parameters, unread, once what it recorded is what the config would make."""
    stored = read_metadata(require_tree(folder / PARAMS))
    if found := tree.differences(template.inference_params, stored.leaves):
        raise CheckpointError(f"{folder}: the step is of another model than config {config.name!r}\n{found}")
    if stored.lora != config.model.lora:
        raise CheckpointError(f"{folder}: trained with LoRA {stored.lora}, the config has {config.model.lora}")
    had_ema = item_metadata(folder / "train_state").custom_metadata["ema"]
    if had_ema != (template.ema is not None):
        trained, wants = ("with", "without") if had_ema else ("without", "with")
        raise CheckpointError(
            f"{folder}: trained {trained} a moving average, the config is {wants}; set ema_decay as it was"
        )
    return stored


def _restore(item: Any) -> ocp.args.PyTreeRestore:
    def args(leaf: jax.ShapeDtypeStruct) -> ocp.ArrayRestoreArgs:
        return ocp.ArrayRestoreArgs(sharding=leaf.sharding, dtype=leaf.dtype, global_shape=leaf.shape)

    return ocp.args.PyTreeRestore(item=item, restore_args=jax.tree.map(args, item))
