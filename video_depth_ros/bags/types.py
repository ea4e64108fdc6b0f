# SPDX-License-Identifier: Apache-2.0
"""Message types of a recording, whatever it was recorded with, as ROS 2 types.

ROS 2 messages pass through byte for byte. ROS 1 messages are rewritten as CDR: directly where
only the header's ``seq`` differs, field by field where names changed (``CameraInfo.D`` -> ``d``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rosbags.convert.converter import STATIC_MSGTYPE_RENAMES, is_same_wireformat, migrate_message
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from video_depth_ros.bags.bag_files import BagFiles, full_name
from video_depth_ros.errors import RecordingError


class MessageTypes:
    """Decoding, conversion and definitions of the messages of one open recording."""

    def __init__(self, files: BagFiles) -> None:
        self._files = files
        self._is_ros2 = files.is2
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._converters: dict[str, Callable[[bytes], bytes]] = {}

    def kind(self, connection: Connection) -> str:
        """The ROS 2 name of a connection's type."""
        name = full_name(connection.msgtype)
        return STATIC_MSGTYPE_RENAMES.get(name, name)

    def to_ros2(self, connection: Connection, data: bytes) -> bytes:
        """CDR bytes of a message; the very same bytes when it was recorded by ROS 2."""
        if self._is_ros2:
            return data
        if connection.msgtype not in self._converters:
            self._converters[connection.msgtype] = self._ros1_converter(connection.msgtype)
        return self._converters[connection.msgtype](data)

    def decode(self, kind: str, data: bytes) -> Any:
        """The message object of CDR bytes.

        Raises:
            RecordingError: the recording holds no definition of this type, or one that cannot be
                read.
        """
        if self._is_ros2 and kind in self._files.faults:
            raise RecordingError(
                f"{self._files.paths[0]}: the recording's definition of {kind} cannot be read: "
                f"{self._files.faults[kind]}"
            )
        store = self._store_of(kind)
        if kind not in store.fielddefs:
            raise RecordingError(
                f"{self._files.paths[0]}: expected a definition of {kind} in the recording, "
                "there is none, and it is no standard type; record it with a newer rosbag2 "
                "(Iron or later), which writes definitions"
            )
        return store.deserialize_cdr(data, kind)

    def definition(self, connection: Connection) -> tuple[str, str]:
        """Definition text and RIHS01 hash with which another bag can hold this topic."""
        stated, kind = connection.msgdef, self.kind(connection)
        if self._is_ros2 and stated.format is not MessageDefinitionFormat.NONE:
            own = self._files.typestore
            if connection.digest:
                return stated.data, connection.digest
            if kind in own.fielddefs and kind not in self._files.faults:
                return stated.data, own.hash_rihs01(kind)
            return stated.data, _some_digest(kind)
        if not self._is_ros2:
            self.to_ros2_ready(connection)
        store = self._store_of(kind)
        if kind in store.fielddefs:
            return store.generate_msgdef(kind, ros_version=2)[0], store.hash_rihs01(kind)
        # A type of the user's own, recorded without its definition (before Iron): the bytes are
        # kept, and whoever has the type installed can read them.
        return "", connection.digest or _some_digest(kind)

    def to_ros2_ready(self, connection: Connection) -> None:
        """Prepare the conversion of a ROS 1 connection, which registers its ROS 2 type."""
        if connection.msgtype not in self._converters:
            self._converters[connection.msgtype] = self._ros1_converter(connection.msgtype)

    def _store_of(self, kind: str) -> Typestore:
        """The recording's own definitions first: they are what its bytes follow."""
        own = self._files.typestore
        return own if self._is_ros2 and kind in own.fielddefs else self._store

    def _ros1_converter(self, msgtype: str) -> Callable[[bytes], bytes]:
        source, target = self._files.typestore, self._store
        kind = STATIC_MSGTYPE_RENAMES.get(msgtype, msgtype)
        if kind not in target.fielddefs:
            text, _ = source.generate_msgdef(msgtype, ros_version=2)
            types = get_types_from_msg(text, kind)
            # those that ROS 2 has keep ROS 2's definition
            target.register({k: v for k, v in types.items() if k not in target.fielddefs})
        if kind == msgtype and is_same_wireformat(source, target, msgtype, kind):
            return lambda data: bytes(target.ros1_to_cdr(data, kind))
        cache: dict[str, object] = {}

        def migrate(data: bytes) -> bytes:
            old = source.deserialize_ros1(data, msgtype)
            new = migrate_message(source, target, msgtype, kind, cache, old)
            return bytes(target.serialize_cdr(new, kind))

        return migrate


def _some_digest(kind: str) -> str:
    """A hash where the true one is not known: that of the type without fields."""
    store = get_typestore(Stores.EMPTY)
    types = get_types_from_msg("", kind)
    store.register(types)
    return store.hash_rihs01(next(iter(types)))  # rosbags changes the names of service types
