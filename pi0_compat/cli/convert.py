"""Write a checkpoint in another layout.

  openpi          openpi's own: OUT/params, an orbax tree. Takes openpi_pytorch, and the part of a pi0 that a PaliGemma
                  (Google's npz, Hugging Face's folder) or a Gemma (flax) is
  openpi_pytorch  openpi's PyTorch layout, which transformers' and lerobot's pi0 read: model.safetensors, config.json
  hugging_face    the PaliGemma part, as transformers has it: model.safetensors, config.json
  paligemma_npz   the PaliGemma part, as Google published it: one file
  peft            the adapters, as a PEFT adapter for transformers' pi0: adapter_model.safetensors, adapter_config.json

What a layout has no place for is an error unless --drop says that it may be left out; adapters are never dropped,
--fold adds them to their weights. Bits are kept unless --dtype says otherwise. Norm stats (assets) go along with a pi0.
Nothing at OUT is overwritten, OUT appears when it is whole, and every parameter is read back and compared. Two runs
write the same bytes, but for openpi's layout, whose files orbax names at random: there the same arrays.

--json gives: path, layout, out, parameters, bytes (by dtype), assets, verified, left_out (name -> dtype and shape),
lost (as fold).
"""

import argparse

from pi0_compat.checkpoints.convert import LAYOUTS, convert_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_options import add_config, read_config
from pi0_compat.cli.output import Output
from pi0_compat.layouts.write import writable

EXAMPLES = """\
  pi0-compat convert checkpoints/pi0_base --to openpi_pytorch -o pi0_base_pytorch
  pi0-compat convert checkpoints/my_run/29999 --to openpi_pytorch --fold --dtype bfloat16 -o merged
  pi0-compat convert checkpoints/my_run/29999 --to peft -o my_adapter --config pi0_libero_low_mem_finetune
  pi0-compat convert checkpoints/pi0_base --to hugging_face --drop -o paligemma
  pi0-compat convert pt_224.npz --to openpi -o paligemma_for_openpi
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("path", metavar="CHECKPOINT", help="a checkpoint in any layout: a file or folder, or a URL")
    parser.add_argument("--to", dest="layout", type=_layout, choices=LAYOUTS, required=True, help="the layout to write")
    writing.add_out(parser, "the folder to make, or the file (paligemma_npz)")
    writing.add_dtype(parser)
    parser.add_argument("--fold", action="store_true", help="add adapters to their weights first")
    parser.add_argument("--drop", action="store_true", help="leave out what the layout has no place for")
    add_config(parser, "the model that it is of, where neither shapes nor the checkpoint tell enough")


def _layout(name: str) -> str:
    try:
        return str(writable(name))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(options: argparse.Namespace, output: Output) -> int:
    """Convert, and tell what was written and what was not."""
    done = convert_checkpoint(
        options.path,
        options.out,
        config=read_config(options),
        layout=options.layout,
        dtype=options.dtype,
        fold=options.fold,
        drop=options.drop,
        progress=output.progress,
    )
    writing.warn_of_losses(done.lost, output)
    text = [
        *writing.losses(done.lost),
        *writing.written(options.out, done.leaves, done.assets),
        *writing.listed(done.left_out, "left out"),
    ]
    left_out = {path: str(leaf) for path, leaf in done.left_out.items()}
    told = writing.document(options.path, options.out, done.leaves, done.assets)
    output.give(told | {"layout": options.layout, "left_out": left_out, "lost": done.lost}, "\n".join(text))
    return YES
