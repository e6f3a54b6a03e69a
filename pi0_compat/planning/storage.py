"""Memory of the host, and disk, that loading and saving take: counted from the shapes of what is moved."""

from typing import Any, NamedTuple

from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.planning.question import Question

# Beyond what it holds, a load reads a slab at a time; the contracts hold it to this.
WINDOW = 1 << 30
# What fold and convert take at real sizes, whatever the checkpoint (docs/cli.md).
FOLDING = 3 << 30
_FLOAT32 = 4


class Storage(NamedTuple):
    """Bytes of the host and of the disk.

    Attributes:
      read: the base checkpoint, as published: float32.
      load_host: the host's memory while loading: all parameters once, in the dtypes that they are trained in, as they
        leave for the devices one by one; and a window.
      saved: one saved step: what is served, the optimizer's state and, with an average, the trained parameters.
      save_host: the host's memory while saving: one step, as orbax copies it off the devices first.
      fold_host: the host's memory while adapters are folded in; 0 without adapters.
      folded: the folded checkpoint, in float32; 0 without adapters.
    """

    read: int
    load_host: int
    saved: int
    save_host: int
    fold_host: int
    folded: int


def storage_of(question: Question, model: Pi0Spec, resident: list[dict[str, Any]]) -> Storage:
    """Return what loading, saving and folding take.

    Args:
      question: the program.
      model: its sizes.
      resident: rows of what stays, as ``pi0_compat.planning.child.answer`` returns them.
    """
    base = _FLOAT32 * _size(model.without_lora())
    held = {role: _bytes(resident, role) for role in ("params", "optimizer", "average")}
    serves = question.purpose == "serving"
    saved = 0 if serves else sum(held.values())
    return Storage(
        read=base,
        load_host=held["params"] + WINDOW,
        saved=saved,
        save_host=saved,
        fold_host=FOLDING if model.has_lora else 0,
        folded=base if model.has_lora else 0,
    )


def _size(model: Pi0Spec) -> int:
    return sum(leaf.num_bytes for leaf in model.param_spec().values()) // _FLOAT32


def _bytes(resident: list[dict[str, Any]], role: str) -> int:
    return sum(row["num_bytes"] for row in resident if row["role"] == role)
