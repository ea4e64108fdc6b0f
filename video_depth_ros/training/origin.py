# SPDX-License-Identifier: Apache-2.0
"""Whose weights a training goes on from, and what they oblige to."""

from __future__ import annotations

from typing import NamedTuple

from video_depth_ros.regressors.wan.checkpoints import DVD_LICENCE

OWN_LICENCE = "Apache-2.0"  # of weights that owe nothing to anyone


class Origin(NamedTuple):
    """The model that the first of all starting weights belonged to; empty for random weights.

    Attributes:
        name: its name.
        licence: of its weights, which holds for all that is made from them.
    """

    name: str = ""
    licence: str = ""

    def named(self, size: str) -> str:
        """The name of an export: inherited, else that of the size."""
        return self.name or size

    def licensed(self) -> str:
        """The licence of an export: inherited, else this package's."""
        return self.licence or OWN_LICENCE


DVD = Origin("dvd", DVD_LICENCE)
