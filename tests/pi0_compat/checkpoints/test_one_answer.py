"""Inspect, check, convert and the loader give the same verdict on any subset or superset of a checkpoint's tensors."""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pi0_compat
from fixtures.layouts import LAYOUTS
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.model.config import Pi0Config

_LOADERS: dict[str, Callable[[Path], Any]] = {
    "openpi": pi0_compat.CheckpointWeightLoader,
    "openpi_pytorch": pi0_compat.OpenpiPyTorchWeightLoader,
    "lerobot": pi0_compat.OpenpiPyTorchWeightLoader,
    "hugging_face": pi0_compat.HuggingFaceWeightLoader,
    "paligemma_npz": pi0_compat.PaliGemmaWeightLoader,
    "gemma_flax": pi0_compat.GemmaWeightLoader,
}
_FAMILIES = {"hugging_face": "PaliGemma", "paligemma_npz": "PaliGemma", "gemma_flax": "Gemma 1"}
# What files of users hold beside a model: a value head, a normalizer's buffer, the scale of a quantization.
_STRAYS = ("value_head.0.weight", "normalize_inputs.buffer_observation_state.mean", "extra")
# What may be absent without a loss: the layout stores it, and no model uses it.
_IDLE = ("gemma_expert.lm_head.weight",)


class Answers(NamedTuple):
    """Whether each way in takes the checkpoint."""

    inspect: bool
    check: bool
    convert: bool
    loader: bool


def _model(name: str) -> ModelSpec:
    return LAYOUTS[name].model(tiny("pi0", depth=2))


def _tensors(name: str) -> Params:
    return LAYOUTS[name].tensors(LAYOUTS[name].contents(_model(name), 0, "float32"))


def _ask(name: str, tensors: Params, folder: Path) -> Answers:
    """Write the tensors in a layout, and return what each way in says."""
    path = folder / LAYOUTS[name].file
    LAYOUTS[name].write_tensors(tensors, path, _model(name))
    config = Pi0Config.from_json({**_model(name)})
    described = pi0_compat.inspect_checkpoint(path)
    purpose = "inference" if name not in _FAMILIES else "training"
    return Answers(
        inspect=described.is_whole and described.family == _FAMILIES.get(name, "pi0"),
        check=pi0_compat.check_checkpoint(path, config).loads(purpose),  # type: ignore[arg-type]
        convert=_is_taken(
            lambda: pi0_compat.convert_checkpoint(path, folder / "out", layout="openpi", config=config, drop=True)
        ),
        loader=_is_taken(lambda: _LOADERS[name](path).load(config)),
    )


def _is_taken(operation: Callable[[], object]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            operation()
        except (CheckpointError, LoadError):
            return False
    return True


def _changes(name: str) -> st.SearchStrategy[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Draw names to leave out and names to add."""
    dropped = st.lists(st.sampled_from(sorted(_tensors(name))), unique=True, max_size=3).map(tuple)
    added = st.lists(st.sampled_from(_STRAYS), unique=True).map(tuple)
    return st.tuples(dropped, added)


@pytest.mark.parametrize("name", _LOADERS)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(data=st.data())
def test_all_ways_in_give_one_answer(name: str, data: st.DataObject) -> None:
    """With tensors left out none takes it; with tensors added all do, and without ``drop`` convert refuses."""
    dropped, added = data.draw(_changes(name))
    tensors = {n: x for n, x in _tensors(name).items() if n not in dropped}
    tensors |= {n: np.ones((2, 3), np.float32) for n in added}
    whole = all(n.endswith(_IDLE) for n in dropped)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        assert _ask(name, tensors, folder) == Answers(whole, whole, whole, whole)
        path, config = folder / LAYOUTS[name].file, Pi0Config.from_json({**_model(name)})
        assert (whole and not added) == _is_taken(
            lambda: pi0_compat.convert_checkpoint(path, folder / "strict", layout="openpi", config=config)
        )
