"""What the reference's harness says that a training needs."""

from typing import Any

from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.planning.child import answer
from pi0_compat.planning.question import Question


def needs(model: dict[str, Any], options: dict[str, Any]) -> dict[str, int]:
    """Return bytes of the optimizer on all devices, and of the whole state on one."""
    question = Question(config=Pi0Spec.from_json(model), batch=options["devices"], **options)
    rows = answer(question, compiled=False)["resident"]
    return {
        "optimizer_bytes": sum(row["num_bytes"] for row in rows if row["role"] == "optimizer"),
        "device_bytes": sum(row["device_bytes"] for row in rows),
    }
