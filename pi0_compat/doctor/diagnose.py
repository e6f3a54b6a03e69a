"""Ask an interpreter for its versions, and probe it in a temporary folder."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from pi0_compat.doctor.table import PACKAGES, Fault, faults

Answer: TypeAlias = Literal["applies", "does not apply", "unknown"]
_PROBES = Path(__file__).parent / "probes"
# A probe imports jax or torch, some twice.
_LONGEST_SECONDS = 300.0
_AT_ONCE = 4
_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""


class InterpreterError(OSError):
    """A path that is no interpreter, or one that does not answer."""


class Finding(NamedTuple):
    """Whether a fault is in an interpreter.

    Attributes:
      fault: of the table.
      version: the version of its package that is installed.
      answer: whether it applies; unknown if the probe could not run.
      reason: ``probe``, ``version``, or why the probe could not run.
    """

    fault: Fault
    version: str
    answer: Answer
    reason: str


class Diagnosis(NamedTuple):
    """What is in an interpreter.

    Attributes:
      interpreter: its path.
      python: its version.
      versions: package -> version, of those that are installed.
      findings: one for each fault whose package is there in such a version.
    """

    interpreter: str
    python: str
    versions: dict[str, str]
    findings: tuple[Finding, ...]


def diagnose(interpreter: str | os.PathLike[str] = sys.executable) -> Diagnosis:
    """Return the versions of an interpreter's libraries, and which known faults they have.

    Nothing is installed or changed; probes write to a temporary folder alone.

    Args:
      interpreter: the path of a Python, 3.10 or later; by default, the one that runs this.

    Raises:
      InterpreterError: it cannot be run, or does not answer.
    """
    path = os.fspath(interpreter)
    try:
        answer = json.loads(_run([path, "-c", _VERSIONS, json.dumps(PACKAGES)]))
        python, versions = str(answer["python"]), dict(answer["packages"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise InterpreterError(
            f"{path}: expected a Python interpreter, but it does not answer as one ({_brief(error)}); pass the path of "
            "its program, such as .venv/bin/python"
        ) from error
    known = [fault for fault in faults() if fault.package in versions and fault.is_in(versions[fault.package])]
    # Probes wait for imports most of the time.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        findings = tuple(pool.map(lambda fault: _finding(path, fault, versions[fault.package]), known))
    return Diagnosis(path, python, versions, findings)


def _finding(interpreter: str, fault: Fault, version: str) -> Finding:
    if not fault.probe:
        return Finding(fault, version, "applies", "version")
    try:
        with tempfile.TemporaryDirectory(prefix="pi0-compat-doctor-") as folder:
            answer = _run([interpreter, str(_PROBES / f"{fault.probe}.py"), folder]).split()
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(fault, version, "unknown", f"the probe failed ({_brief(error)})")
    if answer[-1:] not in (["wrong"], ["right"]):
        return Finding(fault, version, "unknown", f"the probe answered {' '.join(answer)!r:.80}")
    return Finding(fault, version, "applies" if answer[-1] == "wrong" else "does not apply", "probe")


def _run(command: list[str]) -> str:
    """Run a program outside of this one's folder, on the CPU; return what it prints."""
    # A folder or a cache of the caller's must not decide which libraries are probed, and how.
    unwanted = ("PYTHONPATH", "PYTHONHOME", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command,
        env=environment,
        cwd=tempfile.gettempdir(),
        check=True,
        capture_output=True,
        text=True,
        timeout=_LONGEST_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def _brief(error: Exception) -> str:
    """Return an error in a line: of a program that failed, the last line that it printed."""
    if isinstance(error, subprocess.CalledProcessError):
        return (str(error.stderr).strip().splitlines() or [f"exit status {error.returncode}"])[-1][:200]
    return (getattr(error, "strerror", None) or str(error))[:200]
