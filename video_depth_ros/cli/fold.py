# SPDX-License-Identifier: Apache-2.0
"""``video_depth fold``: public weight files to one folded file."""

from __future__ import annotations

import argparse
from pathlib import Path

from video_depth_ros.cli.progress import progress_bar
from video_depth_ros.files import check_writable

EXAMPLES = """\
worked examples:
  video_depth fold dvd_1.1.safetensors dvd.safetensors
  video_depth fold dvd_1.1_bf16.safetensors dvd.safetensors --vae Wan2.1_VAE.pth
  video_depth fold tuned.safetensors mine.safetensors --vae Wan2.1_VAE.pth \\
      --name mine --licence Apache-2.0

Then: regressor.name: dvd, regressor.weights: dvd.safetensors
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "fold",
        help="fold public DVD weights into the file that the node loads",
        description=(
            "Merge LoRA, fold timestep, modulation and cross-attention into the weights (exactly, "
            "in float64), make the decoder one-channel, and write one safetensors file. Takes the "
            "raw DVD file, a merged Wan-named or a diffusers-named file. Needs little memory: "
            "tensors are read and written one layer at a time."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="IN", help="transformer weights (.safetensors or .pth)")
    parser.add_argument("output", metavar="OUT.safetensors", help="folded file to write")
    parser.add_argument("--vae", metavar="FILE", help="Wan 2.1 VAE, where IN has none")
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        default="bfloat16",
        help="type of the stored weights (default: %(default)s)",
    )
    parser.add_argument("--name", default="dvd", help="name stored in the file")
    parser.add_argument(
        "--licence",
        "--license",
        default="CC-BY-NC-4.0",
        help="licence stored in the file (default: that of the public DVD weights, %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fold and report."""
    import torch

    from video_depth_ros.regressors.wan.checkpoints import fold_file
    from video_depth_ros.regressors.wan.folded_file import layout
    from video_depth_ros.regressors.wan.sizes import DVD

    check_writable(Path(args.output), inputs=[args.input, args.vae])
    dtype = getattr(torch, args.dtype)
    with progress_bar() as progress:
        task = progress.add_task("folding", total=len(layout(DVD, dtype)))
        info = fold_file(
            args.input,
            args.output,
            vae_path=args.vae,
            dtype=dtype,
            name=args.name,
            licence=args.licence,
            progress=lambda _: progress.advance(task),
        )
    print(f"wrote {args.output} ({info.name}, {args.dtype}, licence {info.licence})")
    return 0
