# SPDX-License-Identifier: Apache-2.0
"""The outcome of an evaluation as JSON: ``mean``, ``videos``, ``baselines`` and the setting."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video_depth_ros import __version__
from video_depth_ros.evaluation.metrics import mean_of_videos
from video_depth_ros.evaluation.runner import VideoResult
from video_depth_ros.files import write_text

INCOMPLETE = "incomplete: stopped before all videos had been measured"


@dataclass
class Evaluation:
    """Results of all videos.

    Attributes:
        setting: what was evaluated and how (regressor, protocol, ...), plain values.
        results: one per video, in order.
        failed: videos that could not be measured, and why.
        incomplete: stopped before every video had its turn.
    """

    setting: dict[str, Any]
    results: list[VideoResult] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    incomplete: bool = False

    def mean(self) -> dict[str, float]:
        """Mean of the pipeline's measures over videos."""
        return mean_of_videos(result.metrics for result in self.results)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Mean of every baseline's measures over videos."""
        names = dict.fromkeys(name for result in self.results for name in result.baselines)
        return {
            name: mean_of_videos(r.baselines[name] for r in self.results if name in r.baselines)
            for name in names
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values.

        ``mean``: metric name to value. ``videos``, ``baselines``, ``baseline_videos``: by name.
        ``details``: per video, numbers that are no measures of quality, and ``notes``.
        ``failed``: videos that could not be measured, by name, with the reason. ``incomplete``:
        whether it was stopped before every video had its turn.
        """
        return {
            "version": __version__,
            "setting": self.setting,
            "mean": self.mean(),
            "videos": {result.name: result.metrics for result in self.results},
            "baselines": self.baselines(),
            "baseline_videos": {result.name: result.baselines for result in self.results},
            "details": {
                result.name: {
                    "protocol": result.protocol,
                    **result.details,
                    **({"notes": list(result.notes)} if result.notes else {}),
                }
                for result in self.results
            },
            "failed": self.failed,
            "incomplete": self.incomplete,
        }

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_dict`, beside first and then renamed."""
        write_text(path, json.dumps(self.as_dict(), indent=2) + "\n")
