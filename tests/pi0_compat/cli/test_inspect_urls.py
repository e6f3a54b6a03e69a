"""`pi0-compat inspect` of a URL: the same answer as of a local copy, without a download."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from fixtures.writers import hugging_face, paligemma_npz
from pi0_compat.cli import NO, REFUSED, YES
from tests.pi0_compat.cli.conftest import KINDS, SPEC


@pytest.mark.parametrize("name", KINDS)
def test_a_url_is_not_downloaded(
    pi0_compat: Callable, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The text of a remote checkpoint is that of a local one, and nothing is put into the cache."""
    monkeypatch.setenv("PI0_COMPAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pi0_compat.layouts.remote._SMALL", 16_000)
    memory = fsspec.filesystem("memory")
    memory.put(str(tiny / name), f"/inspect/{name}", recursive=(tiny / name).is_dir())
    result, local = pi0_compat("inspect", f"memory://inspect/{name}"), pi0_compat("inspect", tiny / name)
    assert result.out.splitlines()[0] == f"memory://inspect/{name}"
    assert result.out.splitlines()[1:] == local.out.splitlines()[1:]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("padded", [True, False])
def test_tied_tables_of_a_url_are_compared(
    pi0_compat: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, padded: bool, shards: int
) -> None:
    """Two names of one table in a remote checkpoint are compared: a trained second one is found, a copy is fine."""
    monkeypatch.setattr("pi0_compat.layouts.remote._SMALL", 10)
    tensors = hugging_face.tensors(paligemma_npz.contents(SPEC, seed=0, dtype="float32"), padded=padded)
    table = tensors["model.language_model.embed_tokens.weight"]
    memory = fsspec.filesystem("memory")
    for name, head in (("same", table), ("trained", table * np.float32(1.001))):
        hugging_face.write_tensors(tensors | {"lm_head.weight": head}, tmp_path / name, shards=shards)
        memory.put(str(tmp_path / name), f"/tied/{padded}/{shards}/{name}", recursive=True)
    same, trained = (pi0_compat("inspect", f"memory://tied/{padded}/{shards}/{name}") for name in ("same", "trained"))
    assert (same.status, trained.status) == (YES, NO)
    assert "embed_tokens.weight and lm_head.weight are one table in the model and differ in the file" in trained.out


def test_an_empty_url_is_refused(pi0_compat: Callable) -> None:
    """A URL without files is refused by its own name."""
    result = pi0_compat("inspect", "memory://inspect/nothing")
    assert result.status == REFUSED
    assert result.err == (
        "pi0-compat inspect: memory://inspect/nothing: there is no such file or folder, or the folder is empty\n"
    )


def test_errors_name_the_url(pi0_compat: Callable) -> None:
    """An error of a remote checkpoint names its URL and not a temporary folder."""
    fsspec.filesystem("memory").pipe("/inspect/wrong/notes.txt", b"hello")
    assert pi0_compat("inspect", "memory://inspect/wrong").err.startswith(
        "pi0-compat inspect: memory://inspect/wrong: holds no checkpoint"
    )
