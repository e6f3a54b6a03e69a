"""Common behavior of all commands of ``pi0-compat``: help, exit statuses, JSON, messages and how they end."""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pi0_compat import cli as commands
from pi0_compat.cli import main as cli
from pi0_compat.cli.output import Output, Refusal

ROOT = Path(__file__).parents[3]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Output], int]], None]:
    """Return a function that replaces every command by a module that calls `do`."""

    def install(do: Callable[[Output], int]) -> None:
        class Module:
            """A stand-in."""

            EXAMPLES = "  pi0-compat inspect\n"

            @staticmethod
            def add_arguments(parser: Any) -> None:
                pass

            @staticmethod
            def run(options: Any, output: Output) -> int:
                return do(output)

        monkeypatch.setattr(cli, "load_command", lambda name: Module)
        monkeypatch.setattr(cli, "load_parser", lambda name: Module)

    return install


def test_help_names_every_command_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    """`pi0-compat --help` has a line for each command, and the three exit statuses."""
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    text = capsys.readouterr().out
    for name, summary in commands.COMMANDS.items():
        assert name in text
        assert summary[:20] in text
    assert "0  done, or the answer is yes\n  1  the answer is no" in text


@pytest.mark.parametrize("command", ["", "inspect"])
def test_help_needs_no_numpy(command: str) -> None:
    """The help of the program, and of the command that people meet first, imports nothing that takes time."""
    code = (
        "import sys\nfrom pi0_compat.cli.main import main\n"
        f"try: main([*{command.split()!r}, '--help'])\n"
        "except SystemExit: assert not {'numpy', 'jax', 'tensorstore'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_it_is_a_module(capfd: pytest.CaptureFixture[str]) -> None:
    """`python -m pi0_compat` is the command; without a command name it exits with 2."""
    assert subprocess.run([sys.executable, "-m", "pi0_compat"], check=False, cwd=ROOT).returncode == commands.REFUSED
    assert "COMMAND" in capfd.readouterr().err


def test_a_command_has_examples(stand_in: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of a command has examples, `--json` and the statuses."""
    stand_in(lambda output: 0)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["inspect", "--help"])
    text = capsys.readouterr().out
    assert "examples:\n  pi0-compat inspect\n" in text
    assert "--json" in text
    assert "exit status:" in text


def test_text_or_json(stand_in: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """The result is text, or with `--json` one document that names the command."""

    def do(output: Output) -> int:
        output.give({"leaves": 3}, "three leaves")
        return commands.NO

    stand_in(do)
    assert cli.main(["inspect"]) == commands.NO
    assert capsys.readouterr().out == "three leaves\n"
    assert cli.main(["inspect", "--json"]) == commands.NO
    assert json.loads(capsys.readouterr().out) == {"command": "inspect", "leaves": 3}


def test_a_wrong_input_is_refused(stand_in: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal is one message on stderr and status 2; with `--json` it is also in the document."""

    def do(output: Output) -> int:
        raise Refusal("there is no such thing; pass another")

    stand_in(do)
    assert cli.main(["inspect", "--json"]) == commands.REFUSED
    shown = capsys.readouterr()
    assert shown.err == "pi0-compat inspect: there is no such thing; pass another\n"
    assert json.loads(shown.out) == {"command": "inspect", "error": "there is no such thing; pass another"}


def test_an_internal_error_is_not_hidden(stand_in: Callable) -> None:
    """An error that is not about the input has its traceback."""

    def do(output: Output) -> int:
        raise ZeroDivisionError

    stand_in(do)
    with pytest.raises(ZeroDivisionError):
        cli.main(["inspect"])


def test_warnings_are_one_line(stand_in: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning of the library is one line on stderr, without the place in the code."""

    def do(output: Output) -> int:
        warnings.warn("there are no norm stats", stacklevel=2)
        return commands.YES

    stand_in(do)
    assert cli.main(["inspect"]) == commands.YES
    assert capsys.readouterr().err == "warning: there are no norm stats\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_cleans_up_when_terminated(stand_in: Callable, number: signal.Signals, status: int) -> None:
    """A terminated command leaves its contexts, so that unfinished output is removed."""
    cleaned = []

    def do(output: Output) -> int:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            cleaned.append(number)
        return commands.YES

    stand_in(do)
    # A shell starts what it sends to the background with Ctrl-C ignored.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        actual = cli.main(["inspect"])
    except SystemExit as end:
        actual = int(str(end.code))
    finally:
        signal.signal(number, before)
    assert (actual, cleaned) == (status, [number])


def test_a_reader_may_stop_reading() -> None:
    """If stdout is closed, as by `| head`, the command ends silently."""
    path = ROOT / "fixtures" / "golden" / "pi0_base" / "params"
    command = [sys.executable, "-m", "pi0_compat", "inspect", str(path)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=buffered, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is no bar, and progress may still be reported."""
    with Output("inspect", as_json=False).progress("reading", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
