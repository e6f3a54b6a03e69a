"""Run the script of a reproducer where the implementation is installed, as a user would."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from suite.reproduce.errors import CannotReproduceError
from suite.session.results import without_folders

TIMEOUT = 600.0
# Characters of a line that are kept.
_LONGEST = 200
# Set for the suite's own processes; a user has none of them.
_OURS = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "PYTHONHOME")
_VERSIONS = """
import importlib.metadata, platform, sys
print("python", platform.python_version())
for name in sys.argv[1:]:
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pass
"""


class Printed(NamedTuple):
    """What a script printed.

    Attributes:
      code: its exit status.
      text: its standard output, without the names of folders.
      error: its standard error.
    """

    code: int
    text: str
    error: str


def run_script(script: Path, python: str | None) -> Printed:
    """Run a script in a process of its own.

    Args:
      script: the script.
      python: the interpreter; None for the one that runs here.

    Raises:
      CannotReproduceError: it does not end in time.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    command = [python or sys.executable, script.name]
    try:
        result = subprocess.run(
            command,
            cwd=script.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotReproduceError(f"the script did not end within {TIMEOUT:g} s") from error
    return Printed(result.returncode, without_folders(_plain(result.stdout)), result.stderr)


def versions_in(python: str | None, packages: tuple[str, ...], known: Mapping[str, str]) -> dict[str, str]:
    """Return the version of each package in an interpreter; ``known`` has those that it cannot say."""
    command = [python or sys.executable, "-c", _VERSIONS, *packages]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    installed = dict(line.split(" ", 1) for line in found.stdout.splitlines())
    found_or_known = installed | dict(known)
    return {name: found_or_known[name] for name in ("python", *packages) if name in found_or_known}


def _plain(text: str) -> str:
    """Return text without the progress bars that a carriage return hides in a terminal, and without the rest of lines
    that name every tensor of a model."""
    lines = re.sub(r"[^\n]*\r", "", text).splitlines()
    return "\n".join(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..." for line in lines)
