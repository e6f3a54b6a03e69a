"""The reference's harness returns numpy arrays and plain data, and does not modify its arguments."""

import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import content, converted_policies, observations
from fixtures.golden_cases import GOLDEN, read_case
from fixtures.specs import tiny, without_lora
from fixtures.writers import openpi
from suite.session.find import find_subject
from suite.subjects import protocol, reference
from suite.subjects.capabilities import CAPABILITIES, OPERATIONS
from suite.subjects.protocol import Subject
from suite.writing.cases import LEAN, from_checkpoint, is_adapter, training_options

# A pi0 has a case of its own for each law that these reach.
OF_OTHERS = {"paligemma_alone", "gemma_alone", "peft_training"}
PLAIN = (str, int, float, bool, type(None), np.ndarray)

# The sizes and options of contracts, whose compiled programs may be in the cache already.
SPEC = tiny("pi0", lora="both")
OPTIONS = training_options(**LEAN)


@pytest.fixture(scope="module")
def reference_subject() -> Subject:
    """Return the reference, found as users find it."""
    return find_subject("reference")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a LoRA checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint") / "params"
    openpi.build(SPEC, path)
    return str(path)


def forward(**arguments: Any) -> dict[str, Any]:
    """Return the arguments of a forward pass."""
    batch = observations.batch(SPEC)
    return {"model": SPEC, "params": content.params(SPEC), "batch": batch, **arguments}


def training(**arguments: Any) -> dict[str, Any]:
    """Return the arguments of two optimizer steps."""
    batches = [observations.batch(SPEC)] * 2
    params = content.params(SPEC)
    return {"model": SPEC, "params": params, "batches": batches, "options": OPTIONS, **arguments}


def resuming(folder: Path) -> dict[str, Any]:
    """Return the arguments of the second step, after a first one that was saved."""
    arguments = training()
    reference.train(**arguments | {"batches": arguments["batches"][:1]}, folder=str(folder))
    return {name: arguments[name] for name in ("model", "batches", "options")} | {"folder": str(folder)}


def writing(**options: Any) -> dict[str, Any]:
    """Return the arguments of a pi0-FAST's operation on a batch."""
    fast = tiny("pi0_fast")
    return {"model": fast, "params": content.params(fast), "batch": observations.batch(fast)} | options


def prompting() -> dict[str, Any]:
    """Return the arguments of a pass of the language model over a prompt."""
    tokens = np.arange(6, dtype=np.int32).reshape(2, 3)
    return {"model": SPEC, "params": content.params(SPEC), "tokens": tokens, "mask": np.ones((2, 3), bool)}


def merging() -> dict[str, Any]:
    """Return the arguments of a merge: base and adapters."""
    params = content.params(SPEC)
    lora = {path: array for path, array in params.items() if is_adapter(path)}
    return {"model": SPEC, "base": {path: x for path, x in params.items() if path not in lora}, "lora": lora}


def converting(folder: Path) -> dict[str, Any]:
    """Write a checkpoint and return the arguments of its conversion."""
    openpi.build(without_lora(SPEC), folder / "params")
    return {"model": SPEC, "path": str(folder / "params"), "layout": "openpi_pytorch", "out": str(folder / "out")}


def acting() -> dict[str, Any]:
    """Return the arguments of a run of a converted policy."""
    case = read_case(GOLDEN / "pi0_base")
    path = str(converted_policies.FOLDER / case.name)
    return {"model": case.spec, "path": path, "observation": case.batch, "noise": case.batch["noise"]}


def writing_a_policy(folder: Path) -> dict[str, Any]:
    """Write a step with norm stats and return the arguments of writing it as a policy."""
    case = read_case(GOLDEN / "pi0_base")
    step = converted_policies.step(case.name, folder / "step")
    return {"model": case.spec, "path": str(step), "out": str(folder / "out"), "options": {"delta_actions": [6, -1]}}


def folding(folder: Path) -> dict[str, Any]:
    """Write a checkpoint and return the arguments of its fold."""
    openpi.build(SPEC, folder / "params")
    return {"model": SPEC, "path": str(folder / "params"), "out": str(folder / "out"), "dtype": "bfloat16"}


