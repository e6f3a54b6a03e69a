"""Commands that are terminated while writing, and what remains of their output."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.writers.openpi import read_params
from pi0_compat.cli import main as cli
from suite.writing.asserts import assert_same_bits

ROOT = Path(__file__).parents[3]
BASE = ROOT / "fixtures" / "golden" / "pi0_base"
# Announces that it has begun to write, and then waits.
_SLOW = """
import signal, sys, time
from pi0_compat.cli import main as cli
from pi0_compat.storage.stream import Counted
counted = Counted._counted

def slow(self, parts):
    for part in counted(self, parts):
        yield part
        print("writing\\n", end="", flush=True)
        for _ in range(6000):
            time.sleep(0.1)
            self._advance(0)

Counted._counted = slow
# A shell starts what it puts in the background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main(sys.argv[1:]))
"""


@contextmanager
def writing(layout: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a conversion in another process that has begun to write."""
    command = [sys.executable, "-c", _SLOW, "convert", str(BASE), "--to", layout, "-o", str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "writing\n", process.communicate()
        assert [path.name for path in out.parent.iterdir()] == [f".{out.name}.unfinished"]
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT)]
)
@pytest.mark.parametrize("layout", ["openpi", "openpi_pytorch"])
def test_a_terminated_command_leaves_nothing(tmp_path: Path, layout: str, number: int, status: int) -> None:
    """SIGTERM and Ctrl-C remove unfinished output."""
    with writing(layout, tmp_path / "out") as process:
        process.send_signal(number)
        assert process.wait(timeout=60) == status
    assert not list(tmp_path.iterdir())


def test_the_next_run_clears_what_a_killed_one_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL leaves a folder with a telling name; the next run removes it with a warning and continues."""
    with writing("openpi", tmp_path / "out") as process:
        process.kill()
        process.wait(timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == [".out.unfinished"]
    assert cli.main(["convert", str(BASE), "--to", "openpi", "-o", str(tmp_path / "out")]) == 0
    warning = f"warning: {tmp_path}/.out.unfinished: what a killed run left behind is removed\n"
    assert warning in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert_same_bits(read_params(tmp_path / "out" / "params"), read_params(BASE / "params"))


def test_two_runs_do_not_disturb_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While one process writes to a place, another one is refused and leaves it alone."""
    with writing("openpi", tmp_path / "out") as process:
        assert cli.main(["convert", str(BASE), "--to", "openpi", "-o", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err == (
            f"pi0-compat convert: {tmp_path}/out: another process is writing it, in {tmp_path}/.out.unfinished; wait "
            "for it\n"
        )
        assert [path.name for path in tmp_path.iterdir()] == [".out.unfinished"]
        process.kill()
