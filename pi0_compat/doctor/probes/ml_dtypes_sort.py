"""Sort bfloat16 numbers of which one is NaN with numpy."""

import ml_dtypes
import numpy as np

found = np.sort(np.asarray([3, np.nan, 1, 2, 0], ml_dtypes.bfloat16)).astype(np.float32)
numbers = found[~np.isnan(found)]
print("right" if np.all(np.diff(numbers) >= 0) else "wrong")
