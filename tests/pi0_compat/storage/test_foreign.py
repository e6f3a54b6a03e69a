"""What lies in the place of a checkpoint's file is named: a pointer, a web page, a pickle, with the way out."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.golden_cases import GOLDEN
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.orbax.completeness import what_is_missing
from pi0_compat.layouts.paligemma_npz import open_npz
from pi0_compat.storage.foreign import PICKLE

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
HTML = b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n"
PACKED = b"\x1f\x8b\x08\x00" + b"\x00" * 60

IS_LFS = (
    "found a Git LFS pointer, which names the file and does not hold it; fetch the file itself: git lfs pull, in the "
    "repository it was cloned from"
)
IS_HTML = (
    "found a web page (HTML), which a server sent in place of the file; download the file itself, signed in if it "
    "needs an account"
)
CONTENTS = {
    "lfs": (LFS, IS_LFS),
    "html": (HTML, IS_HTML),
    "xml": (
        b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        "found an XML message, which a server sent in place of the file; look into it, then download the file itself",
    ),
    "pickle": (b"\x80\x02}q\x00." + b"\x00" * 60, f"found {PICKLE}"),
    "gzip": (PACKED, "found packed with gzip; unpack it and pass what was inside"),
}


def message(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        detect(path)
    return str(error.value)


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_safetensors_file_is_another_one(tmp_path: Path, kind: str) -> None:
    """In the place of `model.safetensors`, of a shard's index and of adapters, the content is named."""
    content, words = CONTENTS[kind]
    (tmp_path / "model.safetensors").write_bytes(content)
    assert message(tmp_path) == f"{tmp_path}/model.safetensors: expected a safetensors file, {words}"


@pytest.mark.parametrize("kind", CONTENTS)
def test_an_index_is_another_file(tmp_path: Path, kind: str) -> None:
    """In the place of the index of a sharded checkpoint, the content is named."""
    content, words = CONTENTS[kind]
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    assert message(tmp_path) == (
        f"{tmp_path}/model.safetensors.index.json: expected the index of a sharded checkpoint, {words}"
    )


@pytest.mark.parametrize("kind", CONTENTS)
def test_an_npz_is_another_file(tmp_path: Path, kind: str) -> None:
    """In the place of an npz, the content is named."""
    content, words = CONTENTS[kind]
    (tmp_path / "pt_224.npz").write_bytes(content)
    with pytest.raises(CheckpointError) as error, open_npz(tmp_path / "pt_224.npz"):
        pytest.fail("it was opened")
    assert str(error.value) == f"{tmp_path}/pt_224.npz: expected an official PaliGemma npz, {words}"


@pytest.mark.parametrize("kind", CONTENTS)
def test_metadata_are_another_file(tmp_path: Path, kind: str) -> None:
    """In the place of orbax's `_METADATA`, the content is named."""
    content, words = CONTENTS[kind]
    (tmp_path / "_METADATA").write_bytes(content)
    assert message(tmp_path) == f"{tmp_path}/_METADATA: expected metadata of orbax, {words}"


@pytest.mark.parametrize("file", ["manifest.ocdbt", "d"])
def test_the_store_is_pointers(tmp_path: Path, file: str) -> None:
    """If files of orbax's store are pointers, the first of them is named."""
    params = Path(shutil.copytree(GOLDEN / "pi0_base" / "params", tmp_path / "params"))
    places = [params / file] if file != "d" else sorted(params.glob("d/*"))
    for place in places:
        place.write_bytes(LFS)
    with pytest.raises(CheckpointError) as error:
        what_is_missing(params)
    assert str(error.value) == f"{places[0]}: expected the table of the arrays, {IS_LFS}"


def _torch_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00.")


PICKLES: dict[str, Callable[[Path], object]] = {
    "model.pt": _torch_zip,
    "weights.ckpt": _torch_zip,
    "pytorch_model.bin": lambda file: file.write_bytes(b"\x80\x02}q\x00."),
    "full_weights": _torch_zip,
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_named(tmp_path: Path, name: str) -> None:
    """A file that torch.save wrote is refused as a pickle, whatever its name, with how to convert it."""
    PICKLES[name](tmp_path / name)
    assert message(tmp_path / name) == f"{tmp_path / name}: expected a checkpoint, found {PICKLE}"


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model.bin", "consolidated.00.pth"])
def test_a_folder_of_pickles_is_named(tmp_path: Path, name: str) -> None:
    """A folder whose weights are a pickle is refused by the name of the file."""
    (tmp_path / name).write_bytes(b"PK\3\4")
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert message(tmp_path) == f"{tmp_path}: holds no checkpoint (no _METADATA); {name} is {PICKLE}"
