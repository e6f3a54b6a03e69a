"""What the path of a parameter says about it."""

import pytest

from pi0_compat.paths import TOKEN_TABLE, UNUSED_HEAD, unused_in

EMBED_TOKENS = "model.language_model.embed_tokens.weight"
ADDED_ROWS = f"{EMBED_TOKENS}[509:]"


@pytest.mark.parametrize(
    ("paths", "unused"),
    [
        ([TOKEN_TABLE, "lm_head.weight"], ["lm_head.weight"]),
        ([EMBED_TOKENS, "lm_head.weight"], ["lm_head.weight"]),
        ([EMBED_TOKENS, "language_model.lm_head.weight"], ["language_model.lm_head.weight"]),
        ([TOKEN_TABLE, UNUSED_HEAD, ADDED_ROWS], [UNUSED_HEAD, ADDED_ROWS]),
        ([UNUSED_HEAD], [UNUSED_HEAD]),
        # Here the output layer is the table.
        (["lm_head.weight"], []),
        (["lm_head.weight", "paligemma_with_expert.gemma_expert.model.embed_tokens.weight"], []),
        ([TOKEN_TABLE, "my_lm_head.weight", "lm_head.bias", f"{EMBED_TOKENS}[3:4]", "lm_head.weight/kernel"], []),
    ],
)
def test_what_no_model_uses(paths: list[str], unused: list[str]) -> None:
    """Heads that are nobody's or tied to a table beside them, and rows that transformers adds; nothing else."""
    assert unused_in(paths) == set(unused)
