"""Write a checkpoint in another layout.

  openpi          openpi's own: OUT/params, an orbax tree. Also takes openpi_pytorch, lerobot with its norm stats, the
                  part of a pi0 that a PaliGemma (Google's npz, Hugging Face's folder) or a Gemma (flax) holds, and a
                  PEFT adapter (with --config: its shapes show no heads)
  openpi_pytorch  openpi's PyTorch layout, which transformers' and lerobot's pi0 read: model.safetensors, config.json
  lerobot         lerobot's policy folder: config, model.safetensors, pre- and postprocessor with norm stats, model card
  hugging_face    the PaliGemma part, as transformers stores it: model.safetensors, config.json
  paligemma_npz   the PaliGemma part, as Google published it: one file
  peft            the adapters, as a PEFT adapter for transformers' pi0: adapter_model.safetensors, adapter_config.json

Parameters that a layout has no place for are an error unless --drop leaves them out; adapters are never dropped,
--fold adds them to their weights. Bits are kept unless --dtype says otherwise. Norm stats (assets) go along with a pi0.
Nothing at OUT is overwritten, OUT appears when it is complete, and every parameter is read back and compared. Two runs
write the same bytes, except for openpi's layout, whose files orbax names at random: there the arrays are the same.

What openpi does and lerobot cannot say is an error or needs one of lerobot's options; with --config most of them are
known. Norm stats are written so that lerobot computes openpi's numbers; dimensions for which float32 cannot are listed.

--json prints: path, layout, out, parameters, bytes (by dtype), assets, verified, left_out (name -> dtype and shape),
lost (as fold), inexact (texts), scales, scales_from (as attach).
"""

import argparse

from pi0_compat.cli.parsers.lerobot import add_lerobot
from pi0_compat.cli.parsers.options import add_alpha, add_checkpoint, add_config, add_dtype, add_out

EXAMPLES = """\
  pi0-compat convert checkpoints/pi0_base --to openpi_pytorch -o pi0_base_pytorch
  pi0-compat convert checkpoints/my_run/29999 --to openpi_pytorch --fold --dtype bfloat16 -o merged
  pi0-compat convert checkpoints/my_run/29999 --to peft -o my_adapter --config pi0_libero_low_mem_finetune
  pi0-compat convert checkpoints/my_run/29999 --to lerobot --config pi0_libero -o my_policy
  pi0-compat convert outputs/train/checkpoints/last/pretrained_model --to openpi -o from_lerobot
  pi0-compat convert my_adapter --base my_policy --to openpi -o merged    a PEFT training of lerobot
  pi0-compat convert checkpoints/pi0_base --to hugging_face --drop -o paligemma
  pi0-compat convert pt_224.npz --to openpi -o paligemma_for_openpi
"""
LAYOUTS = ("openpi", "openpi_pytorch", "lerobot", "hugging_face", "paligemma_npz", "peft")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser, "CHECKPOINT", "a checkpoint in any layout: a file or folder, local or a URL")
    parser.add_argument("--to", dest="layout", metavar="LAYOUT", required=True, help=f"one of {', '.join(LAYOUTS)}")
    add_out(parser, "the folder to make, or the file (paligemma_npz)")
    add_dtype(parser)
    parser.add_argument("--fold", action="store_true", help="add adapters to their weights first")
    parser.add_argument("--drop", action="store_true", help="leave out what the layout has no place for")
    parser.add_argument(
        "--base", metavar="POLICY", help="of a PEFT adapter: what it goes on; it is merged into the weights"
    )
    add_config(parser, "the model it is of, where neither shapes nor the checkpoint show enough")
    add_alpha(parser)
    parser.add_argument(
        "--max-shard-size", metavar="SIZE", help="write hugging_face in files of at most SIZE, for example 5GB"
    )
    add_lerobot(parser)
