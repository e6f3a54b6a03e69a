"""What the paths of parameters say: which families have them, and which no model uses."""

import pytest

from fixtures.specs import LoraPlacement, tiny
from fixtures.writers import openpi_layout
from pi0_compat.paths import TOKEN_TABLE, UNUSED_HEAD, families_of, family_error, is_adapter, unused_in

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


FAMILIES = ("pi0", "pi05", "pi0_fast")


@pytest.mark.parametrize("lora", ["none", "both"])
@pytest.mark.parametrize("family", FAMILIES)
def test_whole_models_are_of_their_own_family(family: str, lora: LoraPlacement) -> None:
    """The names of a whole model allow its own family alone; those of a pi0_fast without adapters PaliGemma too."""
    paths = openpi_layout.shapes(tiny(family, lora=lora))  # type: ignore[arg-type]
    assert families_of(paths) == ((family, "PaliGemma") if (family, lora) == ("pi0_fast", "none") else (family,))
    refused = [other for other in FAMILIES if family_error(paths, other)]
    assert refused == ([] if "PaliGemma" in families_of(paths) else [other for other in FAMILIES if other != family])


def test_parts_may_be_of_several_families() -> None:
    """Adapters of the language model fit every family, those of the action expert the two that have one."""
    adapters = [path for path in openpi_layout.shapes(tiny(lora="both")) if is_adapter(path)]
    assert families_of(adapters) == ("pi0", "pi05")
    assert families_of([path for path in adapters if "_1/" not in path]) == FAMILIES
    assert families_of(["action_in_proj/kernel"]) == ("pi0", "pi05")
    assert families_of(["net/w"]) == families_of([]) == ()


def test_another_family_is_named() -> None:
    """The error has both families and the way out."""
    text = family_error(openpi_layout.shapes(tiny("pi05")), "pi0_fast")
    assert text == "these are parameters of pi05, the config is pi0_fast: choose the config of that family"
