"""Restore a name that was not saved with orbax's partial restores."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

folder = Path(sys.argv[1]).absolute() / "saved"
saver = ocp.PyTreeCheckpointer()
saver.save(folder, {"a": np.zeros(2, np.float32)})
target = {"a": np.ones(2, np.float32), "b": np.full(2, 7, np.float32)}
found = []
kinds: list[dict[str, Any]] = [{"partial_restore": True}, {"transforms": {}}]
for options in kinds:
    try:
        found.append(saver.restore(folder, args=ocp.args.PyTreeRestore(item=target, **options)))
    except (KeyError, TypeError, ValueError):  # an error is right
        found.append({})
print("wrong" if any(tree.get("b") is not None and np.all(np.asarray(tree["b"]) == 7) for tree in found) else "right")
