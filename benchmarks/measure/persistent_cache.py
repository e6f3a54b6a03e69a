"""Time compiling when jax's persistent cache has the program: what a user's second process waits for.

Programs from the cache are timed and discarded. jax 0.5.3 computes wrong numbers on the CPU with such programs, so
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
# Cache every program.
_ENABLED: Mapping[str, Any] = {
    "jax_enable_compilation_cache": True,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
_events: Counter[str] = Counter()


def cached_compile_seconds(jitted: Any, arguments: tuple[Any, ...]) -> float | None:
    """Compile into an empty cache in a scratch folder, then again from that cache.

    Everything that jax has compiled in this process is forgotten, before and after.

    Args:
      jitted: a function as ``jax.jit`` returns it.
      arguments: the arguments to call it with; they are not changed.

    Returns:
      The seconds of the second compilation; None if jax does not cache programs for this backend.
    """
    jax.clear_caches()
    traced = jitted.trace(*arguments)
    with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
        _compile_anew(traced)
        hits = _events[_HIT]
        seconds = _compile_anew(traced)
        jax.clear_caches()
        return seconds if _events[_HIT] > hits else None


def _compile_anew(traced: Any) -> float:
    """Return the seconds of compiling after clearing jax's caches in memory; cached files remain."""
    jax.clear_caches()
    lowered = traced.lower()
    start = time.perf_counter()
    lowered.compile()
    return time.perf_counter() - start


@contextlib.contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Cache programs in a folder in the body. jax reads its settings once, so its cache is reset."""
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
