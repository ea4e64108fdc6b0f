# SPDX-License-Identifier: Apache-2.0
"""Procedural worlds with exact depth, camera paths, LiDAR, IMU and odometry."""
