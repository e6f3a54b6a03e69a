"""Cast infinity to float8 with torch."""

import torch

print("right" if torch.tensor(float("inf")).to(torch.float8_e4m3fn).float().isnan() else "wrong")
