# SPDX-License-Identifier: Apache-2.0
"""The files of a recording, read as one; a definition that cannot be read costs its type alone.

``rosbags.highlevel.AnyReader`` refuses the whole recording for one such definition. Sound
recordings have them: rosbag2 writes events of services with a definition that has no grammar
(ros2/rosbag2 issue 2365), and some recorders of ROS 1 leave definitions empty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from functools import cache
from heapq import merge
from pathlib import Path
from typing import Any

from rosbags.interfaces import (
    Connection,
    MessageDefinition,
    MessageDefinitionFormat,
    Nodetype,
)
from rosbags.interfaces.typing import Typesdict
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

_ANY = "*"  # ROS 1's word for a hash that nobody checks
_IDL_PART = "=" * 80 + "\n"


def full_name(msgtype: str) -> str:
    """``package/msg/Name``; recorders that are not ROS's own also write ``package/Name``."""
    package, _, name = msgtype.partition("/")
    return msgtype if "/" in name else f"{package}/msg/{name}"


class BagFiles:
    """Open files of one recording.

    Attributes:
        paths: the files, or the folder.
        is2: whether ROS 2 recorded it.
        connections: of all files.
        typestore: the definitions that stand in the recording, or those of Humble where none does.
        faults: by type, why its definition cannot be read.

    Raises:
        Exception: whatever rosbags raises for files that are missing or damaged.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.is2 = any(path.suffix != ".bag" for path in paths)
        self.faults: dict[str, str] = {}
        reader = Reader2 if self.is2 else Reader1
        self._readers = [reader(path) for path in paths]
        with ExitStack() as stack:
            for opened in self._readers:
                stack.enter_context(opened)
            self.connections: list[Connection] = [
                connection for opened in self._readers for connection in opened.connections
            ]
            self.typestore = self._types()
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Release the files."""
        self._stack.close()

    @property
    def start_time(self) -> int:
        """When the first message was received [ns]."""
        return min(int(reader.start_time) for reader in self._readers)

    @property
    def end_time(self) -> int:
        """When the last one was, and one [ns]."""
        return max(int(reader.end_time) for reader in self._readers)

    def messages(
        self, connections: Collection[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Messages in the order of their reception: connection, time [ns], bytes as recorded."""
        wanted = {id(connection) for connection in connections}
        streams = []
        for reader in self._readers:
            own = [connection for connection in reader.connections if id(connection) in wanted]
            if own:
                streams.append(reader.messages(connections=own))
        yield from merge(*streams, key=lambda message: message[1])

    def _types(self) -> Typestore:
        """The types that are defined; what is wrong with others is noted.

        Every definition is read by itself: a wrong one of a type that another connection defines
        well, or of a type within, must cost neither.
        """
        stated = [c for c in self.connections if c.msgdef.format != MessageDefinitionFormat.NONE]
        store = get_typestore(Stores.EMPTY)
        if not stated:
            store.register(get_typestore(Stores.ROS2_HUMBLE).fielddefs)
            return store
        sound: list[tuple[str, Typesdict]] = []
        for connection in stated:
            kind = full_name(connection.msgtype)
            try:
                sound.append((kind, self._sound_types(connection, kind)))
            except Exception as error:  # parsers fail in ways of their own
                self.faults[kind] = _reason(error)
        # what stands within standard types goes before what stands within a user's own
        sound.sort(key=lambda item: item[0] not in _standard_store().fielddefs)
        defined: Typesdict = {}
        for kind, types in sound:
            defined.setdefault(kind, types[kind])
        for _, types in sound:
            defined.update({name: types[name] for name in types if name not in defined})
        store.register(defined)
        for kind in {kind for kind, _ in sound}:
            self.faults.pop(kind, None)
            try:
                self._check_complete(store, kind)
            except Exception as error:
                self.faults[kind] = _reason(error)
        for kind, types in sound:
            if any(defined[name] != types[name] for name in types):
                self.faults[kind] = "the recording defines it, or a type within, in two ways"
        return store

    def _sound_types(self, connection: Connection, kind: str) -> Typesdict:
        """What a connection's definition defines, if it is the one that its messages follow."""
        types = _parsed(connection.msgdef, kind)
        if kind not in types:
            raise ValueError("it defines another type")
        alone = get_typestore(Stores.EMPTY)
        alone.register(types)
        if connection.digest not in ("", _ANY):
            held = alone.hash_rihs01(kind) if self.is2 else alone.generate_msgdef(kind)[1]
            if held != connection.digest:
                raise ValueError(f"it does not belong to its hash {connection.digest}")
        return types

    def _check_complete(self, store: Typestore, kind: str) -> None:
        """Raise where a type within is not defined, or a standard type lacks a field."""
        store.generate_msgdef(kind, ros_version=2 if self.is2 else 1)
        if self.is2:
            _require_standard_fields(store, kind)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _parsed(definition: MessageDefinition, kind: str) -> Typesdict:
    """The types that a definition defines; parsers raise errors of many kinds."""
    if definition.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(definition.data, kind)
    if not definition.data.startswith(f"{_IDL_PART}IDL: "):
        return get_types_from_idl(definition.data)
    types: Typesdict = {}
    for part in definition.data.split(_IDL_PART)[1:]:
        types.update(get_types_from_idl(part.partition("\n")[2]))  # without its line IDL: NAME
    return types


def _require_standard_fields(store: Typestore, kind: str) -> None:
    """A damaged definition can still be parsed, with fields that nobody can find by name.

    The standard is Humble's, the oldest supported: later distributions only added fields.

    Raises:
        ValueError: a field of the standard type is missing, here or in a type within.
    """
    standard = _standard_store().fielddefs
    if kind not in standard:
        return  # of the user's own: nothing to compare with
    held = dict(store.fielddefs[kind][1])
    for name, field in standard[kind][1]:
        within = _message_within(field)
        if name not in held or _message_within(held[name]) != within:
            raise ValueError(f"{kind} lacks the standard field {name!r}")
        if within is not None:
            _require_standard_fields(store, within)


def _message_within(field: Any) -> str | None:
    """The message type of a field, or of the elements of an array; None for plain values."""
    node, inner = field
    if node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        node, inner = inner[0]
    return str(inner) if node is Nodetype.NAME else None


@cache
def _standard_store() -> Typestore:
    return get_typestore(Stores.ROS2_HUMBLE)
