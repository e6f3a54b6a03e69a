"""Answers to questions about programs: from the cache, or from a process that compiles."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pi0_compat.extras import extra_of, install_line
from pi0_compat.planning.question import Question
from pi0_compat.storage.download import cache_dir


class PlanError(ValueError):
    """A program that could not be compiled, with what the compiler said."""


def ask(question: Question, *, compiled: bool = True) -> dict[str, Any]:
    """Return the answer of ``pi0_compat.planning.child.answer``; a second time it comes from the cache.

    Args:
      question: the program.
      compiled: whether it has to be compiled; otherwise only what stays is counted.

    Raises:
      PlanError: it could not be compiled; the message has the last line of the error.
      ImportError: jax is not installed.
    """
    file = cache_dir() / "plan" / f"{question.key}{'' if compiled else '-resident'}.json"
    if (kept := _read(file)) is not None:
        return kept
    answer = _asked(question, compiled)
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(answer), encoding="utf-8")
    scratch.replace(file)
    return answer


def _read(file: Path) -> dict[str, Any] | None:
    """Return a kept answer; None if there is none that can be read."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept


def _asked(question: Question, compiled: bool) -> dict[str, Any]:
    # Nothing else is set: the caller's flags may be for an accelerator.
    flags = f"--xla_force_host_platform_device_count={question.devices}" if question.devices > 1 else ""
    # From a cache, a program comes without its analysis.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "pi0_compat.planning.child"],
        input=json.dumps({"question": question.to_json(), "compiled": compiled}),
        capture_output=True,
        text=True,
        check=False,
        # This library, wherever it is: a source tree need not be installed.
        env=environment | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:]])},
    )
    if done.returncode:
        raise _error(done.stderr, done.returncode)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _error(stderr: str, status: int) -> Exception:
    last = (stderr.strip().splitlines() or [f"it ended with status {status}"])[-1]
    missing = last.removeprefix("ModuleNotFoundError: No module named ").strip("'")
    if missing != last and (extra := extra_of(missing)):
        return ImportError(f"planning needs {missing}, which the base install does not have; {install_line(extra)}")
    return PlanError(f"the program could not be compiled: {last}")
