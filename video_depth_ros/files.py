# SPDX-License-Identifier: Apache-2.0
"""Whole files or none: written beside their place and renamed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
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


def check_writable(*paths: Path | None, inputs: Iterable[Path | str | None] = ()) -> None:
    """Refuse files that cannot be written, before the work whose outcome they are to hold.

    Args:
        paths: files to write; None is none.
        inputs: files that are read, and are not to be lost; None or an empty text is none.

    Raises:
        ConfigError: a folder, a place in no folder that can be written to, an input, or one file
            for two outputs.
    """
    read = {Path(path).absolute().resolve() for path in inputs if path}
    written: set[Path] = set()
    for path in paths:
        if path is None:
            continue
        try:
            is_folder = path.is_dir()
            # the folders that are missing are made when the file is written
            above = next(folder for folder in path.absolute().parents if folder.exists())
            place = path.absolute().resolve()
        except OSError as error:  # a name too long, a folder that may not be looked into
            raise ConfigError(f"cannot write {path}: {error}; name another file") from error
        if is_folder:
            raise ConfigError(f"{path} is a folder; expected the name of a file to write")
        if place in read:
            raise ConfigError(f"{path} is an input; name another file to write")
        if place in written:
            raise ConfigError(f"{path} is named for two outputs; name another file for one")
        written.add(place)
        if not above.is_dir():
            raise ConfigError(f"cannot write {path}: {above} is no folder; name another file")
        if not os.access(above, os.W_OK):
            raise ConfigError(f"cannot write {path}: {above} may not be written to")


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
