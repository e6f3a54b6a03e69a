"""Recognize by its first bytes what lies in the place of a checkpoint's file: a pointer, a web page, a pickle."""

import zipfile
from pathlib import Path

_FIRST_BYTES = 1024
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")
# Protocols 2 to 5; the second byte is the number.
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstandard", b"7z\xbc\xaf": "7z", b"BZh": "bzip2"}
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

PICKLE = (
    "a pickle of PyTorch, which can run any code and is never loaded; where it comes from a source that you trust, "
    "convert it: safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')"
)


def what_it_is(file: Path) -> str | None:
    """Return what a file is, with the way out, if it is none of a checkpoint; None if that is not known.

    Args:
      file: a local path; at most a kilobyte of it is read, and of a zip the names of its members.
    """
    if text := sent_instead(file):
        return text
    start = _start(file)
    if start.startswith(_PICKLES) or _is_torch_zip(file, start):
        return PICKLE
    packed = next((name for mark, name in _PACKED.items() if start.startswith(mark)), None)
    return f"packed with {packed}; unpack it and pass what was inside" if packed else None


def sent_instead(file: Path) -> str | None:
    """Return what a text is that stands in the place of a file; None for any other file.

    Unlike ``what_it_is``, this is for data files of any content: a chunk may begin as a packed file does.
    """
    start = _start(file)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_LFS):
        return (
            "a Git LFS pointer, which names the file and does not hold it; fetch the file itself: git lfs pull, in the "
            "repository it was cloned from"
        )
    if text.startswith(_PAGES):
        return (
            "a web page (HTML), which a server sent in place of the file; download the file itself, signed in if it "
            "needs an account"
        )
    if text.startswith(b"<?xml"):
        return "an XML message, which a server sent in place of the file; look into it, then download the file itself"
    return None


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_FIRST_BYTES)
    except OSError:
        return b""


def is_pickle_by_name(file: Path) -> bool:
    """Return whether a file is named as pickles of PyTorch are."""
    return file.suffix in _PICKLE_SUFFIXES


def _is_torch_zip(file: Path, start: bytes) -> bool:
    if not start.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
