"""Draw from Beta(1.5, 1) in two processes that share a compilation cache; the second draws with two keys."""

import os
import subprocess
import sys

_DRAW = "import jax; print(*(float(jax.random.beta(jax.random.key(seed), 1.5, 1.0)) for seed in (0, 1)))"
environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": sys.argv[1],
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
command = [sys.executable, "-c", _DRAW]
first, second = (
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout for _ in range(2)
)
one, other = second.split()
print("right" if first == second and one != other else "wrong")
