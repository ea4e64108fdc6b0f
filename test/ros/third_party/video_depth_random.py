# SPDX-License-Identifier: Apache-2.0
"""The architecture of the embedded network with random weights, as a third party's regressor: the
node's work with a real network does not depend on what that network has learnt."""

from __future__ import annotations

from video_depth_ros.regressors.registry import RegressorConfig
from video_depth_ros.regressors.wan.factory import with_random_weights
from video_depth_ros.regressors.wan.regressor import WanRegressor
from video_depth_ros.regressors.wan.sizes import NANO


def random(config: RegressorConfig) -> WanRegressor:
    """The factory that the entry point names."""
    return with_random_weights(config, NANO, "nano")
