"""Which asset id a named config takes its norm stats from: openpi's ``training/config.py`` at 15a9616."""

_LIBERO, _ALOHA, _DROID = "physical-intelligence/libero", "trossen", "droid"
_ASSET_IDS = {
    "paligemma_binning_droid": _DROID,
    "paligemma_binning_droid_jointpos": _DROID,
    "paligemma_diffusion_droid": _DROID,
    "paligemma_fast_droid": _DROID,
    "paligemma_fast_specialist_droid": _DROID,
    "paligemma_vq_droid": _DROID,
    "pi05_aloha": _ALOHA,
    "pi05_aloha_pen_uncap": _ALOHA,
    "pi05_droid": _DROID,
    "pi05_droid_finetune": _DROID,
    "pi05_droid_jointpos_polaris": _DROID,
    "pi05_full_droid_finetune": _DROID,
    "pi05_libero": _LIBERO,
    "pi0_aloha": _ALOHA,
    "pi0_aloha_pen_uncap": _ALOHA,
    "pi0_aloha_sim": "lerobot/aloha_sim_transfer_cube_human",
    "pi0_aloha_towel": _ALOHA,
    "pi0_aloha_tupperware": _ALOHA,
    "pi0_droid": _DROID,
    "pi0_droid_jointpos_100k_polaris": _DROID,
    "pi0_droid_jointpos_polaris": _DROID,
    "pi0_fast_droid": _DROID,
    "pi0_fast_droid_jointpos_polaris": _DROID,
    "pi0_fast_full_droid_finetune": _DROID,
    "pi0_fast_libero": _LIBERO,
    "pi0_fast_libero_low_mem_finetune": _LIBERO,
    "pi0_libero": _LIBERO,
    "pi0_libero_low_mem_finetune": _LIBERO,
}


def asset_id_of(config: str) -> str | None:
    """Return the asset id that openpi's config of this name takes; None for one that openpi does not have."""
    return _ASSET_IDS.get(config)
