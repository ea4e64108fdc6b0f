# SPDX-License-Identifier: Apache-2.0
"""The files of a recording, read as one; a definition that cannot be read costs its type alone.

``rosbags.highlevel.AnyReader`` refuses the whole recording for one such definition. Sound
recordings have them: rosbag2 writes events of services with a definition that has no grammar
(ros2/rosbag2 issue 2365), and some recorders of ROS 1 leave definitions empty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from heapq import merge
from pathlib import Path

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat
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
        well, or within another type, must cost neither.
        """
        own: Typesdict = {}  # types that a connection has
        within: Typesdict = {}  # types that are fields of these
        stated = [c for c in self.connections if c.msgdef.format != MessageDefinitionFormat.NONE]
        differing = set()
        for connection in stated:
            kind = full_name(connection.msgtype)
            try:
                types = self._sound_types(connection, kind)
            except Exception as error:  # parsers fail in ways of their own
                self.faults[kind] = " ".join(str(error).split()) or type(error).__name__
                continue
            if own.setdefault(kind, types[kind]) != types[kind]:
                differing.add(kind)
            within.update({name: types[name] for name in types if name not in within})
        for kind in own:
            self.faults.pop(kind, None)
        for kind in differing:
            self.faults[kind] = "the recording has two that differ"
        if not stated:
            own.update(get_typestore(Stores.ROS2_HUMBLE).fielddefs)
        store = get_typestore(Stores.EMPTY)
        store.register({**within, **own})
        return store

    def _sound_types(self, connection: Connection, kind: str) -> Typesdict:
        """What a connection's definition defines, if it is the one that its messages follow."""
        types = _parsed(connection.msgdef, kind)
        alone = get_typestore(Stores.EMPTY)
        alone.register(types)
        if connection.digest not in ("", _ANY):
            held = alone.hash_rihs01(kind) if self.is2 else alone.generate_msgdef(kind)[1]
            if held != connection.digest:
                raise ValueError(f"it does not belong to its hash {connection.digest}")
        if kind not in types:
            raise ValueError("it defines another type")
        return types


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
