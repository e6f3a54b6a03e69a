"""``docs/cli_reference.md``: every command of ``pi0-compat``, from its parser.

argparse lays out its help differently from one Python to the next, so the page is made from the parsers' arguments.
"""

import argparse
from collections.abc import Iterable, Iterator

from pi0_compat.cli import COMMANDS
from pi0_compat.cli.main import _parser

_INTRODUCTION = """\
# Command reference

<!-- Written by `python -m suite.docs` from the parsers in pi0_compat/cli. Edit those. -->

Every argument of every command, as in `pi0-compat COMMAND --help`. [The command](cli.md) shows each one at work.
"""


def page() -> str:
    """Return the text of ``docs/cli_reference.md``."""
    program = _parser([])
    statuses = f"```text\n{(program.epilog or '').strip()}\n```\n"
    return "\n".join([_INTRODUCTION, statuses, *(section(name, _command(name)) for name in COMMANDS)])


def section(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the section of one command.

    Args:
      name: what the user types.
      parser: its description, arguments, and examples (the first part of its epilog).
    """
    arguments = [action for action in parser._actions if action.dest != "help"]
    rows = [f"| {', '.join(_names(action))} | {_help(action)} |" for action in arguments]
    examples, _, _ = (parser.epilog or "").partition("\n\n")
    return "\n".join([
        f"## {name}\n",
        f"```text\npi0-compat {' '.join([name, *_usage(arguments)])}\n```\n",
        *_paragraphs(parser.description or ""),
        "| argument | meaning |",
        "|---|---|",
        *rows,
        "",
        f"```text\n{examples}\n```\n",
    ])  # fmt: skip


def _command(name: str) -> argparse.ArgumentParser:
    (commands,) = (action for action in _parser([name])._actions if isinstance(action, argparse._SubParsersAction))
    parser: argparse.ArgumentParser = commands.choices[name]
    return parser


def _usage(arguments: Iterable[argparse.Action]) -> Iterator[str]:
    """What a call needs at least, and that there is more."""
    yield from (_value(action) for action in arguments if not action.option_strings)
    yield from (f"{action.option_strings[0]} {_value(action)}" for action in arguments if _is_required_option(action))
    yield "[OPTION ...]"


def _is_required_option(action: argparse.Action) -> bool:
    return bool(action.option_strings) and action.required


def _names(action: argparse.Action) -> list[str]:
    if not action.option_strings:
        return [f"`{_value(action)}`"]
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return [f"`{option}{value}`" for option in action.option_strings]


def _value(action: argparse.Action) -> str:
    """What stands for an argument's value."""
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _help(action: argparse.Action) -> str:
    text = _plain(action.help or "")
    return f"required; {text}" if _is_required_option(action) else text


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a docstring; one with aligned lines keeps them."""
    for paragraph in text.strip().split("\n\n"):
        aligned = any(line.startswith("  ") for line in paragraph.splitlines())
        yield f"```text\n{paragraph.rstrip()}\n```\n" if aligned else f"{_plain(paragraph)}\n"


def _plain(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|").replace("*", "\\*")
