# SPDX-License-Identifier: Apache-2.0
"""Tables with many columns."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def print_whole(table: Table) -> None:
    """Print a table at least as wide as it needs: cut figures are no figures.

    A pipe has no width, and in a narrow terminal broken lines can still be read.
    """
    console = Console()
    unbounded = console.options.update(max_width=sys.maxsize)
    needed = Measurement.get(console, unbounded, table).maximum
    Console(width=max(console.width, needed)).print(table)
