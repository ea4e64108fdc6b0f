# SPDX-License-Identifier: Apache-2.0
"""Reading recordings: ROS 1 bags, rosbag2 in sqlite3 or mcap, as folders or lone files.

Messages come in the order in which they were received, as ROS 2 types, one at a time: memory
does not grow with the length of the recording.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from rosbags.interfaces import Connection

from video_depth_ros.bags.bag_files import BagFiles, full_name
from video_depth_ros.bags.types import MessageTypes
from video_depth_ros.errors import RecordingError, VideoDepthError

_SUFFIXES = (".mcap", ".db3", ".bag")
_ZSTD = b"\x28\xb5\x2f\xfd"  # first bytes of a compressed message; CDR begins with a zero


@dataclass(frozen=True)
class Topic:
    """One topic of a recording.

    Attributes:
        name: as recorded.
        kind: ROS 2 type, ``package/msg/Name``.
        count: number of messages.
    """

    name: str
    kind: str
    count: int


@dataclass(frozen=True)
class Received:
    """One message as it lies in the recording.

    Attributes:
        topic, kind: where it came from and its ROS 2 type.
        time_ns: when it was received (not its header stamp).
        data: CDR bytes; for ROS 2 recordings the very bytes that were recorded.
    """

    topic: str
    kind: str
    time_ns: int
    data: bytes


class Recording:
    """An open recording; use it as a context manager.

    Attributes:
        path: as given.
        topics: by name.
        unreadable: topics whose definition cannot be read, and why; they can be copied and play no
            part.
        left_out: those of ROS 1, whose messages cannot be turned into ROS 2's; they are not among
            ``topics``.

    Raises:
        RecordingError: missing, unreadable or damaged, with the reason.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.topics: dict[str, Topic] = {}
        self.unreadable: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self._connections: dict[str, list[Connection]] = {}
        with self._named_failure():
            self._reader = BagFiles(_files(self.path))
        self._open = True
        self._types = MessageTypes(self._reader)
        try:
            with self._named_failure():
                self._list_topics()
        except RecordingError:
            self.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the files; may be called twice."""
        if self._open:
            self._open = False
            self._reader.close()

    @property
    def message_count(self) -> int:
        """Messages of all topics."""
        return sum(topic.count for topic in self.topics.values())

    @property
    def start_ns(self) -> int:
        """When the first message was received; 0 for an empty recording."""
        return self._reader.start_time if self.message_count else 0

    @property
    def end_ns(self) -> int:
        """When the last message was received; 0 for an empty recording."""
        return self._reader.end_time - 1 if self.message_count else 0

    def of_kind(self, *kinds: str) -> list[str]:
        """Names of the topics of these types that hold any message and can be read, sorted."""
        return [
            topic.name
            for topic in self.topics.values()
            if topic.kind in kinds and topic.count and topic.name not in self.unreadable
        ]

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Received]:
        """Messages in the order of their reception, of all topics or of those named.

        Raises:
            RecordingError: a topic that is not there, or damaged data on the way.
        """
        connections = self._select(topics)
        if not connections:
            return
        found = False
        with self._named_failure():
            for connection, time_ns, raw in self._reader.messages(connections):
                found = True
                if self._reader.is2 and raw[:4] == _ZSTD:
                    raise RecordingError(
                        f"{self.path}: the messages of {connection.topic} are compressed, which "
                        "metadata.yaml has to say; give the folder with the metadata.yaml of its "
                        "recorder (`ros2 bag reindex` does not know of compression)"
                    )
                data = self._types.to_ros2(connection, raw)
                yield Received(connection.topic, self._types.kind(connection), time_ns, data)
        if not found and (stated := sum(connection.msgcount for connection in connections)):
            raise RecordingError(
                f"{self.path}: {stated} messages are stated and none is found; metadata.yaml does "
                "not describe the files beside it. Write it anew by `ros2 bag reindex`"
            )

    def first(self, topic: str) -> Any:
        """The first message of a topic, decoded; None when the topic is empty."""
        for received in self.messages([topic]):
            return self.decode(received)
        return None

    def decode(self, received: Received) -> Any:
        """The message object: the attributes of its ROS 2 type, arrays as numpy views.

        Raises:
            RecordingError: the bytes do not hold a message of that type.
        """
        with self._named_failure():
            return self._types.decode(received.kind, received.data)

    def connections(self) -> list[Connection]:
        """The connections as ``rosbags`` gives them, for copying a topic's description."""
        return [c for group in self._connections.values() for c in group]

    def kind(self, connection: Connection) -> str:
        """ROS 2 type of a connection."""
        return self._types.kind(connection)

    def require(self, topic: str, *kinds: str) -> None:
        """Check that a topic is there, of one of these types, and holds any message.

        Raises:
            RecordingError: saying what fits.
        """
        held = self.topics.get(topic)
        if held is None:
            came = "is not there"
        elif held.kind not in kinds:
            came = f"is {held.kind}"
        elif topic in self.unreadable:
            came = f"cannot be read: {self.unreadable[topic]}"
        elif not held.count:
            came = "holds no message"
        else:
            return
        fitting = ", ".join(self.of_kind(*kinds)) or "none"
        raise RecordingError(f"{self.path}: {topic} {came}; topics that fit: {fitting}")

    def definition(self, connection: Connection) -> tuple[str, str]:
        """Message definition (ROS 2) and its hash, for copying a topic."""
        with self._named_failure():
            return self._types.definition(connection)

    def _list_topics(self) -> None:
        for connection in self._reader.connections:
            fault = self._reader.faults.get(full_name(connection.msgtype))
            if fault is not None:
                why = f"its definition of {self._types.kind(connection)}: {fault}"
                self.unreadable[connection.topic] = why
                if not self._reader.is2:
                    self.left_out[connection.topic] = why
                    continue
            self._connections.setdefault(connection.topic, []).append(connection)
        for name, connections in sorted(self._connections.items()):
            count = sum(c.msgcount for c in connections)
            self.topics[name] = Topic(name, self._types.kind(connections[0]), count)

    def _select(self, topics: Collection[str] | None) -> list[Connection]:
        if topics is None:
            return self.connections()
        missing = sorted(set(topics) - set(self.topics))
        if missing:
            held = ", ".join(self.topics) or "none"
            raise RecordingError(
                f"{self.path} has no topic {', '.join(missing)}; its topics are {held}"
            )
        return [c for name in topics for c in self._connections[name]]

    @contextmanager
    def _named_failure(self) -> Iterator[None]:
        """Damaged files make parsers fail in ways of their own; name them all alike."""
        try:
            yield
        except VideoDepthError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RecordingError(f"cannot read {self.path}: {_hint(reason)}") from error


