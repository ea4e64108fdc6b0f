# SPDX-License-Identifier: Apache-2.0
"""The sizes of the networks that have a name."""

from __future__ import annotations

from dataclasses import dataclass

from video_depth_ros.regressors.wan.transformer import TransformerConfig
from video_depth_ros.regressors.wan.vae import VaeConfig


@dataclass(frozen=True)
class ModelSize:
    """A VAE and a transformer that fit each other."""

    vae: VaeConfig
    transformer: TransformerConfig


# Wan 2.1 T2V 1.3B as DVD uses it, with a decoder of one channel (the mean of the public three).
DVD = ModelSize(VaeConfig(out_channels=1), TransformerConfig())

# The embedded model: pixels are gathered 4x4, so that the VAE never works at full resolution; one
# latent cell, and one token, is 16x16 pixels of four frames.
NANO = ModelSize(
    VaeConfig(
        dim=32, z_dim=32, multipliers=(1, 2, 3), res_blocks=1, temporal=(True, True), patch=4
    ),
    TransformerConfig(
        in_channels=32, out_channels=32, dim=256, heads=4, layers=6, ffn=1024, patch=1
    ),
)

SIZES = {"dvd": DVD, "nano": NANO}
