"""Cases of checkpoints that fit their model: shapes of models, stored dtypes, values, names of the tied table."""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from fixtures import content
from fixtures.damage.operations.safetensors import in_shards
from fixtures.layouts import LLM, Layout, shapes_of
from fixtures.params import Array, Params
from fixtures.specs import tiny, with_lora
from fixtures.writers import lerobot, openpi_pytorch
from suite.writing.layouts import Case

EMBEDDING = f"{LLM}embedder/input_embedding"
# The names of the tied table: the embedding's, the output layer's.
TIED: dict[str, tuple[str, str]] = {
    "openpi_pytorch": (openpi_pytorch.TOKEN_TABLE, openpi_pytorch.LM_HEAD),
    "lerobot": (lerobot.ROOT + openpi_pytorch.TOKEN_TABLE, lerobot.ROOT + openpi_pytorch.LM_HEAD),
    "hugging_face": ("model.language_model.embed_tokens.weight", "lm_head.weight"),
}
# Why the other layouts have no tied table.
NOT_TIED = {
    "openpi": "one array is embedding and output layer",
    "paligemma_npz": "one array is embedding and output layer",
    "gemma_flax": "one array is embedding and output layer",
    "peft": "an adapter holds no table",
}
# Why the other layouts have no shards with an index.
NOT_IN_SHARDS = {
    "openpi": "its files belong together without an index",
    "paligemma_npz": "a release is one file",
    "gemma_flax": "its files belong together without an index",
    "peft": "adapters are one file",
}


@cache
def plain(layout: Layout) -> Case:
    """Return the layout's checkpoint of the smallest model, in float32."""
    return shapes(layout)[0]


@cache
def shapes(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each shape of a model that the layout can tell apart."""
    return tuple(Case(id=name, layout=layout, model=spec) for name, spec in shapes_of(layout).items())


@cache
def served(layout: Layout) -> tuple[Case, ...]:
    """Return the shapes of models, of the layout that is served."""
    return shapes(layout) if layout.name == "openpi" else ()


@cache
def dtypes(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each stored dtype; ``mixed`` has three in one checkpoint."""
    model = layout.model(tiny())
    halves = [Case(id=dtype, layout=layout, model=model, dtype=dtype) for dtype in ("float16", "bfloat16")]
    mixed = Case(id="mixed_dtypes", layout=layout, model=model, params=_rounded(layout), tensors=_narrowed)
    return (*halves, mixed, Case(id="float64", layout=layout, model=model, tensors=_widened))


@cache
def values(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each kind of unusual values in one weight."""
    changes: dict[str, Callable[[Array], Array]] = {
        # A weight that was never trained, as a fresh lora_b: zeros are values.
        "all_zeros": np.zeros_like,
        # Numbers so small that a flush to zero loses all of them.
        "all_subnormal": lambda weight: np.full_like(weight, 1e-40),
        # A diverged run was saved.
        "not_finite": _not_finite,
    }
    return tuple(
        Case(id=name, layout=layout, model=layout.model(tiny()), params=_with_weight(layout, change))
        for name, change in changes.items()
    )


@cache
def in_several_files(layout: Layout) -> tuple[Case, ...]:
    """Return the case of a checkpoint in three shards with an index; none of a layout without."""
    if layout.name in NOT_IN_SHARDS:
        return ()
    return (Case(id="in_shards", layout=layout, model=tiny(num_kv_heads=2), files=in_shards),)


@cache
def into_lora(layout: Layout) -> tuple[Case, ...]:
    """Return the case of a checkpoint without adapters for a model with them; none of a layout of adapters."""
    if layout.holds == "adapters":
        return ()
    return (Case(id="for_a_lora_model", layout=layout, model=with_lora(tiny()), stored=tiny()),)


@cache
def tied(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each way to store the tied table: under either name, or under both."""
    if layout.name not in TIED:
        return ()
    table, head = TIED[layout.name]
    kept = {"table_only": (table,), "head_only": (head,), "table_and_head": (table, head)}
    return tuple(
        Case(id=name, layout=layout, model=tiny(), tensors=_with_table(names, (table, head)))
        for name, names in kept.items()
    )


def _with_table(names: tuple[str, ...], all_names: tuple[str, str]) -> Callable[[Params], Params]:
    def change(tensors: Params) -> Params:
        [table] = [tensors[name] for name in all_names if name in tensors]
        return {name: x for name, x in tensors.items() if name not in all_names} | dict.fromkeys(names, table)

    return change


def _with_weight(layout: Layout, change: Callable[[Array], Array]) -> Callable[[Params], Params]:
    return lambda params: params | {layout.weight: change(params[layout.weight])}


def _not_finite(weight: Array) -> Array:
    changed = weight.copy()
    changed.flat[[1, 30, 40]] = (np.nan, np.inf, -np.inf)
    return changed


def _rounded(layout: Layout) -> Callable[[Params], Params]:
    """Return the change that rounds parameters to three dtypes in turn: by layer in safetensors, which stores them
    apart; a Gemma's layers have one dtype."""

    def change(params: Params) -> Params:
        rounded: Params = {}
        for number, (path, array) in enumerate(params.items()):
            if not layout.changes(path):
                rounded[path] = array
            elif not layout.weights or "/layers/" not in path:
                rounded[path] = _round(array, number)
            else:
                rounded[path] = np.stack([_round(layer, n) for n, layer in enumerate(array)])
        return rounded

    return change


def _round(array: Array, number: int) -> Array:
    return array.astype(list(content.DTYPES.values())[number % 3]).astype(np.float32)


def _narrowed(tensors: Params) -> Params:
    """Store each tensor in the narrowest dtype that has exactly its numbers."""
    return {name: next(_exact(array)) for name, array in tensors.items()}


def _exact(array: Array) -> Iterator[Array]:
    for dtype in (content.DTYPES["bfloat16"], content.DTYPES["float16"]):
        narrow = array.astype(dtype)
        if np.array_equal(narrow.astype(array.dtype), array):
            yield narrow
    yield array


def _widened(tensors: Params) -> Params:
    """Store the same numbers in float64: numpy's default dtype got into a conversion."""
    return {name: array.astype(np.float64) for name, array in tensors.items()}
