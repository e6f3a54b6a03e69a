"""The model that the options --config and --config-file name."""

import argparse
import json

from pi0_compat.cli.output import Refusal
from pi0_compat.lora.alphas import GROUPS, Alphas
from pi0_compat.model.named import named_model
from pi0_compat.model.pi0_spec import Pi0Spec


def read_alpha(options: argparse.Namespace) -> Alphas | None:
    """Return the alpha that the options give: one for all adapters, or one for each group; None if they give none.

    Raises:
      Refusal: an alpha is no number, a group is unknown or given twice, or --rslora comes without an alpha.
    """
    if not options.lora_alpha:
        if options.rslora:
            raise Refusal("--rslora: says how a scale comes from --lora-alpha; give that too")
        return None
    given: dict[str, float] = {}
    for text in options.lora_alpha:
        name, _, number = text.rpartition("=")
        if name not in (*GROUPS, ""):
            raise Refusal(f"--lora-alpha {text}: {name!r} is no group of adapters; expected one of {', '.join(GROUPS)}")
        try:
            alpha = float(number)
        except ValueError:
            raise Refusal(f"--lora-alpha {text}: expected a number, found {number!r}") from None
        if name in given:
            raise Refusal(f"--lora-alpha {text}: given twice{f' for {name}' if name else ''}")
        given[name] = alpha
    if "" in given and len(given) > 1:
        raise Refusal("--lora-alpha: given for all adapters and for a group; give one alpha, or one for each group")
    return given.get("", given)


def read_config(options: argparse.Namespace) -> Pi0Spec | None:
    """Return the model that the options name; None if they name none.

    Raises:
      Refusal: the config is unknown, or the file does not describe a model.
    """
    if options.config is not None:
        try:
            return named_model(options.config)
        except ValueError as error:
            raise Refusal(str(error)) from error
    if options.config_file is None:
        return None
    try:
        return Pi0Spec.from_json(json.loads(options.config_file.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise Refusal(
            f"{options.config_file}: is not a config ({error}); expected the sizes of a model as JSON, "
            "as `pi0-compat inspect CHECKPOINT --write-config FILE` writes them"
        ) from error
