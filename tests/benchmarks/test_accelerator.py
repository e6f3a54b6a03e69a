"""Ten minutes on an accelerator: cells that exist, in order of importance, and what is left when the time is over."""

import subprocess
import time
from typing import Any

import pytest

from benchmarks import accelerator
from benchmarks.cells.cells import cells_of
from benchmarks.cells.sizes import sizes


def run(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, status: int = 0, seconds: float = 0.0
) -> tuple[int, list[Any]]:
    """Return the exit status, and the commands that were started; each takes some seconds."""
    commands: list[Any] = []
    now = [time.monotonic()]

    def started(command: list[str], *, timeout: float, **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        now[0] += min(seconds, timeout)
        if seconds > timeout:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", started)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return accelerator.main(arguments), commands


def test_its_cells_exist() -> None:
    """Every id is that of a cell at the real size on a GPU, and at size tiny on the CPU."""
    for name, device in (("full", "gpu"), ("tiny", "cpu")):
        size = sizes(device, [accelerator._BATCH])[name]
        known = {cell.id for family in ("pi0", "pi0_fast") for cell in cells_of(size, cold=False, family=family)}
        wanted = {cell.format(size=name, batch=accelerator._BATCH) for part in accelerator.PARTS for cell in part}
        assert wanted <= known


def test_each_part_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The subject beside the reference is passed on, and everything was measured."""
    status, commands = run(monkeypatch, "--subject", "openpi=PYTHON")
    assert (status, len(commands)) == (0, len(accelerator.PARTS))
    assert all(command[-2:] == ["--subject", "openpi=PYTHON"] for command in commands)
    assert "step/train_step/full/lora/batch-8" in commands[0]


@pytest.mark.parametrize(("status", "seconds", "begun"), [(1, 0, 5), (0, 300, 2), (0, 10_000, 1)])
def test_what_is_not_measured_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int, seconds: float, begun: int
) -> None:
    """A part that fails, runs out of time, or is not begun for want of it."""
    ended, commands = run(monkeypatch, status=status, seconds=seconds)
    assert (ended, len(commands)) == (1, begun)
    assert "not measured: sampling/sample_tokens/full/pi0_fast/batch-1/tokens-1\n" in capsys.readouterr().err
