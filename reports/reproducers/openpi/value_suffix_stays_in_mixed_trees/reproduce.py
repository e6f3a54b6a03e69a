"""restore_params leaves the suffix 'value' in every name if one leaf lacks it."""

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

def report(found, right):
    wrong = [name for name in sorted(right) if name not in found or not np.array_equal(found[name], right[name])]
    for name in wrong[:3]:
        x, y = np.asarray(found.get(name, [])), np.asarray(right[name])
        at = np.unravel_index(np.argmax(x != y), y.shape) if x.shape == y.shape else ()
        where = f"{name}{[*map(int, at)] if at else ''}"
        print(f"wrong: {where} is {x[at] if at else 'missing' if name not in found else x.shape}")
        print(f"right: {where} is {y[at] if at else y.shape}")
    print(f"{len(wrong)} of {len(right)} arrays are wrong")
    return int(len(wrong) > 0)

HERE = Path(__file__).parent
EXPECTED = dict(np.load(HERE / "input/expected.npz"))
restore_0 = restore(path=HERE / "input/params", dtype=None)
sys.exit(report(restore_0, EXPECTED))
