"""Make the suite's tiny models smaller still, so that the files of a reproducer take kilobytes."""

import functools
from typing import Any

from fixtures import specs

SIZES: dict[str, dict[str, int]] = {
    "siglip": {"width": 10, "mlp_dim": 11, "num_heads": 5, "patch_size": 2},
    "paligemma": {"width": 12, "mlp_dim": 14, "head_dim": 4},
    "action_expert": {"width": 8, "mlp_dim": 9, "head_dim": 4},
}
WHOLE = {"vocab_size": 31, "image_size": 4, "action_dim": 5, "action_horizon": 3}
RANKS = ((specs.TINY_PALIGEMMA_LORA, 4, 5), (specs.TINY_ACTION_EXPERT_LORA, 3, 7))


def shrink() -> None:
    """Make every tiny spec smaller in this process. Call it before the contracts are imported."""
    usual = specs.tiny

    @functools.wraps(usual)
    def smaller(*args: Any, **kwargs: Any) -> Any:
        spec: dict[str, Any] = {**usual(*args, **kwargs), **WHOLE}
        for part, sizes in SIZES.items():
            spec[part].update(sizes)
        return spec

    specs.tiny = smaller
    for lora, attn, ffn in RANKS:
        for site, rank in ((lora["attn"], attn), (lora["ffn"], ffn)):
            assert site is not None
            site["rank"] = rank