def arguments_of(operation: str, checkpoint: str, folder: Path) -> dict[str, Any]:
    """Return the arguments of an operation."""
    noise, source = observations.batch(SPEC)["noise"], from_checkpoint(checkpoint)
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "param_spec": lambda: {"model": SPEC},
        "init": lambda: {"model": SPEC, "seed": 0},
        "restore": lambda: {"path": checkpoint, "dtype": "bfloat16"},
        "restore_limited": lambda: {"path": checkpoint, "limits": {"array_bytes": 2**20, "compression": 1}},
        "load": lambda: {"model": SPEC, "source": source, "seed": 0},
        "load_for_inference": lambda: {"model": SPEC, "path": checkpoint},
        "save": lambda: {
            "model": SPEC,
            "params": content.params(SPEC),
            "path": str(folder / "params"),
        },
        "download": lambda: {"url": Path(checkpoint).as_uri(), "cache": str(folder / "cache")},
        "loss": lambda: forward(noise=None, time=None, seed=0),
        "sample_actions": lambda: forward(noise=noise, num_steps=4),
        "embed_prefix": forward,
        "prompt_logits": prompting,
        "token_logits": writing,
        "sample_tokens": lambda: writing(num_steps=2),
        "trainable": lambda: {"model": SPEC},
        "train": training,
        "resume": lambda: resuming(folder / "run"),
        "needs": lambda: {"model": SPEC, "options": {"devices": 1, "freeze_vision": True}},
        "begin": lambda: {"model": SPEC, "source": source, "options": OPTIONS},
        "restore_sharded": lambda: {"path": checkpoint, "shard_above": 0},
        "fold": lambda: {"model": SPEC, "params": content.params(SPEC)},
        "fold_losses": lambda: {"model": SPEC, "params": content.params(SPEC)},
        "unfold": lambda: {"model": SPEC, "params": content.params(SPEC)},
        "extract": lambda: {"model": SPEC, "params": content.params(SPEC)},
        "merge": merging,
        "convert": lambda: converting(folder),
        "write_policy": lambda: writing_a_policy(folder),
        "act": acting,
        "fold_checkpoint": lambda: folding(folder),
    }
    return calls[operation]()


def foreign(value: Any) -> set[type]:
    """Return the types in a result that are not numpy arrays or plain data."""
    if isinstance(value, dict | list | tuple):
        children = [*value, *value.values()] if isinstance(value, dict) else value
        return set().union(*map(foreign, children))
    return set() if type(value) in PLAIN else {type(value)}


def test_reference_offers_everything(reference_subject: Subject) -> None:
    """The reference has every capability, except those of who has only a part of a pi0, or trains as PEFT does."""
    assert reference_subject.capabilities == CAPABILITIES.keys() - OF_OTHERS


def test_every_function_is_an_operation() -> None:
    """The harness has no public function beyond the protocol, and each has the protocol's parameters."""
    documented = dict(re.findall(r"^    (\w+)\((.*?)\)", protocol.__doc__, re.MULTILINE))
    functions = {
        name: ", ".join(inspect.signature(function).parameters)
        for name, function in inspect.getmembers(reference, inspect.isfunction)
        if function.__module__ == reference.__name__ and not name.startswith("_")
    }
    assert functions == documented | {"describe": ""}


def test_description_is_plain(reference_subject: Subject) -> None:
    """The description is plain data with the packages and the device."""
    described = reference_subject.describe()
    assert foreign(described) == set()
    assert {"packages", "device"} <= described.keys()


# Joining other processes is permanent: it would leave no device to the tests that follow.
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "join"])
def test_operation_is_plain_and_pure(
    reference_subject: Subject, checkpoint: str, tmp_path: Path, operation: str
) -> None:
    """An operation returns numpy arrays and plain data, and leaves its arguments unchanged bit for bit."""
    arguments = arguments_of(operation, checkpoint, tmp_path)
    before = pickle.dumps(arguments)
    result = getattr(reference_subject, operation)(**arguments)
    assert foreign(result) == set()
    assert pickle.dumps(arguments) == before


def test_jax_arrays_are_foreign() -> None:
    """The tests above can fail: a jax array is found at any depth."""
    import jax

    array = jax.numpy.ones(2)
    assert foreign({"losses": [1.0], "params": {"w": array}}) == {type(array)}
