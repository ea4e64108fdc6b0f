# SPDX-License-Identifier: Apache-2.0
"""Whole files or none: written beside their place and renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from video_depth_ros.errors import ConfigError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden file beside ``path`` to write to, renamed to ``path`` when the block ends well.

    Its ending is that of ``path``, and its name holds the process's number: several processes may
    write the same file. After an exception it is removed and ``path`` is as it was.

    Raises:
        OSError: the folder cannot be made, or the file not renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write what a user asked for into a file.

    Raises:
        ConfigError: it cannot be written there.
    """
    try:
        with replacing(path) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}; name another file") from error


def write_text(path: Path, text: str) -> None:
    """:func:`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())
