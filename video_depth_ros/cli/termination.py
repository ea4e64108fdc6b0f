# SPDX-License-Identifier: Apache-2.0
"""SIGTERM as a way to stop that tidies up, as Ctrl-C is one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 128 + signal.SIGTERM  # as a shell reports it


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def unwinding_on_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated`, so that half-written files go.

    By default the signal ends the process where it stands. Does nothing outside the main thread,
    where Python takes no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        # None: set by something else than Python, and not to be had back
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not break the tidying up
    raise Terminated
