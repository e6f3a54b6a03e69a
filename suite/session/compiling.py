"""Quick compilation for runs in which compiling takes longer than computing."""

import os
from importlib import metadata

# The same as ``pi0_compat.training.compile_options.quickest``, for every program of this process and its children:
# arrays that are computed one operation at a time compile hundreds of programs.
_FLAGS = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
# Later versions have no other emitters, and end a process with an unknown flag.
_LAST_VERSION = (0, 10)


def compile_quickly() -> None:
    """Set the flags that compile fastest, unless the user has set some; jax reads them when it first compiles.

    Do nothing where jaxlib is not installed: the tests of the pages run without it.
    """
    try:
        version = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
    except metadata.PackageNotFoundError:
        return
    if version <= _LAST_VERSION:
        os.environ.setdefault("XLA_FLAGS", " ".join(_FLAGS))
