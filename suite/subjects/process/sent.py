"""Import modules that arrive as text, so that a harness runs in an interpreter without this project.

This file is the first thing that is sent. It needs the standard library only, of Python 3.10 or newer.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType


class SentModules(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules from their source text, by full name.

    A name with others below it is a package. Modules of such a package that were not sent come from ``sys.path``: so a
    worker that is sent measures the gate's side whose folder is there.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = dict(sources)
        for name in sources:
            parents = name.split(".")[:-1]
            for depth in range(len(parents)):
                self._sources.setdefault(".".join(parents[: depth + 1]), "")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module that was sent; None for others."""
        if fullname not in self._sources:
            return None
        is_package = self.is_package(fullname)
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=f"<sent {fullname}>", is_package=is_package)
        if is_package:
            folders = (Path(folder, *fullname.split(".")) for folder in sys.path)
            spec.submodule_search_locations = [str(folder) for folder in folders if folder.is_dir()]
        return spec

    def is_package(self, fullname: str) -> bool:
        """Return whether another module is below."""
        return any(name.startswith(f"{fullname}.") for name in self._sources)

    def get_source(self, fullname: str) -> str:
        """Return the text, for tracebacks too."""
        return self._sources[fullname]

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled text, under a file name that tells where an error is."""
        return compile(self._sources[fullname], f"<sent {fullname}>", "exec", dont_inherit=True)


def install(sources: Mapping[str, str]) -> None:
    """Make modules importable that were sent as text."""
    sys.meta_path.insert(0, SentModules(sources))
