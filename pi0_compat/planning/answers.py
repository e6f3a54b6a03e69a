"""Answers to questions about programs: from the cache, or from a process that compiles."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pi0_compat.extras import extra_of, install_line
from pi0_compat.planning.question import Question
from pi0_compat.storage.download import cache_dir


class PlanError(ValueError):
    """A program that could not be compiled, with what the compiler said."""


def ask(question: Question) -> dict[str, Any]:
    """Return the answer of ``pi0_compat.planning.child.answer``; a second time it comes from the cache.

    Raises:
      PlanError: the program could not be compiled; the message has the last line of the error.
      ImportError: jax is not installed.
    """
    return ask_all([question], compiled=True)[0]


def ask_all(questions: Sequence[Question], *, compiled: bool = False) -> list[dict[str, Any]]:
    """Return the answers to several questions; those that the cache lacks are answered by one process.

    Args:
      questions: the programs.
      compiled: whether they have to be compiled; otherwise only what stays is counted, within seconds.
    """
    files = [cache_dir() / "plan" / f"{each.key}{'' if compiled else '-resident'}.json" for each in questions]
    answers = [_read(file) for file in files]
    missing = [place for place, answer in enumerate(answers) if answer is None]
    if missing:
        found = _asked([questions[place] for place in missing], compiled)
        for place, answer in zip(missing, found, strict=True):
            answers[place] = answer
            _keep(files[place], answer)
    return [answer for answer in answers if answer is not None]


def _read(file: Path) -> dict[str, Any] | None:
    """Return a kept answer; None if there is none that can be read."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept


def _keep(file: Path, answer: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(answer), encoding="utf-8")
    scratch.replace(file)


def _asked(questions: Sequence[Question], compiled: bool) -> list[dict[str, Any]]:
    devices = max(question.devices for question in questions)
    # Nothing else is set: the caller's flags may be for an accelerator.
    flags = f"--xla_force_host_platform_device_count={devices}" if devices > 1 else ""
    # jax's cache would keep programs that are never run.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    # This library, wherever it is: a source tree need not be installed.
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pi0_compat.planning.child"],
        input=json.dumps({"questions": [question.to_json() for question in questions], "compiled": compiled}),
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"PYTHONPATH": path},
    )
    if done.returncode:
        raise _error(done.stderr, done.returncode)
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _error(stderr: str, status: int) -> Exception:
    last = (stderr.strip().splitlines() or [f"the process ended with status {status}"])[-1]
    missing = last.removeprefix("ModuleNotFoundError: No module named ").strip("'")
    if missing != last and (extra := extra_of(missing)):
        return ImportError(f"planning needs {missing}, which the base install does not have; {install_line(extra)}")
    return PlanError(f"the program could not be compiled: {last}")
