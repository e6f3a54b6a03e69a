"""Downloads beyond their contracts: the cache's own files, messages, drivers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pi0_compat.errors import CheckpointError
from pi0_compat.storage import download
from pi0_compat.storage.download import cache_dir, fetch, is_url

URL = "memory://bucket/v1.0/params"
FILES = {"_METADATA": b"{}", "d/0a": b"first", "d/0b": bytes(100), "ocdbt.process_0/d/1": b"x"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of an empty cache."""
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def remote() -> Iterator[MemoryFileSystem]:
    """Return a remote file system that holds ``FILES`` at ``URL`` and nothing else."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    put(filesystem, URL, FILES)
    yield filesystem
    filesystem.store.clear()


def put(filesystem: MemoryFileSystem, url: str, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        filesystem.pipe_file(f"{url}/{name}", content)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def kept(cache: Path) -> dict[str, bytes]:
    """Return the content of the cache without lock files."""
    return {name: data for name, data in tree(cache).items() if not name.endswith(".lock")}


class Transfers:
    """Replace the transfer of a file by one that is counted and, once, fails after two bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, error: BaseException | None = None) -> None:
        self.names: list[str] = []
        self.fail_on: str | None = None
        self.error = error
        original = MemoryFileSystem.get_file

        def get_file(fs: MemoryFileSystem, remote: str, local: str, **options: Any) -> None:
            self.names.append(remote)
            if not remote.endswith(self.fail_on or "\0"):
                return original(fs, remote, local, **options)
            Path(local).write_bytes(fs.cat_file(remote)[:2])
            if self.error:
                raise self.error
            return None

        monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> Transfers:
    return Transfers(monkeypatch, error=OSError("connection reset"))


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}//"])
def test_a_folder_arrives_whole(cache: Path, remote: MemoryFileSystem, url: str) -> None:
    """A folder is fetched with everything below it, with or without a trailing slash."""
    assert tree(fetch(url)) == FILES
    assert fetch(url).is_relative_to(cache)


def test_a_file_of_any_file_system_arrives(cache: Path, tmp_path: Path) -> None:
    """A single file is fetched even if the file system lists it without its size."""
    (tmp_path / "pt_224.npz").write_bytes(b"weights")
    assert fetch((tmp_path / "pt_224.npz").as_uri()).read_bytes() == b"weights"


