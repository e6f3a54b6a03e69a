"""The museum: loader bugs rebuilt as patches of the reference, one file per area in ``rooms``.

They are the mutants of mutation testing: contracts must catch every one.
"""

import importlib
import pkgutil
from functools import cache

from suite.faults import rooms
from suite.faults.fault import Fault


@cache
def all_faults() -> dict[str, Fault]:
    """Return every fault by its id, in the order of the files and of their lists.

    Raises:
      ValueError: two faults have the same id.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(rooms.__path__))
    faults = [fault for name in names for fault in importlib.import_module(f"suite.faults.rooms.{name}").FAULTS]
    if len(by_id := {fault.id: fault for fault in faults}) != len(faults):
        raise ValueError("two faults have the same id")
    return by_id
