"""Cases of checkpoints that a training starts from: those that hold a whole model, and those that hold a part of it."""

from collections.abc import Callable
from functools import cache

import numpy as np

from fixtures.layouts import Layout
from fixtures.params import Params
from fixtures.specs import tiny
from suite.contracts import fitting
from suite.writing.layouts import Case

# A parameter of no model, and no adapter, under the names of each layout.
UNUSED = {
    # "explorations" contains "lora".
    "openpi": "explorations/kernel",
    "openpi_pytorch": "paligemma_with_expert.gemma_expert.model.embed_tokens.weight",
    "lerobot": "model.paligemma_with_expert.gemma_expert.model.embed_tokens.weight",
    "hugging_face": "model.vision_tower.vision_model.embeddings.position_ids",
    "paligemma_npz": "params/img/position_table",
    "gemma_flax": "embedder/position_table",
}
NO_UNUSED = {"peft": "it holds nothing but adapters, and PEFT refuses what is none"}
WHOLE = {"peft": "nothing is lacking: base and adapters are a whole model"}


@cache
def bases(layout: Layout) -> tuple[Case, ...]:
    """Return the checkpoint of the smallest model, for that model and for the same with adapters."""
    return (fitting.plain(layout), *fitting.into_lora(layout))


@cache
def lacking(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each model that has more parameters than the layout's checkpoint."""
    if layout.holds in ("whole", "adapters"):
        return fitting.into_lora(layout)
    return (*bases(layout), Case(id="for_a_pi05", layout=layout, model=tiny("pi05")))


@cache
def halves(layout: Layout) -> tuple[Case, ...]:
    """Return the cases of one dtype for all parameters; a base beside adapters keeps its own."""
    return tuple(case for case in fitting.dtypes(layout) if case.dtype != "float32")


@cache
def with_unused(layout: Layout) -> tuple[Case, ...]:
    """Return the case of a checkpoint with one parameter that no model has."""
    if layout.name not in UNUSED:
        return ()
    return (Case(id="with_an_unused_table", layout=layout, model=tiny(), tensors=_with(UNUSED[layout.name])),)


@cache
def not_finite(layout: Layout) -> tuple[Case, ...]:
    """Return the cases of a checkpoint with numbers that are not finite, as stored and in a cast, and without."""
    wide = next(case for case in fitting.values(layout) if case.id == "not_finite")
    narrow = Case(id="not_finite_bfloat16", layout=layout, model=wide.model, dtype="bfloat16", params=wide.params)
    return (wide, narrow, fitting.plain(layout))


def _with(name: str) -> Callable[[Params], Params]:
    return lambda tensors: tensors | {name: np.ones((3, 2), np.float32)}