def _hint(reason: str) -> str:
    """What rosbags says, and what to do about it."""
    if "Profile is not" in reason:
        return "this mcap file was not recorded by ROS 2, but by another program"
    if "File magic is invalid" in reason:
        return "it is no bag, whatever its name says"
    if "files are missing" in reason:
        return f"{reason}; put them beside metadata.yaml, or let `ros2 bag reindex` write it anew"
    return (
        f"{reason}; is it a complete ROS bag? An interrupted recording is mended by "
        "`mcap recover` or `ros2 bag convert` (.mcap), `ros2 bag reindex` (.db3) or `rosbag "
        "reindex` (.bag)"
    )


def _files(path: Path) -> list[Path]:
    """What to hand to the reader: the path itself, or the files of a folder.

    Raises:
        RecordingError: nothing there, nothing that is a bag, or one that is not complete.
    """
    if not path.exists():
        raise RecordingError(f"{path} does not exist; give the path of a bag file or folder")
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise RecordingError(
                f"{path} is not a bag: expected .mcap, .db3, .bag or a folder; videos and image "
                "folders become one with `video_depth import`"
            )
        return _complete([path])
    if (path / "metadata.yaml").exists():
        return _complete(_listed(path)) or [path]
    # a recording that was interrupted has no metadata yet
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if len({file.suffix for file in found}) > 1:
        names = ", ".join(file.name for file in found)
        raise RecordingError(
            f"{path} holds {names} and no metadata.yaml that says which are one recording; give "
            "one of the files"
        )
    if found:
        return _complete(found)
    raise RecordingError(
        f"{path} holds neither metadata.yaml nor .mcap, .db3 or .bag files; other layouts become "
        "a bag with `video_depth import`"
    )


def _listed(folder: Path) -> list[Path]:
    """The files that metadata.yaml names, where they can be read by themselves, else none.

    They describe themselves. `ros2 bag reindex` writes other QoS profiles into metadata.yaml than
    stand in the files, after which rosbags finds no topic's messages by it.
    """
    try:
        stated = yaml.safe_load((folder / "metadata.yaml").read_text())
        stated = stated["rosbag2_bagfile_information"]
        if stated.get("compression_mode"):
            return []
        files = [folder / Path(name).name for name in stated["relative_file_paths"]]
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []  # for rosbags to say what is wrong with it
    return files if all(f.is_file() and f.suffix in _SUFFIXES for f in files) else []


def _complete(files: list[Path]) -> list[Path]:
    """The files, none of which has messages waiting in a write-ahead log beside it."""
    for file in files:
        log = Path(f"{file}-wal")
        if file.suffix == ".db3" and log.is_file() and log.stat().st_size:
            raise RecordingError(
                f"{log} holds messages that are not yet in {file.name}: its recorder was "
                "interrupted; take them over by "
                f'`sqlite3 {file} "pragma wal_checkpoint(truncate)"`'
            )
    return files
