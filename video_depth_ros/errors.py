# SPDX-License-Identifier: Apache-2.0
"""Named outcomes of bad input.

Every message says what was expected, what came, and what to do about it. Command-line programs
print the message on one line and exit with a non-zero status; the node turns it into a counted
drop, a diagnostic or a refused transition.
"""

from __future__ import annotations


class VideoDepthError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(VideoDepthError, ValueError):
    """A parameter is unknown, has the wrong type, or is out of its range."""


class InputError(VideoDepthError, ValueError):
    """A frame, point cloud, camera model or other measurement cannot be used.

    ``reason`` is a short stable word (``truncated``, ``encoding`` ...) under which the drop is
    counted in the diagnostics.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        """Pickled by both arguments: an exception's own way knows the message alone."""
        return type(self), (self.reason, str(self))


class CheckpointError(VideoDepthError, ValueError):
    """A weight file is missing, damaged, of unknown naming, or of the wrong shapes."""


class RecordingError(VideoDepthError, ValueError):
    """A recording (bag, folder, video) is missing, unreadable, or lacks what is needed."""


class RegressorError(VideoDepthError, RuntimeError):
    """A regressor cannot run as asked (unknown name, non-finite output, wrong group)."""
