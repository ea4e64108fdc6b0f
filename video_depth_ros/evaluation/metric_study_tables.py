# SPDX-License-Identifier: Apache-2.0
"""Tables of the metric study, printed as Markdown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from video_depth_ros.evaluation.metric_study_recordings import InertialWindow
from video_depth_ros.evaluation.metric_study_results import DriveResult
from video_depth_ros.evaluation.metric_study_sigma import (
    LEVELS,
    SigmaCurve,
    merged,
    normal_share,
)

_STILL = 0.3  # m of path below which nothing can be triangulated
_CALM = 0.4  # m/s^2 below which the IMU is not excited


class Table:
    """Rows of texts as Markdown, the first column to the left."""

    def __init__(self, *columns: str) -> None:
        self._rows = [columns]

    def add_row(self, *cells: str) -> None:
        """As many cells as there are columns."""
        self._rows.append(cells)

    def __str__(self) -> str:
        columns = list(zip(*self._rows, strict=True))
        widths = [max(3, *(len(cell) for cell in column)) for column in columns]
        lines = [
            "| "
            + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            + " |"
            for row in self._rows
        ]
        rule = "|".join(
            ["", "-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:]), ""]
        )
        return "\n".join([lines[0], rule, *lines[1:]])


def summary(results: list[DriveResult]) -> dict[str, Any]:
    """Figures over the drives of one source."""
    metric = [result for result in results if result.metric]
    errors = [result.error for result in metric if result.errors]
    return {
        "drives": len(results),
        "metric": len(metric),
        "median_error": _median(errors),
        "largest_error": max(errors, default=math.nan),
        "median_seconds": _median([result.seconds for result in metric]),
        "largest_seconds": max((result.seconds for result in metric), default=math.nan),
        "false": sum(result.false_frames > 0 for result in metric),
        "false_frames": sum(result.false_frames for result in metric),
        "metric_frames": sum(result.metric_frames for result in metric),
        "abs_rel": _mean([_mean(result.abs_rel) for result in metric if result.abs_rel]),
        "bound_abs_rel": _mean([_mean(result.bound) for result in metric if result.bound]),
        "within_1_sigma": merged(result.sigma for result in metric).share(1.0),
    }


def source_table(groups: dict[str, list[DriveResult]]) -> Table:
    """One row per source, and one of its drives on which it can tell the scale."""
    table = Table(
        "source", "METRIC", "scale error: median", "90 %", "largest", "metric after: median",
        "largest", "false METRIC: drives", "frames", "AbsRel", "best affine map", "within 1 sigma",
    )  # fmt: skip
    for name, results in groups.items():
        rows = {name: results}
        if name == "odometry":
            rows[f"{name}, path over {_STILL} m"] = [r for r in results if r.moved > _STILL]
        if name == "imu":
            rows[f"{name}, over {_CALM} m/s^2"] = [r for r in results if r.excitation > _CALM]
        for label, group in rows.items():
            if not group:
                continue
            s = summary(group)
            errors = [result.error for result in group if result.errors]
            tenth = float(np.quantile(errors, 0.9)) if errors else math.nan
            table.add_row(
                label, f"{s['metric']} of {s['drives']}", _percent(s["median_error"]),
                _percent(tenth), _percent(s["largest_error"]),
                _seconds(s["median_seconds"]), _seconds(s["largest_seconds"]),
                str(s["false"]), f"{s['false_frames']} of {s['metric_frames']}",
                _decimal(s["abs_rel"]), _decimal(s["bound_abs_rel"]),
                _percent(s["within_1_sigma"]),
            )  # fmt: skip
    return table


def motion_table(groups: dict[str, list[DriveResult]]) -> Table:
    """What an IMU alone says of each kind of motion."""
    table = Table("motion", "runs", "METRIC", "median scale error", "largest", "verdicts")
    for motion, results in groups.items():
        found = [result.error for result in results if result.errors]
        metric = sum(result.metric for result in results)
        table.add_row(
            motion, str(len(results)), str(metric), _percent(_median(found)),
            _percent(max(found, default=math.nan)), _verdicts(results),
        )  # fmt: skip
    return table


def correction_table(groups: dict[str, list[DriveResult]]) -> Table:
    """Depth with and without the local correction."""
    table = Table(
        "correction", "AbsRel", "best affine map", "delta1", "coverage", "within 1 sigma",
        "scale error", "METRIC frames", "verdicts",
    )  # fmt: skip
    for name, results in groups.items():
        row = results[0].row()
        table.add_row(
            name, _decimal(row["abs_rel"]), _decimal(row["bound_abs_rel"]),
            _decimal(row["delta1"]), _percent(row["coverage"]), _percent(row["within_1_sigma"]),
            _percent(row["scale_error"]), f"{row['metric_frames']} of {row['frames']}",
            _verdicts(results),
        )  # fmt: skip
    return table


def window_table(windows: list[InertialWindow]) -> Table:
    """Scale from an IMU with reference poses in place of vision, by the poses' noise."""
    table = Table(
        "visual path", "windows", "observable", "median error", "largest", "stated sigma",
        "within 2 sigma",
    )  # fmt: skip
    for noise in sorted({window.noise for window in windows}):
        same = [window for window in windows if window.noise == noise]
        seen = [window for window in same if window.observable]
        errors = [abs(window.error) for window in seen]
        table.add_row(
            f"reference poses, noise {1e3 * noise:g} mm", str(len(same)), str(len(seen)),
            _percent(_median(errors)), _percent(max(errors, default=math.nan)),
            _percent(_median([window.sigma for window in seen])),
            str(sum(abs(window.error) < 2.0 * window.sigma for window in seen)),
        )  # fmt: skip
    return table


def image_table(groups: dict[str, list[DriveResult]]) -> Table:
    """Scale from an IMU and images, by regressor."""
    table = Table("regressor", "frames", "METRIC", "scale error", "stated sigma", "verdicts")
    for name, results in groups.items():
        row = results[0].row()
        table.add_row(
            name, str(row["frames"]), str(row["metric_frames"]), _percent(row["scale_error"]),
            _percent(row["stated_sigma"]), _verdicts(results),
        )  # fmt: skip
    return table


def sigma_table(curves: dict[str, SigmaCurve]) -> Table:
    """Shares of depth errors within k stated deviations beside the normal law's."""
    table = Table("errors within k sigma, k =", *[f"{level:g}" for level in LEVELS])
    table.add_row("normal law", *[_percent(normal_share(level), 0) for level in LEVELS])
    for name, curve in curves.items():
        table.add_row(name, *[_percent(share, 0) for share in curve.shares()])
    return table


def _verdicts(results: list[DriveResult]) -> str:
    total: dict[str, int] = {}
    for result in results:
        for name, count in result.verdicts.items():
            total[name] = total.get(name, 0) + count
    ordered = sorted(total.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {name}" for name, count in ordered) or "none"


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.nan


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _percent(value: float, digits: int = 1) -> str:
    return "-" if math.isnan(value) else f"{100.0 * value:.{digits}f} %"


def _decimal(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f} s"
