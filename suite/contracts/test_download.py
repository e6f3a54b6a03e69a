"""Remote checkpoints: the cache holds exactly what the source has, all of it, fetched once."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fixtures.damage.failing_files import Remote, public_bucket, serve
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import refused
from suite.writing.cases import digests

NEEDS = ("download", "in_process")
FILES = {"_METADATA": b"{}", "d/0a": b"first", "d/0b": bytes(100), "ocdbt.process_0/d/1": b"the last"}
FOLDER = "bucket/v1.0/params"
THREADS = 6


@pytest.fixture
def remote() -> Remote:
    """A server that holds a checkpoint; tests add failures to it."""
    return serve({f"{FOLDER}/{name}": data for name, data in FILES.items()})


def content(path: str | Path) -> dict[str, bytes]:
    """Read every file below a folder, by relative path."""
    files = (file for file in Path(path).rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def at_once(calls: Sequence[Callable[[], str]]) -> list[str]:
    """Start all calls at the same moment, each in its own thread, and return their results."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], str]) -> str:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [*threads.map(begin, calls)]


@contract(source="docs/bugs.md#d4; openpi download.py:108", needs=NEEDS)
@pytest.mark.parametrize("end", ["", "/"], ids=["bare", "trailing_slash"])
def test_folder_arrives_whole(subject: Subject, remote: Remote, tmp_path: Path, end: str) -> None:
    """A folder arrives with everything below it and nothing else, whether or not its URL ends in a slash."""
    assert content(subject.download(remote.url(FOLDER) + end, str(tmp_path))) == FILES


