"""Ask whether a server can be reached before a driver tries: drivers retry for minutes, and name another cause."""

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pi0_compat.errors import CheckpointError

# Seconds to wait for an answer.
_PATIENCE = 10.0
_HOSTS = {"gs": "storage.googleapis.com", "gcs": "storage.googleapis.com"}
# Variables that send a driver to another server.
_ELSEWHERE = {"gs": "STORAGE_EMULATOR_HOST", "gcs": "STORAGE_EMULATOR_HOST"}
_PORTS = {"http": 80, "https": 443}


def require_reachable(url: str) -> None:
    """Reject a URL whose server, or the proxy before it, cannot be reached; other schemes than these are left alone.

    Args:
      url: of ``gs``, ``gcs``, ``http`` or ``https``.

    Raises:
      CheckpointError: the host is unknown, or does not answer.
    """
    if (place := _server(url)) is None:
        return
    host, port, what = place
    try:
        socket.create_connection((host, port), timeout=_PATIENCE).close()
    except socket.gaierror as error:
        raise CheckpointError(
            f"{url}: {what} {host} is unknown ({error.strerror or error}); check its spelling and the network, or pass "
            "a local path"
        ) from error
    except (OSError, UnicodeError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{url}: {what} {host} cannot be reached at port {port} ({why}); check the network, or pass a local path"
        ) from error


def _server(url: str) -> tuple[str, int, str] | None:
    """Return host, port and kind of the server to reach first; None if that is not known."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in (*_HOSTS, *_PORTS) or os.environ.get(_ELSEWHERE.get(scheme, "")):
        return None
    try:
        host, port = _HOSTS.get(scheme) or parts.hostname, parts.port if scheme in _PORTS else None
    except ValueError as error:
        raise CheckpointError(f"{url}: is no URL ({error})") from error
    if not host:
        raise CheckpointError(f"{url}: names no host; expected {scheme}://HOST/PATH")
    protocol = "https" if scheme in _HOSTS else scheme
    if (proxy := getproxies().get(protocol)) and not proxy_bypass(host):
        before = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if before.hostname:
            return before.hostname, before.port or _PORTS.get(before.scheme, 80), "the proxy"
    return host, port or _PORTS[protocol], "the host"
