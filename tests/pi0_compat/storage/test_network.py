"""Servers that cannot be reached are named at once, in one line, before a driver retries for minutes."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pi0_compat.errors import CheckpointError
from pi0_compat.storage.download import fetch
from pi0_compat.storage.network import require_reachable

ROOT = Path(__file__).parents[3]
CHECK = "check its spelling and the network, or pass a local path"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", fail)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("gs://openpi-assets/checkpoints/pi0_base", "storage.googleapis.com"),
        ("http://nohost.invalid/model.safetensors", "nohost.invalid"),
    ],
)
def test_an_unknown_host_is_named(url: str, host: str, tmp_path: Path) -> None:
    """Without a network, or with a typo, the host is named; nothing is made in the cache."""
    with pytest.raises(CheckpointError) as error:
        fetch(url, cache=tmp_path / "cache")
    assert str(error.value) == f"{url}: the host {host} is unknown (Name or service not known); {CHECK}"
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("offline")
def test_the_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy, it is the one to reach."""
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    with pytest.raises(CheckpointError, match=r"^gs://b/k: the proxy proxy\.invalid is unknown"):
        require_reachable("gs://b/k")


def test_a_refused_port_is_named() -> None:
    """A server that does not listen is no missing file."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/pt_224.npz"
    with pytest.raises(CheckpointError) as error:
        require_reachable(url)
    assert str(error.value) == (
        f"{url}: the host 127.0.0.1 cannot be reached at port {port} (Connection refused); check the network, or pass "
        "a local path"
    )


def test_a_silent_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer in time is no missing file."""

    def wait(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", wait)
    with pytest.raises(CheckpointError) as error:
        require_reachable("gs://b/k")
    assert str(error.value) == (
        "gs://b/k: the host storage.googleapis.com cannot be reached at port 443 (no answer in time); check the "
        "network, or pass a local path"
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [("https:///x", "names no host; expected https://HOST/PATH"), ("http://h:99999/x", "is no URL (Port out of range")],
)
def test_a_url_without_a_host_is_refused(url: str, words: str) -> None:
    """A URL that no server can have is refused before any driver sees it."""
    with pytest.raises(CheckpointError) as error:
        require_reachable(url)
    assert str(error.value).startswith(f"{url}: {words}")


def test_other_schemes_are_left_to_their_drivers() -> None:
    """A scheme that is not one of a known server's is not asked for."""
    for url in ("memory://a/b", "file:///a/b", "s3://a/b"):
        require_reachable(url)


def test_the_command_says_it_in_one_line() -> None:
    """`inspect` of a URL without a network ends within 20 seconds, with one line."""
    blocked = (
        "import socket, sys\n"
        "def fail(*_, **__): raise socket.gaierror(-2, 'Name or service not known')\n"
        "socket.create_connection = socket.getaddrinfo = fail\n"
        "from pi0_compat.cli.main import main\n"
        "sys.exit(main(['inspect', 'gs://openpi-assets/checkpoints/pi0_base']))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", blocked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert time.monotonic() - start < 20
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert "storage.googleapis.com is unknown" in done.stderr
