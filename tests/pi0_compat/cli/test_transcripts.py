"""The transcripts of ``docs/cli.md``: each `$ pi0-compat ...` prints the lines below it."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "cli.md"
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
# A command and its output, up to the next command.
COMMAND = re.compile(r"^\$ pi0-compat (.*\n(?:(?!\$ ).*\n)*)", flags=re.MULTILINE)


def test_commands_print_what_the_page_says(
    pi0_compat: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands run in the order of the page, beside a clone's fixtures; later ones may read what earlier ones wrote."""
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    commands = [command for block in BLOCKS for command in COMMAND.findall(block)]
    assert len(commands) >= 4
    for command in commands:
        line, _, expected = command.partition("\n")
        assert pi0_compat(*shlex.split(line)).out.rstrip() == expected.rstrip()
