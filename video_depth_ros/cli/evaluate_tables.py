# SPDX-License-Identifier: Apache-2.0
"""What ``video_depth evaluate`` prints: the figures that fit on a screen."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from video_depth_ros.evaluation.report import INCOMPLETE, Evaluation

_COLUMNS = {
    "abs_rel": "AbsRel",
    "delta1": "delta1",
    "rmse": "RMSE",
    "flicker": "flicker",
    "static_flicker": "static fl.",
    "temporal_alignment_error": "TAE",
    "scale_drift": "drift",
    "boundary_f1": "edge F1",
    "coverage": "coverage",
}


def videos_table(evaluation: Evaluation) -> Table:
    """The pipeline's measures of every video and their mean."""
    rows = {result.name: result.metrics for result in evaluation.results}
    table = _table("video", [*rows.values()], "per video", evaluation.incomplete)
    for place, (name, row) in enumerate(rows.items(), start=1):
        _add(table, name, row, last=place == len(rows))
    _add(table, "mean", evaluation.mean())
    return table


def methods_table(evaluation: Evaluation) -> Table:
    """Means of the pipeline and of every baseline."""
    rows = {"pipeline": evaluation.mean(), **evaluation.baselines()}
    table = _table("method", [*rows.values()], "mean, with baselines", evaluation.incomplete)
    for name, row in rows.items():
        _add(table, name, row)
    return table


def _table(first: str, rows: list[dict[str, float]], title: str, incomplete: bool) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=INCOMPLETE if incomplete else None,
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
        min_width=max(len(title), len(INCOMPLETE) if incomplete else 0),
    )
    table.add_column(first, overflow="fold")
    for name in _shown(rows):
        table.add_column(_COLUMNS[name], justify="right", no_wrap=True)
    return table


def _shown(rows: list[dict[str, float]]) -> list[str]:
    """The columns that say something, few enough for 80 characters."""
    found = [name for name in _COLUMNS if any(name in row for row in rows)]
    if all(row.get("coverage", 1.0) == 1.0 for row in rows):
        found = [name for name in found if name != "coverage"]
    if "flicker" in found:  # with truth the better measure
        found = [name for name in found if name != "static_flicker"]
    return found


def _add(table: Table, label: str, row: dict[str, float], last: bool = False) -> None:
    names = {text: name for name, text in _COLUMNS.items()}
    shown = [names[str(column.header)] for column in table.columns[1:]]
    values = [f"{row[name]:.4f}" if name in row else "" for name in shown]
    table.add_row(label, *values, end_section=last)
