# SPDX-License-Identifier: Apache-2.0
"""``video_depth download``: fetch public weights after their licence has been accepted."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
worked examples:
  video_depth download dvd-1.1                        show the licence, fetch nothing
  video_depth download dvd-1.1 --accept-license       4.5 GB into the current folder
  video_depth download taew2_1 --accept-license --to weights/
  HF_ENDPOINT=https://mirror.example video_depth download wan-vae --accept-license

A broken download goes on where it stopped when the command is run again. DVD's file is then folded
for use by `video_depth fold`.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "download",
        help="fetch public weights (DVD, Wan VAE, tiny VAE)",
        description="Fetch public weights from the Hugging Face hub. None come with the package.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name",
        choices=("dvd-1.1", "dvd-1.0", "wan-vae", "taew2_1"),
        help="which weights",
    )
    parser.add_argument("--to", default=".", metavar="DIR", help="folder (default: this one)")
    parser.add_argument(
        "--accept-license",
        "--accept-licence",
        action="store_true",
        dest="accepted",
        help="say that you accept the licence that is shown",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show the licence; with it accepted, download. Exit status 1 when it is not."""
    from video_depth_ros.regressors.wan.download import PUBLIC_WEIGHTS, download

    weights = PUBLIC_WEIGHTS[args.name]
    print(f"{args.name}: {weights.repository}/{weights.filename}")
    print(f"licence: {weights.licence}, {weights.terms}; {weights.url}")
    if not args.accepted:
        print("to download it, accept the licence: add --accept-license")
        return 1
    path = download(args.name, Path(args.to))
    print(f"wrote {path}")
    if args.name.startswith("dvd"):
        print(f"next: video_depth fold {path} {path.with_suffix('.folded.safetensors')}")
    return 0
