# SPDX-License-Identifier: Apache-2.0
"""The depth node in a process of its own, driven through its lifecycle services.

Used by the demo and by the tests: both talk to the node as any other ROS program would.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from video_depth_ros.errors import VideoDepthError

TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


# Seconds after which a question that may be asked twice is asked again. Fast DDS drops an answer
# when the node has not discovered the asking client's reader, about which the client cannot know.
ASK_AGAIN = 2.0
# A label no lifecycle has: the node answers "no success" and does nothing.
_NO_TRANSITION = ChangeState.Request(transition=Transition(label="no such transition"))


class NodeProcessError(VideoDepthError, RuntimeError):
    """The node did not start, answer or change state; the message ends with its last output."""


class Question:
    """A request to a service, sent again for as long as nothing has answered it.

    Args:
        service: the client that asks; somebody else spins its node.
        request: what to ask.
        again: seconds after which it is asked again; ``math.inf`` for what must not arrive twice.
    """

    def __init__(self, service: Client, request: Any, again: float = ASK_AGAIN) -> None:
        self._service, self._request, self._again = service, request, again
        self._futures: list[Any] = []
        self._sent = -math.inf

    def answered(self) -> bool:
        """Whether an answer has come; asks, and asks again, when it is time to."""
        if any(future.done() for future in self._futures):
            return True
        if not self._futures or time.monotonic() - self._sent >= self._again:
            self._futures.append(self._service.call_async(self._request))
            self._sent = time.monotonic()
        return False

    def answer(self) -> Any:
        """What came, once :meth:`answered`; answers still to come are no longer waited for."""
        for future in self._futures:
            if not future.done():
                self._service.remove_pending_request(future)
        return next(future.result() for future in self._futures if future.done())


class NodeProcess:
    """``depth_node`` as a child process.

    Args:
        client: a node of the calling process, through which services are called. The caller
            must not spin it elsewhere while a call is under way.
        parameters: dotted names and values, written to a parameter file.
        remaps: topic remaps, ``{"image": "/camera/image_raw"}``.
        name: node name.
    """

    def __init__(
        self,
        client: Node,
        parameters: Mapping[str, Any],
        remaps: Mapping[str, str] | None = None,
        name: str = "depth_node",
    ) -> None:
        self._client = client
        self.name = name
        self._files = tempfile.TemporaryDirectory(prefix="video_depth_")
        folder = Path(self._files.name)
        file = folder / "parameters.yaml"
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in parameters.items()}
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        arguments = ["--ros-args", "-r", f"__node:={name}", "--params-file", str(file)]
        for before, after in (remaps or {}).items():
            arguments += ["-r", f"{before}:={after}"]
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "video_depth_ros.ros.node", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        # an executor of its own: the client may live in any rclpy context
        self._executor = SingleThreadedExecutor(context=client.context)
        self._executor.add_node(client)
        self._change = client.create_client(ChangeState, f"/{name}/change_state")
        self._state = client.create_client(GetState, f"/{name}/get_state")

    def output(self) -> str:
        """Everything the node printed so far."""
        return self._log.read_text(errors="replace")

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Until the lifecycle services answer, so that no later answer is lost.

        Raises:
            NodeProcessError: the process ended, or nothing answered in time.
        """
        for service, question in (
            (self._state, GetState.Request()),
            (self._change, _NO_TRANSITION),
        ):
            self.wait_until(service.service_is_ready, timeout, "offered its services")
            self.ask(service, question, timeout)

    def state(self, timeout: float = 30.0) -> str:
        """Label of the current primary state (``unconfigured``, ``inactive``, ``active`` ...)."""
        return str(self.ask(self._state, GetState.Request(), timeout).current_state.label)

    def transition(self, label: str, timeout: float = 120.0) -> bool:
        """Ask for one transition (configure, activate, deactivate, cleanup, shutdown).

        Returns:
            Whether the node reported success.
        """
        # the identifier of a shutdown depends on the state, its label does not
        wanted = (
            Transition(id=TRANSITIONS[label]) if label != "shutdown" else Transition(label=label)
        )
        request = ChangeState.Request(transition=wanted)
        return bool(self.ask(self._change, request, timeout, again=math.inf).success)

    def require(self, *labels: str) -> None:
        """Transitions that must succeed, in order.

        Raises:
            NodeProcessError: one of them failed.
        """
        for label in labels:
            if not self.transition(label):
                raise NodeProcessError(f"the node refused to {label}\n{self._tail()}")

    def close(self, timeout: float = 20.0) -> int:
        """Interrupt the node as Ctrl-C would and return its exit status; kills it if it hangs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        for client in (self._change, self._state):
            self._client.destroy_client(client)
        self._executor.shutdown()
        self.final_output = self.output()
        self._files.cleanup()
        return status

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(FileNotFoundError):  # closed already inside the block
            self.close()

    def ask(self, service: Client, request: Any, timeout: float, again: float = ASK_AGAIN) -> Any:
        """The answer of one of the node's services.

        Args:
            service: a client made on the node given to the constructor.
            request: what to ask.
            timeout: seconds to wait for the answer.
            again: seconds after which an unanswered request is sent again; ``math.inf`` for
                what must not arrive twice.

        Raises:
            NodeProcessError: the process ended, or nothing answered in time.
        """
        question = Question(service, request, again)
        self.wait_until(question.answered, timeout, f"answered {service.srv_name}")
        return question.answer()

    def wait_until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Spin the client until ``done()``; an error says the node has not ``what``."""
        deadline = time.monotonic() + timeout
        while not done():
            status = self.process.poll()
            if status is not None:
                raise NodeProcessError(f"the node ended with status {status}\n{self._tail()}")
            if time.monotonic() > deadline:
                raise NodeProcessError(
                    f"the node has not {what} after {timeout:g} s\n{self._tail()}"
                )
            self._executor.spin_once(timeout_sec=0.05)

    def _tail(self) -> str:
        lines: Sequence[str] = self.output().splitlines()
        return "\n".join(lines[-15:])
