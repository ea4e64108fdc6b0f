# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file: nothing in it is loaded from elsewhere."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from video_depth_ros.evaluation import plots
from video_depth_ros.evaluation.metrics import HIGHER_IS_BETTER
from video_depth_ros.evaluation.report import INCOMPLETE, Evaluation
from video_depth_ros.evaluation.runner import PIPELINE, VideoResult
from video_depth_ros.files import write_text

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1250px; margin: 2em auto; color: #222;
       padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: .25em .6em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
td.best { font-weight: bold; } .mean td { border-top: 2px solid #888; }
img { max-width: 100%; display: block; margin: .5em 0; } .note { color: #666; font-size: 13px; }
"""


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write the report, beside first and then renamed."""
    write_text(path, report_html(evaluation))


def report_html(evaluation: Evaluation) -> str:
    """The report's text."""
    mean, baselines = evaluation.mean(), evaluation.baselines()
    rows = {PIPELINE: mean, **baselines}
    setting = ", ".join(f"{key}: {value}" for key, value in evaluation.setting.items())
    parts = [
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>Video depth evaluation</title><style>{_STYLE}</style></head><body>",
        "<h1>Video depth evaluation</h1>",
        f"<p class='note'>{escape(setting)}</p>",
        f"<p><b>{INCOMPLETE}</b></p>" if evaluation.incomplete else "",
        f"<h2>Mean over {len(evaluation.results)} videos</h2>",
        _table(rows, best=True),
        "<p class='note'>constant, ramp and quadratic are fitted on the truth itself: upper "
        "bounds of knowing nothing of the image. Arrows: where better lies.</p>",
        _image(plots.bars(mean, baselines), "png", "AbsRel and delta1 of all methods"),
        "<h2>Videos</h2>",
        _table({result.name: result.metrics for result in evaluation.results}, mean=mean),
        *(
            f"<p class='note'>not measured: {escape(name)}: {escape(reason)}</p>"
            for name, reason in evaluation.failed.items()
        ),
    ]
    for result in evaluation.results:
        parts.append(_video(result))
    parts.append("</body></html>\n")
    return "\n".join(part for part in parts if part)


def _video(result: VideoResult) -> str:
    details = ", ".join(f"{key} {value:.4g}" for key, value in result.details.items())
    parts = [
        f"<h2>{escape(result.name)}</h2>",
        f"<p class='note'>protocol {escape(result.protocol)}, {escape(details)}</p>",
        *(f"<p class='note'>{escape(note)}</p>" for note in result.notes),
        _table({PIPELINE: result.metrics, **result.baselines}, best=True),
        _image(plots.over_time(result), "png", f"errors of {result.name} over time"),
    ]
    for picture in result.pictures:
        what = f"frame {picture.index}: {picture.shown}"
        parts.append(_image(picture.jpeg, "jpeg", what))
        parts.append(f"<p class='note'>{escape(what)}</p>")
    return "\n".join(part for part in parts if part)


def _table(
    rows: dict[str, dict[str, float]],
    best: bool = False,
    mean: dict[str, float] | None = None,
) -> str:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    if not columns:
        return "<p class='note'>Nothing could be measured without truth.</p>"
    head = "".join(
        f"<th>{escape(name)} {'&uarr;' if name in HIGHER_IS_BETTER else '&darr;'}</th>"
        for name in columns
    )
    winners = {name: _best(rows, name) for name in columns} if best else {}
    lines = [f"<tr><th></th>{head}</tr>"]
    for label, row in rows.items():
        cells = "".join(
            f"<td class='best'>{_number(row.get(name))}</td>"
            if label in winners.get(name, ())
            else f"<td>{_number(row.get(name))}</td>"
            for name in columns
        )
        lines.append(f"<tr><td>{escape(label)}</td>{cells}</tr>")
    if mean is not None:
        cells = "".join(f"<td>{_number(mean.get(name))}</td>" for name in columns)
        lines.append(f"<tr class='mean'><td>mean</td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _best(rows: dict[str, dict[str, float]], name: str) -> tuple[str, ...]:
    values = {label: row[name] for label, row in rows.items() if name in row}
    target = max(values.values()) if name in HIGHER_IS_BETTER else min(values.values())
    return tuple(label for label, value in values.items() if value == target)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _image(data: bytes | None, kind: str, text: str) -> str:
    if data is None:
        return ""
    encoded = base64.b64encode(data).decode("ascii")
    return f"<img alt='{escape(text)}' src='data:image/{kind};base64,{encoded}'>"
