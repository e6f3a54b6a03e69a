"""Save a numpy scalar with orbax, and restore it."""

import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

folder = Path(sys.argv[1]).absolute() / "saved"
saver = ocp.PyTreeCheckpointer()
saver.save(folder, {"a": np.float32(1.5)})
found = saver.restore(folder)["a"]
print("right" if getattr(found, "dtype", None) == np.float32 else "wrong")
