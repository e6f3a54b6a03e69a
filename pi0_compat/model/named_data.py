"""What openpi does to the data of its named configs, as far as another project's policy has to know it.

Read from ``training/config.py``, ``training/misc/{roboarena,polaris}_config.py`` and ``policies/*.py`` at 15a9616.
"""

from typing import NamedTuple

from pi0_compat.model.named import TINY_SUFFIX, named_models


class DataFacts(NamedTuple):
    """What a config does to states, actions and prompts.

    Attributes:
      delta_actions: which dimensions of an action are relative to the state, as openpi's ``make_bool_mask`` takes them:
        6, -1 are six relative dimensions and an absolute one. Empty if all are absolute.
      adapt_to_pi: whether joints and grippers of an ALOHA are changed to the space that pi0 was trained in.
      discrete_state_input: whether a pi05's prompt has the state.
      asset_id: of the norm stats, if the config names one.
    """

    delta_actions: tuple[int, ...] = ()
    adapt_to_pi: bool = False
    discrete_state_input: bool = True
    asset_id: str | None = None


_ALOHA = DataFacts(delta_actions=(6, -1, 6, -1), adapt_to_pi=True, asset_id="trossen")
_LIBERO = DataFacts(delta_actions=(6, -1), asset_id="physical-intelligence/libero")
_DROID = DataFacts(asset_id="droid")
_DROID_POSITIONS = DataFacts(delta_actions=(7, -1), asset_id="droid")

_FACTS: dict[str, DataFacts] = {
    "paligemma_binning_droid": _DROID,
    "paligemma_binning_droid_jointpos": _DROID_POSITIONS,
    "paligemma_diffusion_droid": _DROID,
    "paligemma_fast_droid": _DROID,
    "paligemma_fast_specialist_droid": _DROID,
    "paligemma_vq_droid": _DROID,
    "pi05_aloha": _ALOHA,
    "pi05_aloha_low_mem_finetune": _ALOHA,
    "pi05_aloha_pen_uncap": _ALOHA,
    "pi05_droid": _DROID,
    "pi05_droid_finetune": _DROID,
    "pi05_droid_jointpos_polaris": _DROID_POSITIONS,
    "pi05_droid_low_mem_finetune": _DROID,
    "pi05_full_droid_finetune": _DROID_POSITIONS,
    "pi05_libero": _LIBERO._replace(delta_actions=(), discrete_state_input=False),
    "pi05_libero_low_mem_finetune": _LIBERO._replace(delta_actions=(), discrete_state_input=False),
    "pi0_aloha": _ALOHA,
    "pi0_aloha_pen_uncap": _ALOHA,
    "pi0_aloha_sim": _ALOHA._replace(delta_actions=(), asset_id="lerobot/aloha_sim_transfer_cube_human"),
    "pi0_aloha_towel": _ALOHA,
    "pi0_aloha_tupperware": _ALOHA,
    "pi0_droid": _DROID,
    "pi0_droid_jointpos_100k_polaris": _DROID_POSITIONS,
    "pi0_droid_jointpos_polaris": _DROID_POSITIONS,
    "pi0_fast_droid": _DROID,
    "pi0_fast_droid_jointpos_polaris": _DROID_POSITIONS,
    "pi0_fast_droid_low_mem_finetune": _DROID,
    "pi0_fast_full_droid_finetune": _DROID_POSITIONS,
    "pi0_fast_libero": _LIBERO,
    "pi0_fast_libero_low_mem_finetune": _LIBERO,
    "pi0_libero": _LIBERO,
    "pi0_libero_low_mem_finetune": _LIBERO,
}


def data_facts(name: str) -> DataFacts:
    """Return what a named config does to its data; a base model and a debugging config do nothing to it.

    Args:
      name: one of ``named_models``; a tiny twin is as its original.

    Raises:
      KeyError: no config has this name.
    """
    if name not in named_models():
        raise KeyError(name)
    return _FACTS.get(name.removesuffix(TINY_SUFFIX), DataFacts())
