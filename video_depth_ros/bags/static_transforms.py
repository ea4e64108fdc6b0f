# SPDX-License-Identifier: Apache-2.0
"""The rigid frames of a recorded robot, from ``/tf_static``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from video_depth_ros.bags import messages as m
from video_depth_ros.bags.reader import Recording
from video_depth_ros.errors import InputError
from video_depth_ros.poses import inverse

TOPIC = "/tf_static"


class StaticTransforms:
    """A graph of rigid transforms; any two connected frames can be looked up.

    Args:
        edges: (parent, child, T_parent_child), None for a transform that is none and is passed
            over; a later edge replaces an earlier one.
    """

    def __init__(self, edges: Iterable[tuple[str, str, np.ndarray | None]]) -> None:
        self._edges: dict[str, dict[str, np.ndarray]] = {}
        self._refused: list[str] = []
        for parent, child, T in edges:
            if T is None:
                self._refused.append(f"{parent} to {child}")
                continue
            self._edges.setdefault(parent, {})[child] = T
            self._edges.setdefault(child, {})[parent] = inverse(T)

    @classmethod
    def of(cls, recording: Recording) -> StaticTransforms:
        """Every static transform of a recording, wherever in it they lie."""
        edges: list[tuple[str, str, np.ndarray | None]] = []
        if TOPIC in recording.of_kind(m.TF_MESSAGE):
            for received in recording.messages([TOPIC]):
                edges.extend(m.transforms_of(recording.decode(received)))
        return cls(edges)

    @property
    def frames(self) -> tuple[str, ...]:
        """All known frames, sorted."""
        return tuple(sorted(self._edges))

    def lookup(self, target: str, source: str, stamp_ns: int = 0) -> np.ndarray:
        """T_target_source, float64 [4, 4], composed along the chain between the two.

        Args:
            target, source: frame names; a leading slash (ROS 1) is passed over.
            stamp_ns: not used: the transforms are static.

        Raises:
            InputError: ``transform`` when no chain connects the two.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        reached = {target: np.eye(4)}
        queue = deque([target])
        while queue and source not in reached:
            frame = queue.popleft()
            for neighbour, T in self._edges.get(frame, {}).items():
                if neighbour not in reached:
                    reached[neighbour] = reached[frame] @ T
                    queue.append(neighbour)
        if source not in reached:
            known = ", ".join(self.frames) or "none"
            refused = ", ".join(dict.fromkeys(self._refused))
            raise InputError(
                "transform",
                f"no static transform from {source!r} to {target!r} in the recording; its frames "
                f"are {known}" + (f"; no poses, and passed over: {refused}" if refused else ""),
            )
        return reached[source]