@contract(source="docs/bugs.md#d4; openpi download.py:108", needs=NEEDS)
def test_file_arrives_as_a_file(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """Downloading the URL of a file gives a file of the same name."""
    path = Path(subject.download(remote.url(f"{FOLDER}/d/0a"), str(tmp_path)))
    assert path.read_bytes() == FILES["d/0a"]
    assert path.name == "0a"


@contract(source="docs/bugs.md#d9; fsspec 2026.9", needs=NEEDS)
def test_plain_file_system_is_read(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """A folder on another file system, here the local one given as a URL, arrives like any other."""
    first = subject.download(remote.url(FOLDER), str(tmp_path / "first"))
    again = subject.download(Path(first).as_uri(), str(tmp_path / "second"))
    assert content(again) == FILES
    assert Path(again).is_relative_to(tmp_path / "second")


# What breaks the transfer, and at which file.
broken_transfers = pytest.mark.parametrize(
    ("failure", "name"),
    [(failure, name) for name in ("d/0b", "ocdbt.process_0/d/1") for failure in ("dies", "ends_early")],
)


@contract(source="docs/bugs.md#d1; openpi #598, #610", needs=NEEDS)
@broken_transfers
def test_failed_transfer_is_refused_by_name(
    subject: Subject, remote: Remote, tmp_path: Path, failure: str, name: str
) -> None:
    """If the transfer of one file fails or ends early, the error names the URL, at every attempt."""
    getattr(remote, failure).add(f"{FOLDER}/{name}")
    for _ in range(2):
        with refused(remote.url(FOLDER)):
            subject.download(remote.url(FOLDER), str(tmp_path))


@contract(source="docs/bugs.md#d1; openpi #598, #610", needs=NEEDS)
@broken_transfers
def test_failed_transfer_is_no_download(
    subject: Subject, remote: Remote, tmp_path: Path, failure: str, name: str
) -> None:
    """After a failed transfer, the next call fetches everything and returns what the source has."""
    getattr(remote, failure).add(f"{FOLDER}/{name}")
    with refused():
        subject.download(remote.url(FOLDER), str(tmp_path))
    getattr(remote, failure).clear()
    assert content(subject.download(remote.url(FOLDER), str(tmp_path))) == FILES


@contract(source="docs/bugs.md#d2", needs=NEEDS)
def test_earlier_try_leaves_no_trace(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """Files fetched by a failed attempt do not end up in the next one, which has exactly the source's files."""
    remote.dies.add(f"{FOLDER}/ocdbt.process_0/d/1")
    with refused():
        subject.download(remote.url(FOLDER), str(tmp_path))
    remote.dies.clear()
    del remote.files[f"{FOLDER}/d/0a"]
    assert content(subject.download(remote.url(FOLDER), str(tmp_path))) == {
        name: data for name, data in FILES.items() if name != "d/0a"
    }


@contract(source="docs/bugs.md#d3", needs=NEEDS)
def test_neighbours_share_nothing(subject: Subject, tmp_path: Path) -> None:
    """Folders whose names differ only after a dot or only in their parents can be fetched at once without mixing."""
    names = ["zoo/v1.0", "zoo/v1.1", "zoo/pi0.5_base", "zoo/pi0.6_base", "other/v1.0"]
    remote = serve({f"{name}/{n}": name.encode() for name in names for n in range(4)})
    remote.seconds = 0.01
    calls = [lambda name=name: subject.download(remote.url(name), str(tmp_path)) for name in names]
    downloaded = [content(path) for path in at_once(calls)]
    assert downloaded == [{str(n): name.encode() for n in range(4)} for name in names]


@contract(source="docs/bugs.md#d5; openpi #845, #846", needs=NEEDS)
def test_many_callers_share_one_transfer(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """Callers that request the same folder at once all get all of it, and each file is transferred once."""
    remote.seconds = 0.01
    paths = at_once([lambda: subject.download(remote.url(FOLDER), str(tmp_path))] * THREADS)
    assert [content(path) for path in paths] == [FILES] * THREADS
    assert set(Counter(remote.opened).values()) == {1}


@contract(source="openpi download.py:40", needs=NEEDS)
def test_is_made_once(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """A downloaded folder is not fetched again, even when the source is gone."""
    first = subject.download(remote.url(FOLDER), str(tmp_path))
    remote.files.clear()
    assert subject.download(remote.url(FOLDER), str(tmp_path)) == first
    assert content(first) == FILES


@contract(source="openpi download.py:40", needs=NEEDS)
def test_part_is_not_the_whole(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """After a file and a subfolder of it were fetched, a folder still arrives whole, exactly as in the source."""
    for part in ("d/0a", "d", ""):
        path = subject.download(remote.url(f"{FOLDER}/{part}"), str(tmp_path))
    assert content(path) == FILES


@contract(source="docs/bugs.md#d7; openpi #268, ba68b3d", needs=NEEDS)
def test_nothing_is_deleted(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """Unrelated files in the cache, and downloads of any age, stay unchanged, even if a later download fails."""
    remote.files["bucket/v1.1/params/d"] = b"other"
    downloaded = subject.download(remote.url(FOLDER), str(tmp_path))
    Path(downloaded, "_METADATA").write_text("mended by hand")
    for name in ("mine.txt", "bucket/v1.1/notes", "v1.0/params/d", ".cache/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for file in tmp_path.rglob("*"):
        os.utime(file, (1e9, 1e9))
    before = digests(tmp_path)
    for remote.dies in ({"bucket/v1.1/params/d"}, set()):
        for url in (remote.url("bucket/v1.1/params"), remote.url(FOLDER)):
            attempt(subject, url, tmp_path)
    assert before.items() <= digests(tmp_path).items()


def attempt(subject: Subject, url: str, cache: Path) -> None:
    """Download and ignore a failure."""
    try:
        subject.download(url, str(cache))
    except Exception:  # noqa: BLE001 - only the files it leaves behind are checked
        assert url


@contract(source="docs/bugs.md#d6; openpi #900, #901", needs=NEEDS)
def test_public_bucket_needs_no_account(subject: Subject, tmp_path: Path) -> None:
    """A public Google bucket, such as the one with openpi's checkpoints, is read on a machine without credentials."""
    with public_bucket("gs", {"openpi-assets/a/d": b"public"}, {"token": "anon"}):
        files = content(subject.download("gs://openpi-assets/a", str(tmp_path)))
    assert files == {"d": b"public"}


@contract(source="docs/bugs.md#d1", needs=NEEDS)
def test_missing_source_is_refused_by_name(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """A URL with nothing behind it is refused by name, every time, and is fetched once something exists there."""
    for _ in range(2):
        with refused(remote.url("bucket/v2")):
            subject.download(remote.url("bucket/v2"), str(tmp_path))
    remote.files["bucket/v2/d"] = b"new"
    assert content(subject.download(remote.url("bucket/v2"), str(tmp_path))) == {"d": b"new"}
