"""Change a byte of an array that orbax saved, and restore it."""

import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

folder = Path(sys.argv[1]).absolute() / "saved"
array = np.random.default_rng(0).integers(0, 256, 100_000).astype(np.uint8)
saver = ocp.PyTreeCheckpointer()
saver.save(folder, {"a": array})
file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
content = bytearray(file.read_bytes())
content[len(content) // 2] ^= 1
file.write_bytes(bytes(content))
try:
    found = np.asarray(saver.restore(folder)["a"])
except Exception:  # noqa: BLE001 - orbax and tensorstore raise all kinds, and each is right
    found = array
print("right" if np.array_equal(found, array) else "wrong")
