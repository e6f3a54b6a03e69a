"""What a plan computes is what a process really takes, within a tenth: the committed measurement, and its table."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "reports" / "plans").rglob("*.json"))
# The compiled peak against what the process grew by.
CLOSE = 0.1


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_committed_file(file: Path) -> None:
    """It is as the schema says, and has batches 1, 2 and 4, each computed within a tenth of what was measured."""
    own, shared = (read(ROOT / "reports" / "schema" / f"{name}.schema.json") for name in ("plans", "results"))
    Draft202012Validator({**own, "$defs": shared["$defs"]}).validate(read(file))
    compared = {row["batch"]: row["computed_bytes"] / row["measured_bytes"] for row in read(file)["compared"]}
    assert compared == pytest.approx({1: 1.0, 2: 1.0, 4: 1.0}, rel=CLOSE)


def test_the_table_of_the_docs() -> None:
    """``docs/plan.md`` has the rows of the newest file."""
    text = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d+) \| ([\d.]+) MB \| ([\d.]+) MB \| ([\d.]+) \|$", text, re.MULTILINE)
    assert shown == [
        (
            str(row["batch"]),
            f"{row['computed_bytes'] / 1e6:.1f}",
            f"{row['measured_bytes'] / 1e6:.1f}",
            f"{row['computed_bytes'] / row['measured_bytes']:.3f}",
        )
        for row in read(FILES[-1])["compared"]
    ]
    assert FILES[-1].name in text
