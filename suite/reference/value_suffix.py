"""The ``value`` that nnx states append to the path of every leaf, and what a parameter of that name is told by."""

from collections import defaultdict

SUFFIX = "value"


def strip_value_suffix(paths: list[str], *, value_suffix: bool | None = None) -> dict[str, str]:
    """Stored path -> parameter path, without the ``value`` that nnx states append to each.

    openpi strips it if all leaves have it (``model.py:328``), which leaves it on in mixed trees. Here a leaf called
    ``value`` is a suffix if it is its parent's only child, and a parameter of that name if it has siblings. An only
    child that is really called ``value`` looks like a suffix: say ``value_suffix=False`` (our own checkpoints record
    it).
    """
    children: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        keys = path.split("/")
        for depth, key in enumerate(keys):
            children["/".join(keys[:depth])].add(key)

    def is_suffix(path: str) -> bool:
        parent, slash, name = path.rpartition("/")
        if not slash or name != SUFFIX or value_suffix is False:
            return False
        return bool(value_suffix) or len(children[parent]) == 1

    return {path: path.rpartition("/")[0] if is_suffix(path) else path for path in paths}
