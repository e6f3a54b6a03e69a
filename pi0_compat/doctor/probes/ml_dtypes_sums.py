"""Sum ones in bfloat16 with numpy."""

import ml_dtypes
import numpy as np

print("right" if float(np.ones(1000, ml_dtypes.bfloat16).sum()) > 900 else "wrong")
