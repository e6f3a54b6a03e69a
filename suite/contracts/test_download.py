"""Remote checkpoints: what is in the cache is what the source has, all of it, fetched once."""

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
    """A source that holds a checkpoint, as yet without failures."""
    return serve({f"{FOLDER}/{name}": data for name, data in FILES.items()})


def content(path: str | Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (file for file in Path(path).rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def at_once(calls: Sequence[Callable[[], str]]) -> list[str]:
    """What the calls give, begun at the same moment, each in a thread."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], str]) -> str:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [*threads.map(begin, calls)]


@contract(source="docs/bugs.md#d4; openpi download.py:108", needs=NEEDS)
@pytest.mark.parametrize("end", ["", "/"], ids=["bare", "trailing_slash"])
def test_folder_arrives_whole(subject: Subject, remote: Remote, tmp_path: Path, end: str) -> None:
    """A folder arrives with all that is below it and nothing else, with a slash at the end of its URL or without."""
    assert content(subject.download(remote.url(FOLDER) + end, str(tmp_path))) == FILES


@contract(source="docs/bugs.md#d4; openpi download.py:108", needs=NEEDS)
def test_file_arrives_as_a_file(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """The URL of a file gives a file of its name."""
    path = Path(subject.download(remote.url(f"{FOLDER}/d/0a"), str(tmp_path)))
    assert path.read_bytes() == FILES["d/0a"]
    assert path.name == "0a"


@contract(source="docs/bugs.md#d9; fsspec 2026.9", needs=NEEDS)
def test_plain_file_system_is_read(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """The folder of another file system, here the local one as a URL, arrives as from anywhere."""
    first = subject.download(remote.url(FOLDER), str(tmp_path / "first"))
    again = subject.download(Path(first).as_uri(), str(tmp_path / "second"))
    assert content(again) == FILES
    assert Path(again).is_relative_to(tmp_path / "second")


@contract(source="docs/bugs.md#d1; openpi #598, #610", needs=NEEDS)
@pytest.mark.parametrize("failure", ["dies", "ends_early"])
@pytest.mark.parametrize("name", ["d/0b", "ocdbt.process_0/d/1"])
def test_failed_transfer_is_no_download(
    subject: Subject, remote: Remote, tmp_path: Path, failure: str, name: str
) -> None:
    """If the transfer of one file dies, or ends before the file does, the error names the URL, and nothing counts as
    downloaded: the next call fetches everything and gives what the source has."""
    getattr(remote, failure).add(f"{FOLDER}/{name}")
    for _ in range(2):
        with refused(remote.url(FOLDER)):
            subject.download(remote.url(FOLDER), str(tmp_path))
    getattr(remote, failure).clear()
    assert content(subject.download(remote.url(FOLDER), str(tmp_path))) == FILES


@contract(source="docs/bugs.md#d2", needs=NEEDS)
def test_earlier_try_leaves_no_trace(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """What a failed try brought does not end up in the next one: it has the files that the source has by then."""
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
    """Names that differ after a dot, or in their parents only, are fetched at the same time and do not mix."""
    names = ["zoo/v1.0", "zoo/v1.1", "zoo/pi0.5_base", "zoo/pi0.6_base", "other/v1.0"]
    remote = serve({f"{name}/{n}": name.encode() for name in names for n in range(4)})
    remote.seconds = 0.01
    calls = [lambda name=name: subject.download(remote.url(name), str(tmp_path)) for name in names]
    found = [content(path) for path in at_once(calls)]
    assert found == [{str(n): name.encode() for n in range(4)} for name in names]


@contract(source="docs/bugs.md#d5; openpi #845, #846", needs=NEEDS)
def test_many_callers_share_one_transfer(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """Callers that ask for the same folder at once all get it whole, and each file is transferred once."""
    remote.seconds = 0.01
    paths = at_once([lambda: subject.download(remote.url(FOLDER), str(tmp_path))] * THREADS)
    assert [content(path) for path in paths] == [FILES] * THREADS
    assert set(Counter(remote.opened).values()) == {1}


@contract(source="openpi download.py:40", needs=NEEDS)
def test_is_made_once(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """What was downloaded is not fetched again, though the source is gone."""
    first = subject.download(remote.url(FOLDER), str(tmp_path))
    remote.files.clear()
    assert subject.download(remote.url(FOLDER), str(tmp_path)) == first
    assert content(first) == FILES


@contract(source="openpi download.py:40", needs=NEEDS)
def test_part_is_not_the_whole(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """After a file and a folder below it were fetched, a folder still arrives whole, and as the source has it."""
    for part in ("d/0a", "d", ""):
        found = subject.download(remote.url(f"{FOLDER}/{part}"), str(tmp_path))
    assert content(found) == FILES


@contract(source="docs/bugs.md#d7; openpi #268, ba68b3d", needs=NEEDS)
def test_nothing_is_deleted(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """Files of others in the cache, and downloads of any age, stay as they are, whether later downloads work or not."""
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
    """Download, or fail: either is as good here."""
    try:
        subject.download(url, str(cache))
    except Exception:  # noqa: BLE001 - what it leaves behind is looked at
        assert url


@contract(source="docs/bugs.md#d6; openpi #900, #901", needs=NEEDS)
def test_public_bucket_needs_no_account(subject: Subject, tmp_path: Path) -> None:
    """A public bucket of Google's, where openpi's checkpoints lie, is read on a machine without credentials."""
    with public_bucket("gs", {"openpi-assets/a/d": b"public"}, {"token": "anon"}):
        found = content(subject.download("gs://openpi-assets/a", str(tmp_path)))
    assert found == {"d": b"public"}


@contract(source="docs/bugs.md#d1", needs=NEEDS)
def test_missing_source_is_refused_by_name(subject: Subject, remote: Remote, tmp_path: Path) -> None:
    """A URL where nothing is is refused by its name, every time, and is fetched once something is there."""
    for _ in range(2):
        with refused(remote.url("bucket/v2")):
            subject.download(remote.url("bucket/v2"), str(tmp_path))
    remote.files["bucket/v2/d"] = b"new"
    assert content(subject.download(remote.url("bucket/v2"), str(tmp_path))) == {"d": b"new"}
