"""Save a transposed array with safetensors, and load it."""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

file = Path(sys.argv[1]) / "x.safetensors"
array = np.arange(6, dtype=np.float32).reshape(2, 3).T
save_file({"x": array}, str(file))
print("right" if np.array_equal(load_file(str(file))["x"], array) else "wrong")
