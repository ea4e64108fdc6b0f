# SPDX-License-Identifier: Apache-2.0
"""The progress bar of the commands."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

UNKNOWN = 0  # total of a task while it is unknown; rich takes None for it since 12.3


class _Count(ProgressColumn):
    """Done of all. Rich has one of its own since 12.3; Ubuntu 22.04 comes with 11.2."""

    def render(self, task: Task) -> Text:
        """See :class:`rich.progress.ProgressColumn`."""
        total = f"{int(task.total)}" if task.total else "?"
        return Text(f"{int(task.completed):>{len(total)}}/{total}", style="progress.download")


def progress_bar(
    console: Console | None = None,
    *,
    elapsed: bool = False,
    noted: bool = False,
    transient: bool = True,
    hidden: bool = False,
) -> Progress:
    """What is done, how much of it, and the time.

    Args:
        console: where; None for standard error.
        elapsed: the time since the beginning in place of the time to the end.
        noted: every task says something beside, its field ``note``.
        transient: the bar is gone when it is finished.
        hidden: nothing is shown.
    """
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), _Count()]
    columns.append(TimeElapsedColumn() if elapsed else TimeRemainingColumn())
    if noted:
        columns.append(TextColumn("{task.fields[note]}"))
    return Progress(
        *columns, console=console or Console(stderr=True), transient=transient, disable=hidden
    )
