"""The options of ``convert`` for lerobot's policy folder."""

import argparse
from pathlib import Path

_LATEST = "0.6.1"


def add_lerobot(parser: argparse.ArgumentParser) -> None:
    """Add the options that only the layout lerobot takes."""
    parser.add_argument(
        "--asset-id",
        metavar="ID",
        help="which norm stats to take, where there are several; of a policy of lerobot's, what to call them",
    )
    group = parser.add_argument_group("what lerobot's folder says besides (--to lerobot)")
    group.add_argument("--lerobot-version", metavar="X.Y.Z", help=f"whose fields to write; default: {_LATEST}")
    group.add_argument(
        "--dataset-info",
        type=Path,
        metavar="FILE",
        help="meta/info.json of a data set of lerobot's: sizes of state and actions, names of actions, and images",
    )
    group.add_argument(
        "--camera",
        action="append",
        metavar="CAMERA=KEY",
        help="openpi's camera and lerobot's image, once for each; one left out is masked; default: all three, as "
        "observation.images.CAMERA",
    )
    group.add_argument("--state-dim", type=int, metavar="N", help="numbers in the state; default: as in the norm stats")
    group.add_argument(
        "--action-dim", type=int, metavar="N", help="numbers in an action; default: as in the norm stats"
    )
    group.add_argument("--without-norm-stats", action="store_true", help="write a policy that does not normalize")
    group.add_argument(
        "--delta-actions",
        metavar="DIMS",
        help="dimensions relative to the state: 6,-1 are six and an absolute one; none; default: as the config has it",
    )
    group.add_argument("--action-names", metavar="NAMES", help="names of the dimensions of an action, with commas")
    group.add_argument("--state-in-prompt", choices=("yes", "no"), help="whether a pi05's prompt has the state")
    group.add_argument(
        "--without-robot-transforms",
        action="store_true",
        help="accept that lerobot does not do what the config does to an ALOHA's joints and grippers",
    )
    group.add_argument("--device", metavar="DEVICE", help="where lerobot runs the policy; default: cpu")
    group.add_argument(
        "--adapters", metavar="BASE", help="write adapters alone, for this policy of lerobot's: a path or a repository"
    )
