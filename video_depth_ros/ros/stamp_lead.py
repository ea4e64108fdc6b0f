# SPDX-License-Identifier: Apache-2.0
"""Clocks that are apart by seconds, judged by when messages arrive.

The core knows stamps alone, and samples after the newest frame are its daily bread: the network
runs behind. Here both streams are seen arriving, and what arrives together was measured together,
but for the delays of cameras and networks, which are well below a second.
"""

from __future__ import annotations

from collections import defaultdict, deque

LARGEST = 1.0  # seconds; images of a slow network may be late by a good part of that
_SAMPLES = 100  # a burst of late images has an end before, at any rate of 5 Hz to 200 Hz and more
_FEWEST = 10
_FRESH = 1.0  # seconds; a camera that is away tells nothing about clocks


class StampLeads:
    """How far the stamps of other topics run ahead of the images' stamps. For one thread."""

    def __init__(self) -> None:
        self._image: tuple[int, float] | None = None
        self._leads: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_SAMPLES))

    def image(self, stamp_ns: int, arrival: float) -> None:
        """An image came in at ``arrival``, seconds of a steady clock."""
        self._image = (stamp_ns, arrival)

    def measurement(self, source: str, stamp_ns: int, arrival: float) -> None:
        """A sample of ``source`` came in."""
        if self._image is None:
            return
        image_ns, image_arrival = self._image
        elapsed = arrival - image_arrival
        if elapsed <= _FRESH:
            self._leads[source].append((stamp_ns - image_ns) * 1e-9 - elapsed)

    def seconds(self) -> dict[str, float]:
        """By source, how far it is ahead at least, where that is more than ``LARGEST``."""
        ahead = {s: min(leads) for s, leads in self._leads.items() if len(leads) >= _FEWEST}
        return {source: lead for source, lead in ahead.items() if lead > LARGEST}
