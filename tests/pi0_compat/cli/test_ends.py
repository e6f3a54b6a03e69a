"""How a command ends: closed streams, and Ctrl-C or SIGTERM at any moment, from the first import to the last write."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BASE, LORA = (ROOT / "fixtures" / "golden" / name for name in ("pi0_base", "pi0_lora"))
CONFIG = "pi0_libero_low_mem_finetune_tiny"
# Seconds after the first import of the command; numpy and tensorstore are imported in the first second.
IMPORTING = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
# Prints a line when the command begins to import, so that a slow start of Python itself does not count.
_RUN = """
import runpy, sys
seen = []
def ready(event, arguments):
    if event == "import" and arguments[0] == "pi0_compat.cli" and not seen:
        seen.append(True)
        print("ready", flush=True)
sys.addaudithook(ready)
sys.argv[1:] = ["inspect", {path!r}, "--json"]
runpy.run_module("pi0_compat", run_name="__main__", alter_sys=True)
"""
# Seconds after the first file of the output is there.
WRITING = (0.0, 0.01, 0.05, 0.1, 0.2)


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pi0_compat", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(stream: str) -> None:
    """With stdout or stderr closed from the start, as by `>&-`, the command does its work and prints nothing else."""
    number = {"stdout": 1, "stderr": 2}[stream]
    command = f'"{sys.executable}" -m pi0_compat inspect "{BASE}" {number}>&-'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("family" in done.stdout) == (stream == "stderr")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", IMPORTING)
def test_a_signal_while_importing_prints_nothing(number: signal.Signals, seconds: float) -> None:
    """Ctrl-C and SIGTERM end the command at once and silently while its libraries are imported."""
    command = [sys.executable, "-c", _RUN.format(path=str(BASE))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode in (0, -number, 128 + number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", WRITING)
def test_a_signal_in_the_first_moments_of_a_write_leaves_nothing(
    tmp_path: Path, number: signal.Signals, seconds: float
) -> None:
    """Ctrl-C and SIGTERM remove what was written, although tensorstore still writes when they come."""
    with start("fold", LORA, "-o", tmp_path / "out", "--config", CONFIG) as process:
        while not list(tmp_path.iterdir()) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(seconds)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    found = [path.name for path in tmp_path.iterdir()]
    assert "Traceback" not in errors
    assert found == ([] if process.returncode == 128 + number else ["out"])


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """Under `nohup`-like conditions, Ctrl-C is ignored and the command ends with its result."""
    command = f'trap \'\' INT; "{sys.executable}" -m pi0_compat fold "{LORA}" -o out --config {CONFIG}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        ["sh", "-c", command],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        while not list(tmp_path.iterdir()) and process.poll() is None:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
