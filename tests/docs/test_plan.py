"""The numbers of ``docs/plan.md`` are those that are computed."""

import re

import pytest

from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.planning import flops
from pi0_compat.planning.child import answer
from pi0_compat.planning.devices import device
from pi0_compat.planning.question import Question
from tests.docs.pages import ROOT, text_of

ROW = re.compile(r"^\| `(\w+)` \| (.*) \|$", re.MULTILINE)
GPUS = ("NVIDIA GeForce RTX 4090", "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "TPU v5")
ROWS = dict(ROW.findall(text_of(ROOT / "docs" / "plan.md")))


@pytest.mark.parametrize("name", ROWS)
def test_a_config_of_the_table(name: str) -> None:
    """State, gradients and floors of a config, as they are computed from its shapes."""
    answered, frozen = (answer(Question(config=name, freeze_vision=freeze), compiled=False) for freeze in (False, True))
    model = Pi0Spec.from_json(answered["model"])
    work = flops.training_flops(model, model.is_frozen)
    moved = flops.training_bytes(model, answered["resident"])
    state, least = (sum(row["num_bytes"] for row in each["resident"]) for each in (answered, frozen))
    total = state + answered["gradients"]
    floors = [
        f"{max(32 * work / (kind.bf16_flops or 1), moved / (kind.bytes_per_s or 1)):.2f}"
        if total <= kind.usable_bytes
        else "does not fit"
        for kind in map(device, GPUS)
    ]
    sizes = [f"{number / 1e9:.2f} GB" for number in (state, answered["gradients"], total, least + frozen["gradients"])]
    assert ROWS[name] == " | ".join([*sizes, f"{work / 1e12:.2f}", f"{', '.join(floors)} s"])


def test_the_table_has_all_families() -> None:
    """pi0, pi05 and pi0-FAST, with adapters and without."""
    assert len(ROWS) == 6
