"""Where output may go: beside the input, above the working folder, and never to a URL or into the input."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pi0_compat.cli.conftest import Result

COMMANDS = {
    "fold": ("fold", "{lora}", "--config-file", "{sizes}"),
    "extract": ("extract", "{lora}", "--config-file", "{sizes}"),
    "convert-openpi": ("convert", "{lora}", "--to", "openpi"),
    "convert-pytorch": ("convert", "{lora}", "--to", "openpi_pytorch", "--fold", "--config-file", "{sizes}"),
}


@pytest.fixture(params=list(COMMANDS))
def arguments(request: pytest.FixtureRequest, tiny: Path, sizes: Path) -> list[str]:
    return [word.format(lora=tiny / "lora", sizes=sizes / "lora.json") for word in COMMANDS[request.param]]


def test_a_path_may_lead_up(
    pi0_compat: Callable[..., Result], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-o ../out` is a folder beside the working folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = pi0_compat(*arguments, "-o", "../out")
    assert done.status == 0, done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "out"]
    assert pi0_compat("inspect", "../out").status == 0


def test_a_url_is_refused(
    pi0_compat: Callable[..., Result], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-o gs://...` writes no local folder called `gs:`; the message says what to do."""
    monkeypatch.chdir(tmp_path)
    done = pi0_compat(*arguments, "-o", "gs://bucket/x")
    message = "gs://bucket/x: expected a local path to write to, found a URL; write locally, then copy it"
    assert (done.status, done.err) == (2, f"pi0-compat {arguments[0]}: {message}\n")
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_inside_the_input(
    pi0_compat: Callable[..., Result], arguments: list[str], tiny: Path
) -> None:
    """Output inside the folder that is read would become part of it."""
    out = tiny / "lora" / "out"
    done = pi0_compat(*arguments, "-o", out)
    assert (done.status, done.err) == (
        2,
        f"pi0-compat {arguments[0]}: {out}: lies inside of the input, {tiny / 'lora'}; choose a folder outside of it\n",
    )
    assert not out.exists()


def test_neither_input_of_attach_takes_the_output(pi0_compat: Callable[..., Result], tiny: Path, sizes: Path) -> None:
    """`attach` has two inputs, and writes into neither."""
    for out in (tiny / "lora" / "out", tiny / "openpi" / "out"):
        done = pi0_compat("attach", tiny / "lora", "--to", tiny / "openpi", "-o", out)
        assert done.status == 2
        assert done.err.startswith(f"pi0-compat attach: {out}: lies inside of the input, {out.parent}; choose")
