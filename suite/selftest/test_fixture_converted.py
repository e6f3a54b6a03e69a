"""The frozen conversions are what `pi0-compat convert` writes of openpi's golden checkpoint today, byte for byte."""

from pathlib import Path

import pytest

from fixtures import converted
from fixtures.golden_cases import GOLDEN, read_case
from suite.cases import digests
from suite.reference import Pi0Config, convert_checkpoint, extract_checkpoint

CASE = read_case(GOLDEN / converted.CASE)
MODEL = Pi0Config.from_json({**CASE.spec})


@pytest.mark.filterwarnings("ignore:.*copy them by hand")
def test_a_fresh_conversion_is_the_frozen_one(tmp_path: Path) -> None:
    """If this fails, what users' converted checkpoints are made of has changed: say so, and freeze anew."""
    extract_checkpoint(CASE.checkpoint, tmp_path / "step", base=True)
    convert_checkpoint(tmp_path / "step", tmp_path / "out" / "base", config=MODEL)
    convert_checkpoint(CASE.checkpoint, tmp_path / "out" / "folded", config=MODEL, fold=True)
    convert_checkpoint(CASE.checkpoint, tmp_path / "out" / "adapter", config=MODEL, layout="peft")
    assert digests(tmp_path / "out") == digests(converted.CONVERTED / converted.CASE)
