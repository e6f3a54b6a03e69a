"""Save two keys with orbax that differ by a dot and a level alone, and load them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

folder = Path(sys.argv[1]).absolute() / "saved"
tree: dict[str, Any] = {"a.b": np.zeros(2, np.float32), "a": {"b": np.ones(2, np.float32)}}
saver = ocp.PyTreeCheckpointer()
try:
    saver.save(folder, tree)
    found = saver.restore(folder)
    same = np.array_equal(found["a.b"], tree["a.b"]) and np.array_equal(found["a"]["b"], tree["a"]["b"])
    print("right" if same else "wrong")
except (KeyError, TypeError, ValueError):  # an error is right
    print("right")
