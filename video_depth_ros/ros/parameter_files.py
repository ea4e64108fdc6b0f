# SPDX-License-Identifier: Apache-2.0
"""``config/depth.yaml`` and the parameter table of ``docs/node.md``, from the source of truth.

Run ``python -m video_depth_ros.ros.parameter_files`` in the repository after changing a
parameter; a test compares the files with what this would write. Imports no ROS.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml

from video_depth_ros.node_config import DepthNodeConfig
from video_depth_ros.settings import Leaf, leaves

BEGIN = "<!-- parameters: written by python -m video_depth_ros.ros.parameter_files -->"
END = "<!-- end of parameters -->"

_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Every parameter of depth_node with its default value.
# Written by `python -m video_depth_ros.ros.parameter_files`; copy it and change the copy.
# [live] may change while the node is active; the others are fixed until it is deactivated.
#
# QoS is overridden per topic by its full name, for example
#   qos_overrides:
#     /camera/image_raw:
#       subscription:
#         reliability: reliable
#     /depth/points:
#       publisher:
#         reliability: best_effort
/**:
  ros__parameters:
"""


def parameter_yaml() -> str:
    """The text of ``config/depth.yaml``."""
    lines = [_HEAD.rstrip("\n")]
    open_groups: list[str] = []
    for leaf in leaves(DepthNodeConfig()):
        *groups, name = leaf.name.split(".")
        common = 0
        while common < min(len(groups), len(open_groups)) and (
            groups[common] == open_groups[common]
        ):
            common += 1
        for depth in range(common, len(groups)):
            lines.append(f"{'  ' * (depth + 2)}{groups[depth]}:")
        open_groups = groups
        indent = "  " * (len(groups) + 2)
        lines += textwrap.wrap(
            _comment(leaf), 97, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        lines.append(f"{indent}{name}: {_scalar(leaf.value)}")
    return "\n".join(lines) + "\n"


def parameter_table() -> str:
    """The parameters as a Markdown table."""
    rows = ["| Parameter | Default | Range | Live | Meaning |", "|---|---|---|---|---|"]
    for leaf in leaves(DepthNodeConfig()):
        meta = leaf.parameter
        unit = f" [{meta.unit}]" if meta.unit else ""
        rows.append(
            f"| `{leaf.name}` | `{_scalar(leaf.value)}` | {_allowed(leaf)} | "
            f"{'yes' if meta.live else ''} | {meta.description.replace('|', '/')}{unit} |"
        )
    return "\n".join(rows)


def with_table(document: str) -> str:
    """``document`` with the table between its two marks replaced."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{parameter_table()}\n\n{END}{after}"


def _comment(leaf: Leaf) -> str:
    meta = leaf.parameter
    notes = [meta.unit, _allowed(leaf)]
    described = "; ".join(note for note in notes if note)
    live = " [live]" if meta.live else ""
    return f"{meta.description} ({described}){live}" if described else meta.description + live


def _allowed(leaf: Leaf) -> str:
    meta = leaf.parameter
    if meta.choices:
        return ", ".join(meta.choices)
    if meta.low is not None and meta.high is not None:
        return f"{meta.low:g} to {meta.high:g}"
    if meta.low is not None:
        return f"at least {meta.low:g}"
    return "" if meta.high is None else f"at most {meta.high:g}"


def _scalar(value: Any) -> str:
    """One value as YAML writes it on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    text = text.removesuffix("\n").removesuffix("\n...")
    if isinstance(value, float) and "." not in text:  # 1e-05 would be read as a text
        text = text.replace("e", ".0e", 1)
    return text


def main() -> None:
    """Write both files of the repository this module stands in."""
    root = Path(__file__).resolve().parents[2]
    (root / "config" / "depth.yaml").write_text(parameter_yaml())
    document = root / "docs" / "node.md"
    document.write_text(with_table(document.read_text()))


if __name__ == "__main__":
    main()
