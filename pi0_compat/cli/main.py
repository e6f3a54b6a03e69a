"""pi0-compat: inspect, check, compare, fold, and convert checkpoints of pi0 and pi0.5.

pi0-compat inspect checkpoints/pi0_base/params
pi0-compat check checkpoints/pi0_base/params --config pi0_libero
pi0-compat diff checkpoints/pi0_base/params checkpoints/mine/29999/params
pi0-compat COMMAND --help
"""

import argparse
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, cast

from pi0_compat.cli import COMMANDS, REFUSED, Command, CommandParser
from pi0_compat.cli.output import Output, Refusal
from pi0_compat.cli.streams import ENDED_BY_SIGNAL, drop_stdout, ended_at_once, ended_in_order, open_closed_streams

_STATUSES = """\
exit status:
  0  done, or the answer is yes
  1  the answer is no: it does not load, or the two differ
  2  an option or the input is wrong: nothing was written
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
      arguments: of the command line, without the program's name; those of the process by default.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # A tool takes no accelerator away from a training run; must be known before jax is imported.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    open_closed_streams()
    try:
        return _refusing(arguments)
    except BrokenPipeError:  # `| head`
        drop_stdout()
        return ENDED_BY_SIGNAL + signal.SIGPIPE


def _refusing(arguments: Sequence[str]) -> int:
    """Run a command; print an error of the user's, and return its status."""
    with ended_at_once():
        options = _parser(arguments).parse_args(arguments)
        output = Output(options.command, as_json=options.json)
    with _warnings_to(output):
        try:
            return _run(options, output)
        except BrokenPipeError:
            raise
        except Exception as error:
            if not _is_the_users(error):
                raise
            output.fail(str(error))
            return REFUSED


def _run(options: argparse.Namespace, output: Output) -> int:
    with ended_at_once():
        command = load_command(options.command)
    with ended_in_order():
        status = command.run(options, output)
    # Flush here: when the interpreter ends, a closed pipe could no longer be handled.
    sys.stdout.flush()
    return status


def load_command(name: str) -> Command:
    """Import the module that runs a command."""
    return cast(Command, importlib.import_module(f"pi0_compat.cli.{name}"))


def load_parser(name: str) -> CommandParser:
    """Import the module that has the parser of a command."""
    return cast(CommandParser, importlib.import_module(f"pi0_compat.cli.parsers.{name}"))


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of all commands; only the one in ``arguments`` is imported."""
    parser = argparse.ArgumentParser(
        prog="pi0-compat", description=__doc__, epilog=_STATUSES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name in arguments[:1]:
            _add_command(subparsers, name, summary)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def _add_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str) -> None:
    command = load_parser(name)
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=command.__doc__,
        epilog=f"examples:\n{command.EXAMPLES}\n{_STATUSES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


class _Version(argparse.Action):
    """Print the version and exit. ``importlib.metadata`` takes long to import, so it is imported here."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show program's version number and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print and exit."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"pi0-compat {version('pi0-compat')}")
        except PackageNotFoundError:  # run in place
            print("pi0-compat, from a source tree")
        parser.exit()


def _is_the_users(error: Exception) -> bool:
    """Return whether an error is about the user's input, and not a bug."""
    from pi0_compat.errors import CheckpointError, LoadError

    return isinstance(error, Refusal | CheckpointError | LoadError | OSError)


@contextmanager
def _warnings_to(output: Output) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: output.warn(str(message))
        yield
