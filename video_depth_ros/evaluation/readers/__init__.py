# SPDX-License-Identifier: Apache-2.0
"""Data-set layouts that only evaluation reads, and the simulation as a source."""
