"""The museum: bugs that people met, rebuilt on the reference, one file an area. Contracts have to catch them."""

import importlib
import pkgutil
from functools import cache

from suite.faults.fault import Fault

# Modules of this folder that hold no faults.
_NOT_ROOMS = {"__main__", "changes", "counts", "fault", "fuzz", "matrix", "reach", "run", "selection", "watched"}


@cache
def all_faults() -> dict[str, Fault]:
    """Every fault by its id, in the order of files and of their lists."""
    rooms = sorted({module.name for module in pkgutil.iter_modules(__path__)} - _NOT_ROOMS)
    faults = [fault for room in rooms for fault in importlib.import_module(f"suite.faults.{room}").FAULTS]
    if len(by_id := {fault.id: fault for fault in faults}) != len(faults):
        raise ValueError("two faults have the same id")
    return by_id
