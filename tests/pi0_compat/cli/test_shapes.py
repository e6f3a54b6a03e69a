"""A parameter of any shape, whichever it is, is answered: with a verdict or a refusal, and never a traceback."""

from pathlib import Path

import numpy as np
import pytest

from fixtures.layouts import LAYOUTS
from fixtures.specs import tiny
from pi0_compat.cli.main import main

SPEC = tiny("pi0")
# What sizes are read from, under openpi's names.
SIZING = (
    "PaliGemma/llm/embedder/input_embedding",
    "PaliGemma/llm/layers/attn/attn_vec_einsum/w",
    "PaliGemma/llm/layers/attn/attn_vec_einsum_1/w",
    "PaliGemma/llm/layers/attn/kv_einsum/w",
    "PaliGemma/llm/layers/attn/kv_einsum_1/w",
    "PaliGemma/llm/layers/mlp/linear",
    "PaliGemma/llm/layers/mlp_1/linear",
    "PaliGemma/img/pos_embedding",
    "PaliGemma/img/embedding/kernel",
    "PaliGemma/img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel",
    "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel",
    "action_in_proj/kernel",
)


@pytest.mark.parametrize("shape", [(0,), ()])
@pytest.mark.parametrize("name", ["openpi", "hugging_face", "paligemma_npz", "gemma_flax"])
def test_every_command_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, shape: tuple[int, ...]
) -> None:
    """inspect, check, diff and convert end with a status of their own; openpi_pytorch has a test of all its tensors."""
    layout = LAYOUTS[name]
    tensors = layout.tensors(layout.contents(SPEC, 0, "float32"))
    asked = 0
    for path in SIZING:
        for number, site in enumerate(layout.sites(SPEC, path)[:1]):
            folder = tmp_path / f"{asked}_{number}" / layout.file
            folder.parent.mkdir(exist_ok=True)
            try:
                layout.write_tensors(tensors | {site: np.zeros(shape, np.float32)}, folder, SPEC)
            except ValueError:
                continue  # orbax stores no array without values
            asked += 1
            for command in (
                ["inspect", folder],
                ["check", folder],
                ["diff", folder, folder],
                ["convert", folder, "--to", "openpi", "-o", folder.parent / "out"],
                ["convert", folder, "--to", "openpi_pytorch", "-o", folder.parent / "torch"],
            ):
                assert main([str(word) for word in command]) in (0, 1, 2), command
            assert "Traceback" not in capsys.readouterr().err
    assert asked or (shape == (0,) and name in ("openpi", "gemma_flax"))
