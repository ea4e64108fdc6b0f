# SPDX-License-Identifier: Apache-2.0
"""A Wan-like model as a :class:`~video_depth_ros.regressors.base.Regressor`."""

from __future__ import annotations

import torch

from video_depth_ros.errors import RegressorError
from video_depth_ros.regressors.base import RegressorSpec
from video_depth_ros.regressors.wan.folded_file import FoldedInfo
from video_depth_ros.regressors.wan.session import LatentDecoder, LatentEncoder, WanSession
from video_depth_ros.regressors.wan.stream import StreamOptions
from video_depth_ros.regressors.wan.transformer import FoldedTransformer
from video_depth_ros.regressors.wan.vae import CausalVae

MIN_TOKENS = 2  # rows and columns of tokens below which a picture carries no scene


# measured with ``video_depth benchmark --stability``, see docs/alignment.md
_HOMING = {"nano": 0.5}


class WanRegressor:
    """Weights on a device; opens sessions that share them."""

    def __init__(
        self,
        info: FoldedInfo,
        vae: CausalVae,
        transformer: FoldedTransformer,
        options: StreamOptions,
        box: tuple[int, int] | None = None,
        encoder: LatentEncoder | None = None,
        decoder: LatentDecoder | None = None,
        warm_up: int = 1,
    ) -> None:
        """``encoder`` and ``decoder`` take the place of the VAE's own (the tiny VAE); ``warm_up``
        is the spec's."""
        config = info.size.vae
        self.info = info
        self.vae = vae
        self.transformer = transformer
        self.options = options
        self._encoder = vae if encoder is None else encoder
        self._decoder = vae if decoder is None else decoder
        self._stride = config.temporal_stride
        self._spec = RegressorSpec(
            name=info.name,
            licence=info.licence,
            first_group=1,
            group=self._stride * options.hop,
            size_multiple=config.spatial_stride * info.size.transformer.patch,
            box=info.box if box is None else box,
            max_overlap=options.max_overlap(self._stride),
            homing=_HOMING.get(info.name, 0.0),
            warm_up=warm_up,
        )

    @property
    def spec(self) -> RegressorSpec:
        """Groups, sizes and licence."""
        return self._spec

    @property
    def device(self) -> torch.device:
        """Where sessions expect their input and leave their output."""
        return next(self.transformer.parameters()).device

    def open(self, height: int, width: int) -> WanSession:
        """A session for images of this size.

        Raises:
            RegressorError: size not a multiple, or too small for the network.
        """
        multiple = self._spec.size_multiple
        if height % multiple or width % multiple or min(height, width) < MIN_TOKENS * multiple:
            raise RegressorError(
                f"{self._spec.name}: expected height and width in multiples of {multiple} px from "
                f"{MIN_TOKENS * multiple} px on, got {height}x{width}; use "
                "preprocessing.cover_size()"
            )
        return WanSession(
            self._encoder,
            self.transformer,
            self._decoder,
            self.options,
            (height, width),
            self._stride,
        )
