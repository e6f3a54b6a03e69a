"""Compile quickly: which flags are set, and where none are."""

import os
from importlib import metadata

import pytest

from suite.session.compiling import compile_quickly


@pytest.mark.parametrize(
    ("version", "sets"), [("0.5.3", True), ("0.10.2", True), ("0.11.2", False), ("0.12.0", False), (None, False)]
)
def test_flags_are_set_only_where_jaxlib_knows_them(
    version: str | None, sets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", installed)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    compile_quickly()
    assert ("XLA_FLAGS" in os.environ) is sets
    os.environ.pop("XLA_FLAGS", None)


def test_flags_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here")
    compile_quickly()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=here"
