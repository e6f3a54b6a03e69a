"""The model that the options --config and --config-file name."""

import argparse
import json

from pi0_compat.cli.output import Refusal
from pi0_compat.model.named import named_model
from pi0_compat.model.pi0_spec import Pi0Spec


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
            "as `Pi0Config.to_json` has them"
        ) from error
