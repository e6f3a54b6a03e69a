"""Which parameters no model uses, by their paths."""

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
        # In these checkpoints the output layer is the token table.
        (["lm_head.weight"], []),
        (["lm_head.weight", "paligemma_with_expert.gemma_expert.model.embed_tokens.weight"], []),
        ([TOKEN_TABLE, "my_lm_head.weight", "lm_head.bias", f"{EMBED_TOKENS}[3:4]", "lm_head.weight/kernel"], []),
    ],
)
def test_what_no_model_uses(paths: list[str], unused: list[str]) -> None:
    """Unused are heads without a model or tied to a table in the same checkpoint, and rows that transformers adds."""
    assert unused_in(paths) == set(unused)
