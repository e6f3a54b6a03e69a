"""``python -m pi0_compat.planning.child``: answer questions about programs, in a process of its own.

A process of its own has as many virtual devices as are asked for, gives all memory back, and leaves the caller's
devices alone. It reads a list of questions from stdin, and prints a list of answers: both JSON.
"""

import json
import math
import sys
from typing import Any

from pi0_compat.planning.assigned import assigned, placement, serving_params, train_config
from pi0_compat.planning.question import Question
from pi0_compat.planning.resident import part_of, resident
from pi0_compat.training.step import abstract_train_state


def answer(question: Question, *, compiled: bool = True) -> dict[str, Any]:
    """Return what a program holds.

    Args:
      question: what to compile.
      compiled: whether to compile; otherwise only what stays is counted, within a second.

    Returns:
      ``resident``: rows of ``pi0_compat.planning.resident.Resident`` as dicts; ``model``: the sizes of the model;
        ``gradients``: bytes of the gradients, one float32 for each trained value; ``batch``: the config's batch size;
        ``program``: the fields of ``pi0_compat.planning.assigned.Assigned``, or None.
    """
    config = train_config(question)
    rows = (
        [row._asdict() for row in resident(abstract_train_state(config, placement(question.devices)))]
        if question.purpose == "training"
        else _served(question)
    )
    trained = sum(row["size"] for row in rows if row["role"] == "params" and row["trainable"])
    return {
        "resident": rows,
        "model": config.model.to_json(),
        "gradients": 4 * trained,
        "batch": config.batch_size,
        "program": assigned(question)._asdict() if compiled else None,
    }


def _served(question: Question) -> list[dict[str, Any]]:
    """Return the rows of a model in service."""
    rows: dict[str, dict[str, Any]] = {}
    for path, leaf in serving_params(train_config(question).model).items():
        fresh = {"arrays": 0, "size": 0, "num_bytes": 0, "device_bytes": 0}
        part = part_of(path)
        row = rows.setdefault(
            part, {"role": "params", "part": part, "dtype": leaf.dtype.name, "trainable": False, **fresh}
        )
        size = math.prod(leaf.shape)
        num_bytes = size * leaf.dtype.itemsize
        for name, more in (("arrays", 1), ("size", size), ("num_bytes", num_bytes), ("device_bytes", num_bytes)):
            row[name] += more
    return [rows[part] for part in sorted(rows)]


def main() -> None:
    """Answer the questions on stdin."""
    asked = json.load(sys.stdin)
    questions = [Question.from_json(question) for question in asked["questions"]]
    print(json.dumps([answer(question, compiled=asked["compiled"]) for question in questions]))


if __name__ == "__main__":
    main()
