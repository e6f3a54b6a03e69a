"""How a subject describes itself, and that it does not change its arguments."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import content, observations
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from suite.contracts.checkpoints import Checkpoint
from suite.session.registry import contract
from suite.subjects.capabilities import OPERATIONS
from suite.subjects.protocol import Subject, Unsupported
from suite.writing.asserts import assert_same_bits


@contract(source="suite/subjects/protocol.py; pandas tests/extension/base: an absent feature fails loudly", needs=())
def test_absence_is_loud(subject: Subject) -> None:
    """Calling an operation raises Unsupported if, and only if, the subject does not declare it."""
    for operation in OPERATIONS.keys() - subject.capabilities:
        with pytest.raises(Unsupported):
            getattr(subject, operation)()
    for operation in OPERATIONS.keys() & subject.capabilities:
        # Called without arguments, an existing operation fails like any function.
        with pytest.raises(Exception, match=r".") as failed:
            getattr(subject, operation)()
        assert not isinstance(failed.value, Unsupported), f"{operation} is declared but missing"


@contract(source="suite/subjects/protocol.py; a result without versions cannot be repeated", needs=())
def test_describes_itself(subject: Subject) -> None:
    """A subject reports its name, the versions of its packages and its device as plain data."""
    description = subject.describe()
    assert json.loads(json.dumps(description)) == description
    assert description["name"] == subject.name
    assert description["device"]
    assert all(isinstance(version, str) and version for version in description["packages"].values())
    assert description["packages"]


@contract(source="docs/bugs.md#h6; openpi train_pytorch.py:405", needs=("save", "loss"))
def test_arguments_are_left_alone(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Saving changes neither the model's spec nor the given parameters."""
    spec = copy.deepcopy(base_checkpoint.spec)
    params = {path: array.copy() for path, array in base_checkpoint.params.items()}
    subject.save(spec, params, str(tmp_path / "params"))
    assert spec == base_checkpoint.spec
    assert_same_bits(params, base_checkpoint.params)


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """An operation with all its arguments.

    Attributes:
      ask: asks it: ``(subject, model, params, batch)``.
      needs: the capabilities that the question needs.
    """

    ask: Callable[[Subject, ModelSpec, Params, Params], Any]
    needs: tuple[str, ...]


PROMPT = np.arange(14, dtype=np.int32).reshape(2, 7), np.ones((2, 7), bool)
# With a seed: what is drawn is the same too.
QUESTIONS = {
    "param_spec": Question(lambda s, m, p, b: s.param_spec(m), ("param_spec",)),
    "init": Question(lambda s, m, p, b: s.init(m, 7), ("init",)),
    "loss": Question(lambda s, m, p, b: s.loss(m, p, b, None, None, seed=7), ("loss",)),
    "sample_actions": Question(
        lambda s, m, p, b: s.sample_actions(m, p, b, b["noise"], num_steps=3), ("sample_actions",)
    ),
    "embed_prefix": Question(lambda s, m, p, b: s.embed_prefix(m, p, b), ("embed_prefix",)),
    "prompt_logits": Question(lambda s, m, p, b: s.prompt_logits(m, p, *PROMPT), ("prompt_logits",)),
    "trainable": Question(lambda s, m, p, b: sorted(s.trainable(m)), ("trainable",)),
}


@contract(source="docs/bugs.md#a13, #p7; NeMo Automodel #3567: a reference that is run twice", needs=())
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_gives_one_answer(subject: Subject, base_checkpoint: Checkpoint, batch: Params, question: Question) -> None:
    """The same question, asked again after one with other numbers, has the same answer, bit for bit."""
    spec, params = tiny(), base_checkpoint.params
    first = flattened(question.ask(subject, spec, params, batch))
    question.ask(subject, spec, content.params(spec, seed=1), observations.batch(spec, seed=1))
    assert_same_bits(flattened(question.ask(subject, spec, params, batch)), first)


def flattened(answer: Any) -> Params:
    """Return an answer as arrays by name."""
    if isinstance(answer, dict):
        return {name: np.asarray(repr(x) if isinstance(x, tuple | list) else x) for name, x in answer.items()}
    return {"answer": np.asarray(answer)}
