"""Checkpoints of a user of the commands: openpi's, with norm stats beside them, and one in each other layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny, without_lora
from fixtures.writers import openpi
from pi0_compat.cli import main as cli

LORA_SPEC = tiny("pi0", lora="both", num_kv_heads=2)
BASE_SPEC = without_lora(LORA_SPEC)
STATS = "droid/norm_stats.json"
GOOD_STATS = {"norm_stats": {name: {"mean": [0.5], "std": [2.0]} for name in ("state", "actions")}}


def config_file(spec: ModelSpec, folder: Path) -> str:
    """Write the sizes of an unnamed model to a file for `--config-file`."""
    file = folder / "model.json"
    file.write_text(json.dumps(spec))
    return str(file)


def step(spec: ModelSpec, folder: Path, **options: Any) -> Params:
    """Write the folder of a step, with norm stats; return its parameters."""
    (folder / "assets" / STATS).parent.mkdir(parents=True)
    (folder / "assets" / STATS).write_text(json.dumps(GOOD_STATS))
    return openpi.build(spec, folder / "params", **options)


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Run a command that succeeds and return its JSON document."""
    assert cli.main([*map(str, arguments), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that refuses and return its message: status 2, nothing on stdout, one message on stderr."""
    capsys.readouterr()
    assert cli.main(list(map(str, arguments))) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = [line for line in shown.err.splitlines(keepends=True) if not line.startswith("warning: ")]
    name = f"pi0-compat {arguments[0]}: "
    assert lines[0].startswith(name)
    return "".join(lines).removeprefix(name).rstrip("\n")


Refused = Callable[..., str]
