"""Run ``pi0-compat convert``."""

import argparse

from pi0_compat.checkpoints.convert import convert_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_files import read_alpha, read_config
from pi0_compat.cli.lerobot_options import read_lerobot
from pi0_compat.cli.output import Output, Refusal
from pi0_compat.cli.sizes import read_size
from pi0_compat.layouts.write import writable


def run(options: argparse.Namespace, output: Output) -> int:
    """Convert the checkpoint, and print what was written and what was left out."""
    try:
        layout = writable(options.layout)
    except ValueError as error:
        raise Refusal(f"--to: {error}") from error
    lerobot, config = read_lerobot(options, layout), read_config(options)
    done = convert_checkpoint(
        options.path,
        options.out,
        config=options.config or config,
        layout=layout,
        alpha=read_alpha(options),
        rslora=options.rslora,
        dtype=options.dtype,
        fold=options.fold,
        drop=options.drop,
        lerobot=lerobot,
        asset_id=options.asset_id,
        max_shard_bytes=read_size(options.max_shard_size),
        base=options.base,
        progress=output.progress,
    )
    writing.warn_of_losses(done.lost, output)
    text = [
        *(writing.scales(done, options) if options.fold else []),
        *writing.losses(done.lost),
        *writing.written(options.out, done.leaves, done.assets),
        *writing.listed(done.left_out, "left out"),
        *done.inexact,
    ]
    left_out = {path: str(leaf) for path, leaf in done.left_out.items()}
    document = writing.document(options.path, options.out, done.leaves, done.assets)
    document |= {"layout": layout, "left_out": left_out, "lost": done.lost, "inexact": list(done.inexact)}
    output.give(document | writing.scales_document(done), "\n".join(text))
    return YES
