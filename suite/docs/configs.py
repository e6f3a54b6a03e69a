"""``docs/configs.md``: every named config, from the table that ``get_config`` looks names up in."""

from collections.abc import Iterator

from pi0_compat.loading.loaders import CheckpointWeightLoader
from pi0_compat.loading.missing import MissingWeightLoader
from pi0_compat.model.named import TINY_SUFFIX
from pi0_compat.model.variants import variant_of
from pi0_compat.training.configs import CHECKPOINTS, TrainConfig, config_names, get_config

_INTRODUCTION = f"""\
# Named configs

<!-- Written by `python -m suite.docs` from model/named.py and training/configs.py of pi0_compat. Edit those. -->

`get_config(name)` returns a training config, `named_model(name)` its model alone, which needs no jax; the commands take
the names as `--config`. Each config has a twin `<name>{TINY_SUFFIX}` of the same family and adapters, small enough for
a test, which starts fresh.

Names and values are openpi's, but for the base models and the LoRA configs that openpi does not have, which are marked
*. A name without weights is one that openpi only serves: its loader raises an error with the checkpoint to pass, where
openpi would train from fresh parameters without a word. Checkpoints lie below `{CHECKPOINTS}`.

| name | family | experts | actions | tokens | starts from | batch, steps | average |
|---|---|---|---|---|---|---|---|
"""
_OWN = (
    *("pi0_base", "pi05_base", "pi0_fast_base", "pi05_aloha_low_mem_finetune", "pi05_droid_low_mem_finetune"),
    *("pi05_libero_low_mem_finetune", "pi0_fast_droid_low_mem_finetune"),
)


def page() -> str:
    """Return the text of ``docs/configs.md``."""
    names = [name for name in config_names() if not name.endswith(TINY_SUFFIX)]
    return _INTRODUCTION + "".join(f"| {' | '.join(_cells(get_config(name)))} |\n" for name in names)


def _cells(config: TrainConfig) -> Iterator[str]:
    model = config.model
    yield f"`{config.name}`" + (" *" if config.name in _OWN else "")
    yield model.family
    names = [variant_of(expert.to_json()) or "dummy" for expert in model.experts]
    yield " + ".join(names) + (" with LoRA" if model.has_lora else "")
    yield f"{model.action_horizon} x {model.action_dim}"
    yield str(model.max_token_len)
    yield _weights(config)
    yield f"{config.batch_size}, {config.num_train_steps}"
    yield "none" if config.ema_decay is None else str(config.ema_decay)


def _weights(config: TrainConfig) -> str:
    loader = config.weight_loader
    if isinstance(loader, CheckpointWeightLoader):
        return str(loader.path).removeprefix(f"{CHECKPOINTS}/").removesuffix("/params")
    if isinstance(loader, MissingWeightLoader):
        served = loader.served and loader.served.removeprefix(f"{CHECKPOINTS}/")
        return f"nothing; serves {served}" if served else "nothing; no public weights"
    return "fresh parameters"
