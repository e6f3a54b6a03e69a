"""How long compiling takes where jax's persistent cache holds the program: what a user's second process waits for.

What comes out of the cache is timed and thrown away. jax 0.5.3 computes wrong numbers on the CPU with such programs, so
nothing that is measured or compared may come from one.
"""

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_HIT = "/jax/compilation_cache/cache_hits"
# Whatever the program, it goes into the cache.
_ENABLED: Mapping[str, Any] = {
    "jax_enable_compilation_cache": True,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
_events: Counter[str] = Counter()


def cached_compile_seconds(jitted: Any, arguments: tuple[Any, ...]) -> float | None:
    """Seconds of compiling what was compiled before, by way of an empty cache in a scratch folder.

    Everything that jax has compiled in this process is forgotten, before and after.

    Args:
      jitted: a function as ``jax.jit`` gives it.
      arguments: that it is called with; they are not changed.

    Returns:
      None where jax keeps no programs of this backend.
    """
    with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
        _compile_anew(jitted, arguments)
        hits = _events[_HIT]
        seconds = _compile_anew(jitted, arguments)
        jax.clear_caches()
        return seconds if _events[_HIT] > hits else None


def _compile_anew(jitted: Any, arguments: tuple[Any, ...]) -> float:
    """Seconds of compiling, with nothing left of what was compiled before but files."""
    jax.clear_caches()
    lowered = jitted.trace(*arguments).lower()
    start = time.perf_counter()
    lowered.compile()
    return time.perf_counter() - start


@contextlib.contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """In the body, programs are kept in a folder. jax reads its settings once, and has to be told that they changed."""
    wanted = {**_ENABLED, "jax_compilation_cache_dir": folder}
    before = {name: getattr(jax.config, name) for name in wanted}
    try:
        _set(wanted)
        yield
    finally:
        _set(before)


def _set(options: Mapping[str, Any]) -> None:
    compilation_cache.reset_cache()
    for name, value in options.items():
        jax.config.update(name, value)


def _count(event: str, **_: Any) -> None:
    _events[event] += 1


jax.monitoring.register_event_listener(_count)
