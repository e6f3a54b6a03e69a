"""What stays on a device is counted to the byte: it is what ``init_train_state`` makes."""

import dataclasses
import functools

import jax
import pytest

from fixtures import specs
from fixtures.specs import Family
from pi0_compat.loading.loaders import NoOpWeightLoader
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.named import TINY_SUFFIX
from pi0_compat.planning.resident import Resident, part_of, resident
from pi0_compat.training.configs import TrainConfig, config_names, get_config
from pi0_compat.training.step import TrainState, abstract_train_state, init_train_state

# The weights do not matter here.
pytestmark = pytest.mark.filterwarnings("ignore:no weight loader:UserWarning")
NAMES = [name for name in config_names() if not name.endswith(TINY_SUFFIX)]


@functools.cache
def made(family: Family, adapted: bool, averaged: bool, size: str) -> tuple[int, dict[tuple[str, bool], int]]:
    """Return the bytes of the state that a config of this kind makes, and those of its parameters by dtype and role."""
    state, _ = init_train_state(config_of(family, adapted, averaged, size))
    return held(state), by_dtype(state)


def config_of(family: Family, adapted: bool, averaged: bool, size: str) -> TrainConfig:
    """Return a config of a size, with what decides a train state of a named one."""
    make = specs.tiny if size == "tiny" else specs.small
    model = Pi0Config.from_json({**make(family, lora="both" if adapted else "none")})
    return TrainConfig(model=model, weight_loader=NoOpWeightLoader(), ema_decay=0.99 if averaged else None)


def held(state: TrainState) -> int:
    """Return the bytes of all arrays."""
    return sum(array.nbytes for array in jax.tree.leaves(state))


def by_dtype(state: TrainState) -> dict[tuple[str, bool], int]:
    """Return bytes of the parameters by dtype and whether they are trained."""
    found: dict[tuple[str, bool], int] = {}
    for trained, params in ((True, state.trainable), (False, state.frozen)):
        for array in params.values():
            key = (array.dtype.name, trained)
            found[key] = found.get(key, 0) + array.nbytes
    return found


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("name", NAMES)
def test_every_named_config_to_the_byte(name: str, size: str) -> None:
    """The rows add up to the state that is made, and by dtype to its parameters."""
    named = get_config(name)
    kind = (named.model.family, named.model.has_lora, named.ema_decay is not None, size)
    rows = resident(abstract_train_state(config_of(*kind)))
    bytes_made, params_made = made(*kind)
    assert sum(row.num_bytes for row in rows) == bytes_made
    assert sum(row.device_bytes for row in rows) == bytes_made
    assert params_of(rows) == params_made


@pytest.mark.parametrize("name", [f"{name}{TINY_SUFFIX}" for name in NAMES if "low_mem" in name or "libero" in name])
def test_a_twin_to_the_byte(name: str) -> None:
    """The same for the tiny twins as they are, and with the image encoder frozen, which is then kept in bfloat16."""
    for freeze in (False, True):
        config = dataclasses.replace(get_config(name), freeze_vision=freeze)
        state, _ = init_train_state(config)
        rows = resident(abstract_train_state(config))
        assert sum(row.num_bytes for row in rows) == held(state)
        [vision] = [row for row in rows if row.role == "params" and row.part == "vision"]
        assert (vision.dtype, vision.trainable) == (("bfloat16", False) if freeze else ("float32", True))


def params_of(rows: list[Resident]) -> dict[tuple[str, bool], int]:
    """Return bytes of the rows of parameters by dtype and whether they are trained."""
    found: dict[tuple[str, bool], int] = {}
    for row in rows:
        if row.role == "params":
            found[row.dtype, row.trainable] = found.get((row.dtype, row.trainable), 0) + row.num_bytes
    return found


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("PaliGemma/img/head/kernel", "vision"),
        ("PaliGemma/llm/layers/attn/q_einsum/w", "language model"),
        ("PaliGemma/llm/layers/attn/q_einsum_1/lora_a", "action expert adapters"),
        ("state_proj/kernel", "projections"),
    ],
)
def test_parts(path: str, part: str) -> None:
    assert part_of(path) == part
