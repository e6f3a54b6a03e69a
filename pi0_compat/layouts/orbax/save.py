"""Write parameters in memory as a checkpoint in openpi's layout, through orbax: complete or not at all."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from pi0_compat import params as tree
from pi0_compat.layouts.orbax.folder import PARAMS
from pi0_compat.layouts.orbax.metadata import SUFFIX, require_distinct_names
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Params
from pi0_compat.paths import is_adapter
from pi0_compat.storage import digests as integrity

# One second in total, for writes that cannot be waited for.
_REMOVALS, _SECONDS_BETWEEN_REMOVALS = 20, 0.05


def save_params(
    params: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    config: Pi0Spec | None = None,
    value_suffix: bool = True,
) -> None:
    """Write a checkpoint that openpi and ``restore_params`` read. It appears at ``path`` complete or not at all.

    Args:
      params: numpy or jax arrays, flat or nested.
      path: the folder to make; its parents are made too.
      config: record its family, rank and alpha; without ``config``, a reader must know the adapters' alpha, and cannot
        tell a pi0_fast from a PaliGemma.
      value_suffix: end the stored names in nnx's ``value``, as openpi's training does.

    Raises:
      FileExistsError: ``path`` exists already; it is left alone.
      ValueError: the adapters are not those of ``config``, or a name cannot be stored.
    """
    path = Path(path).expanduser().absolute()
    if path.exists():
        raise FileExistsError(f"{path}: already exists; choose another folder or remove it first")
    flat = tree.as_flat(params)
    if config is not None:
        _require_adapters_of(config, flat)
    item = params_item(flat, config=config, value_suffix=value_suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _scratch_folder(path) as scratch:
        with _checkpointer() as checkpointer:
            checkpointer.save(scratch / path.name, args=item)
        (scratch / path.name).rename(path)


def params_item(params: Params, *, config: Pi0Spec | None, value_suffix: bool = True) -> ocp.args.PyTreeSave:
    """Return flat parameters as an orbax item: openpi's nesting, with family, rank, alpha and digests recorded."""
    if not params:
        raise ValueError("there are no parameters to save")
    require_distinct_names(params, value_suffix=value_suffix)
    lora = None if config is None else config.lora
    metadata: dict[str, Any] = {"value_suffix": value_suffix, "lora": lora, "digests": integrity.record(params)}
    metadata |= {} if config is None else {"family": config.family}
    if value_suffix:
        params = {f"{path}/{SUFFIX}": array for path, array in params.items()}
    return ocp.args.PyTreeSave(item={PARAMS: tree.unflatten(params)}, custom_metadata=metadata)


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside ``path`` for this call: after a failure, orbax leaves its own in the way of the next."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield scratch
    except BaseException:
        # Orbax's other writes run on for a moment after the first has failed, and bring files back.
        for _ in range(_REMOVALS):
            shutil.rmtree(scratch, ignore_errors=True)
            time.sleep(_SECONDS_BETWEEN_REMOVALS)
        raise
    scratch.rmdir()


def _require_adapters_of(config: Pi0Spec, params: Params) -> None:
    """Reject adapters that are not the config's: a wrong alpha on record would be believed at the next load."""
    expected = {path: leaf for path, leaf in config.param_spec().items() if is_adapter(path)}
    found = {path: array for path, array in params.items() if is_adapter(path)}
    if wrong := tree.differences(expected, found, dtypes=False):
        raise ValueError(f"the adapters are not those of the config whose rank and alpha are to be recorded\n{wrong}")


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
