"""Restore an array into a numpy target of another shape with orbax."""

import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

folder = Path(sys.argv[1]).absolute() / "saved"
saver = ocp.PyTreeCheckpointer()
saver.save(folder, {"a": np.zeros((2, 3), np.float32)})
try:
    shape = saver.restore(folder, item={"a": np.ones((5, 7), np.float32)})["a"].shape
    print("wrong" if shape == (2, 3) else "right")
except (KeyError, TypeError, ValueError):  # an error is right
    print("right")