def test_a_file_without_a_known_size_arrives(
    cache: Path, remote: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single file is fetched if its listing is empty, as with fsspec over http."""
    monkeypatch.setattr(MemoryFileSystem, "find", lambda fs, path, **_: {path: {}})
    assert fetch(f"{URL}/d/0a").read_bytes() == b"first"


def test_a_local_path_is_left_alone(cache: Path, tmp_path: Path) -> None:
    """A local path, even a missing one, is returned absolute, and nothing is created."""
    assert fetch(tmp_path / "nowhere") == tmp_path / "nowhere"
    assert not cache.exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [("gs://b/k", True), ("S3://b/k", True), ("/a/b", False), ("a:/b", False), ("C://", True)],
)
def test_urls_are_distinguished_from_paths(path: str, expected: bool) -> None:
    """A path with a scheme is a URL, any other a local path."""
    assert is_url(path) == expected


@pytest.mark.parametrize("name", FILES)
def test_a_dying_transfer_leaves_nothing(
    cache: Path, remote: MemoryFileSystem, transfers: Transfers, name: str
) -> None:
    """If any file fails, the error says so and names the URL, and nothing is in the cache."""
    transfers.fail_on = name
    with pytest.raises(CheckpointError, match=rf"^{URL}: .*OSError: connection reset"):
        fetch(URL)
    assert kept(cache) == {}


def test_a_short_file_is_detected(cache: Path, remote: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that ends early without an error is refused with both sizes, and nothing is kept."""
    Transfers(monkeypatch).fail_on = "d/0b"
    with pytest.raises(CheckpointError, match=r"d/0b:? came with 2 bytes of 100"):
        fetch(URL)
    assert kept(cache) == {}


def test_an_interrupt_leaves_nothing(cache: Path, remote: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is raised unchanged, and nothing is kept."""
    Transfers(monkeypatch, error=KeyboardInterrupt()).fail_on = "d/0b"
    with pytest.raises(KeyboardInterrupt):
        fetch(URL)
    assert kept(cache) == {}


def test_leftovers_of_an_earlier_download_are_ignored(cache: Path, remote: MemoryFileSystem) -> None:
    """Files that a killed download left beside the target are neither mixed in nor deleted."""
    parent = cache / "memory" / "bucket" / "v1.0"
    junk = {".params.x1/params/old": b"old", "params.partial/d/0a": b"half", ".params.lock": b""}
    for name, content in junk.items():
        (parent / name).parent.mkdir(parents=True, exist_ok=True)
        (parent / name).write_bytes(content)
    assert tree(fetch(URL)) == FILES
    assert {name: data for name, data in tree(parent).items() if name in junk} == junk


def test_a_downloaded_folder_has_no_other_files(cache: Path, remote: MemoryFileSystem) -> None:
    """No lock or scratch file appears inside of a folder that was fetched."""
    fetch(URL)
    fetch(f"{URL}/d/0a")
    assert tree(fetch(URL)) == FILES


@given(
    left=st.text(alphabet="ab./?#=%", min_size=1, max_size=6),
    right=st.text(alphabet="ab./?#=%", min_size=1, max_size=6),
)
@example("a?v=1", "a?v=2")
@example("a#1", "a#2")
@example("=", "/=")
def test_distinct_urls_have_distinct_places(left: str, right: str) -> None:
    """Two URLs share a place in the cache only if they are the same; `a//b` in a bucket is not `a/b`."""

    def place(name: str) -> Path | None:
        try:
            return download._target(f"gs://bucket/{name}", Path("cache"))
        except CheckpointError:
            return None

    left_place, right_place = place(left), place(right)
    assume(left_place and right_place)
    assert (left_place == right_place) == (left == right)


@pytest.mark.parametrize("url", ["memory://", "memory://bucket", "memory://b/../../x", "memory://b/.."])
def test_a_url_without_a_path_is_refused(cache: Path, url: str) -> None:
    """A bucket alone, or a path out of the cache, is refused by its URL."""
    with pytest.raises(CheckpointError, match="expected the URL of a file or folder"):
        fetch(url)
    assert not cache.exists()


def test_an_empty_url_is_refused(cache: Path, remote: MemoryFileSystem) -> None:
    """A URL without files is refused by its name, and nothing is kept."""
    with pytest.raises(CheckpointError, match=r"^memory://bucket/v2: "):
        fetch("memory://bucket/v2")
    assert kept(cache) == {}


def test_a_missing_driver_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a scheme's driver is not installed, the error says what to install or do instead."""
    broken = {"class": "no_such_module.S3FileSystem", "err": "Install s3fs to access S3"}
    monkeypatch.setitem(known_implementations, "s3", broken)
    with pytest.raises(CheckpointError, match=r"no driver for s3:// .*Install s3fs.*local path"):
        fetch("s3://bucket/key")
    assert not cache.exists()


def test_an_unknown_scheme_is_named(cache: Path) -> None:
    """An unknown scheme is refused by its name."""
    with pytest.raises(CheckpointError, match=r"^nosuch://b/k: nosuch:// is unknown to fsspec"):
        fetch("nosuch://b/k")


@pytest.mark.parametrize(("scheme", "options"), [("gs", {"token": "anon"}), ("s3", {"anon": True}), ("memory", {})])
def test_public_buckets_are_read_without_an_account(
    monkeypatch: pytest.MonkeyPatch, scheme: str, options: dict[str, Any]
) -> None:
    """Google's and Amazon's drivers are configured not to look for credentials."""
    calls = []
    monkeypatch.setattr(fsspec, "filesystem", lambda name, **given: calls.append((name, given)))
    download._filesystem(f"{scheme}://bucket/key")
    assert calls == [(scheme, options)]


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable, or with an empty one, the cache is below the home folder."""
    monkeypatch.setenv(download.CACHE_VARIABLE, "~/elsewhere")
    assert cache_dir() == Path.home() / "elsewhere"
    for value in ("", None):
        monkeypatch.setenv(download.CACHE_VARIABLE, value or "")
        assert cache_dir() == Path.home() / ".cache" / "pi0-compat"
