# SPDX-License-Identifier: Apache-2.0
"""Metric, temporally stable depth from one camera, live (ROS 2) and offline."""

__version__ = "0.1.0"
