# SPDX-License-Identifier: Apache-2.0
"""Writing rosbag2, all or nothing.

The path decides the form: ``NAME.mcap`` and ``NAME.db3`` are lone files (the metadata travels
inside), any other name is a folder with ``metadata.yaml`` as ``ros2 bag record`` makes it. The
bag is written into a hidden folder beside its place and renamed when it is complete; after an
error nothing is left. Metadata version 8 is what Humble and every later distribution read.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from video_depth_ros.bags.messages import serialise, typestore
from video_depth_ros.errors import RecordingError

_STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_SUFFIXES = {".mcap": "mcap", ".db3": "sqlite3"}
_METADATA_VERSION = 8
_WRITE_ERRORS = (OSError, sqlite3.Error)
_NEVER = QosTime(2147483647, 4294967295)  # rmw's "infinite" as rosbag2 records it


def qos(latched: bool = False, reliable: bool = True, depth: int = 10) -> Qos:
    """An offered QoS profile; ``latched`` is transient local, as for ``/tf_static``."""
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _NEVER,
        _NEVER,
        QosLiveliness.AUTOMATIC,
        _NEVER,
        False,
    )


class BagWriter:
    """A rosbag2 being written; use it as a context manager.

    Leaving the block normally puts the bag in its place, leaving it by an exception removes
    everything written.
    """

    def __init__(
        self, path: str | Path, storage: str | None = None, overwrite: bool = False
    ) -> None:
        """Prepare; nothing is created before the block is entered.

        Args:
            path: ``NAME.mcap``, ``NAME.db3``, or the name of a folder.
            storage: mcap or sqlite3; None takes what the name says, mcap for a folder.
            overwrite: replace what is there, at the very end.

        Raises:
            RecordingError: ``path`` names nothing, something is there already, its parent folder
                does not exist, or ``storage`` is unknown or contradicts the name.
        """
        self.path = Path(path)
        if self.path.name in ("", ".."):  # Path("") is "."
            raise RecordingError(
                f"expected the name of a bag to write, got {str(path)!r} or an empty name; name "
                "NAME.mcap, NAME.db3 or a folder that is not there yet"
            )
        named = _SUFFIXES.get(self.path.suffix)
        self.storage = storage or named or "mcap"
        if self.storage not in _STORAGE:
            known = ", ".join(_STORAGE)
            raise RecordingError(f"unknown storage {self.storage!r}; expected one of {known}")
        if named not in (None, self.storage):
            raise RecordingError(
                f"{self.path}: the name says {named} but {self.storage} was asked for; change one"
            )
        self._lone = named is not None
        self._overwrite = overwrite
        self._check_free()
        parent = self.path.absolute().parent
        if not parent.is_dir():
            raise RecordingError(f"folder {parent} does not exist; create it first")
        self._scratch: Path | None = None
        self._writer: Writer | None = None
        self._connections: dict[str, Connection] = {}
        self._kinds: dict[str, str] = {}
        self.message_count = 0

    def __enter__(self) -> BagWriter:
        parent = self.path.absolute().parent
        try:
            scratch = tempfile.mkdtemp(prefix=f".{self.path.stem}.", suffix=".partial", dir=parent)
            self._scratch = Path(scratch)
            self._writer = Writer(
                self._content, version=_METADATA_VERSION, storage_plugin=_STORAGE[self.storage]
            )
            self._writer.open()
        except _WRITE_ERRORS as error:
            self._discard()
            raise RecordingError(f"cannot write {self.path}: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
            elif self._writer is not None:
                self._writer.abort()
        except _WRITE_ERRORS as failure:
            raise RecordingError(f"cannot write {self.path}: {failure}") from failure
        finally:
            self._discard()

    def add_topic(self, topic: str, kind: str, latched: bool = False) -> None:
        """Declare a topic of a standard type (``package/msg/Name``), once."""
        offered = [qos(latched=latched, depth=1 if latched else 10)]
        self._connections[topic] = self._open_writer().add_connection(
            topic, kind, typestore=typestore(), offered_qos_profiles=offered
        )
        self._kinds[topic] = kind

    def copy_topic(
        self, topic: str, kind: str, definition: str, digest: str, profiles: list[Qos]
    ) -> None:
        """Declare a topic as another bag describes it, for :meth:`write_raw`."""
        self._connections[topic] = self._open_writer().add_connection(
            topic, kind, msgdef=definition, rihs01=digest, offered_qos_profiles=profiles
        )
        self._kinds[topic] = kind

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Write a message; ``stamp_ns`` is the time at which it was received."""
        self.write_raw(topic, stamp_ns, serialise(message, self._kinds[topic]))

    def write_raw(self, topic: str, stamp_ns: int, data: bytes | memoryview) -> None:
        """Write a message that is serialised already (CDR).

        Raises:
            RecordingError: the disk refuses it.
        """
        try:
            self._open_writer().write(self._connections[topic], stamp_ns, data)
        except _WRITE_ERRORS as error:
            raise RecordingError(f"cannot write {self.path}: {error}") from error
        self.message_count += 1

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics declared so far."""
        return tuple(self._connections)

    @property
    def _content(self) -> Path:
        """Where the complete bag comes to lie inside the scratch folder."""
        assert self._scratch is not None
        return self._scratch / (self.path.stem if self._lone else self.path.name)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise RecordingError(f"{self.path}: the bag is not open; use `with BagWriter(...)`")
        return self._writer

    def _check_free(self) -> None:
        if self.path.exists() and not self._overwrite:
            raise RecordingError(f"{self.path} exists already; choose another name or --overwrite")

    def _finish(self) -> None:
        assert self._scratch is not None
        self._open_writer().close()
        content = self._content
        if self._lone:
            content = content / f"{content.name}{self.path.suffix}"
        self._check_free()
        if not self.path.is_dir() and not content.is_dir():
            content.replace(self.path)  # a file over a file: one atomic step
            return
        aside = self._scratch / "replaced"
        if self.path.exists():
            self.path.rename(aside)
        try:
            content.rename(self.path)
        except OSError:
            if aside.exists():
                aside.rename(self.path)
            raise

    def _discard(self) -> None:
        self._writer = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


def profiles_of(connection: Connection) -> list[Qos]:
    """The QoS profiles a connection of another bag offers; ROS 1 latching becomes latched."""
    if isinstance(connection.ext, ConnectionExtRosbag2):
        return list(connection.ext.offered_qos_profiles)
    return [qos(latched=True, depth=1)] if connection.ext.latching else []
