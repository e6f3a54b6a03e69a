"""restore_params does not notice that a parameter of the checkpoint is lost."""

import sys
from pathlib import Path
import numpy as np
import jax
from flax.traverse_util import flatten_dict
from openpi.models import model as openpi_model

def flat(tree):
    return {"/".join(path): np.asarray(x) for path, x in flatten_dict(tree).items()}

def restore(path, dtype=None):
    return flat(openpi_model.restore_params(path, restore_type=np.ndarray, dtype=dtype and jax.numpy.dtype(dtype)))

HERE = Path(__file__).parent
try:
    restore_1 = restore(path=HERE / "input/params", dtype=None)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
print("wrong: restore raises no error", "right: an error that names action_in_proj/kernel, params", sep="\n")
sys.exit(1)
