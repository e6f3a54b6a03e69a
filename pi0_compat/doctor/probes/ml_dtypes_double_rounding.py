"""Cast a float64 that lies just above the middle of two bfloat16 numbers."""

import ml_dtypes
import numpy as np

value = np.float64(1) + 2.0**-8 + 2.0**-40
print("right" if float(np.asarray(value).astype(ml_dtypes.bfloat16)) > 1 else "wrong")
