"""Say whether a training, or a model in service, fits a device, what would make it fit, and how fast it can be.

Nothing is loaded and no accelerator is needed: the program of the real size is compiled from shapes, and what XLA
assigns to it is added to what stays. The first time takes up to a minute on two cores for each of two batches; answers
are cached. All numbers are computed; none is measured. Needs jax: pip install 'pi0-compat[jax]'. Exit status 1: it does
not fit the device of --device.

--json prints: question, computed (true), resident (role, part, dtype, trainable, arrays, size, num_bytes,
device_bytes), gradients, needs (batch, resident, temporary, peak), flops (of a sample), moved_bytes, devices (device,
fits, share, largest_batch, floor_s, bound), remedies (name, state_saved, peak, saved), storage (read, load_host, saved,
save_host, fold_host, folded). Sizes are bytes.
"""

import argparse

from pi0_compat.cli.parsers.options import DTYPES, add_config

EXAMPLES = """\
  pi0-compat plan --config pi0_libero_low_mem_finetune
  pi0-compat plan --config pi0_libero --batch 32 --device "H100 80GB"     and if it does not fit, what would
  pi0-compat plan --config pi0_libero --batch 32 --devices 8              spread over eight devices (FSDP)
  pi0-compat plan --config pi05_droid --for serving
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_config(parser, "what is trained or served")
    parser.add_argument("--for", dest="purpose", choices=("training", "serving"), default="training", help="what runs")
    parser.add_argument("--batch", type=int, metavar="N", help="samples on all devices; default: the config's")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="devices to spread over (FSDP); default: 1")
    parser.add_argument("--device", metavar="KIND", help="show this device alone; a part of its name will do")
    parser.add_argument("--remat", choices=("layers", "cheap"), help="what is computed twice; default: the config's")
    parser.add_argument("--frozen-dtype", choices=DTYPES, help="dtype of frozen parameters; default: the config's")
    parser.add_argument("--freeze-vision", action="store_true", help="freeze the image encoder too")
