# SPDX-License-Identifier: Apache-2.0
"""The worker's thread with a network that fails as told: what costs a frame, what costs a
measurement, and what ends the node."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sensor_msgs.msg import Image, Imu
from std_msgs.msg import Header

from video_depth_ros.bags.camera_source import CameraSource
from video_depth_ros.errors import RegressorError
from video_depth_ros.mounting import Transforms
from video_depth_ros.node_config import DepthNodeConfig, ExtrinsicsConfig
from video_depth_ros.pipeline import DepthPipeline
from video_depth_ros.ros import conversions
from video_depth_ros.ros.handover import Counters
from video_depth_ros.ros.worker import Worker, is_out_of_memory
from video_depth_ros.settings import replace_flat

from .robot import CAMERA
from .third_party.video_depth_brightness import BrightnessRegressor, BrightnessSession

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RegressorError("dvd: CUDA out of memory; choose a smaller regressor.height"),
]
OTHERS = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
    RegressorError("non-finite disparity"),
]


HERE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # a pose: at the camera


class Log:
    """Everything that is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.error = self.warning = self.info = self.lines.append


class Listeners:
    """Outputs that everybody subscribes to."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.frames: list[str] = []
        self.subscribed = True
        self.came = threading.Condition()
        self.fault: Exception | None = None

    def wanted(self) -> bool:
        return self.subscribed

    def metric_wanted(self) -> bool:
        return False

    def publish(self, estimate: Any, frame_id: str, config: Any) -> None:
        if self.fault is not None:
            raise self.fault
        with self.came:
            self.stamps.append(estimate.stamp_ns)
            self.frames.append(frame_id)
            self.came.notify()

    def wait_for(self, stamp_ns: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: stamp_ns in self.stamps, 30.0), self.stamps


class Counted(Counters):
    """Counts that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.more = threading.Condition()

    def add(self, name: str, number: int = 1) -> None:
        with self.more:
            super().add(name, number)
            self.more.notify_all()

    def wait_for(self, name: str, number: int) -> None:
        with self.more:
            reached = self.more.wait_for(lambda: self.snapshot().get(name, 0) >= number, 30.0)
        assert reached, self.snapshot()


class Network(BrightnessRegressor):
    """Raises what it is told to."""

    def __init__(self) -> None:
        super().__init__("")
        self.fault: Exception | None = None
        self.tried = threading.Semaphore(0)

    def open(self, height: int, width: int) -> BrightnessSession:
        session = super().open(height, width)
        preview = session.preview

        def failing(rgb: torch.Tensor, overlap: int) -> Any:
            if self.fault is not None:
                self.tried.release()
                raise self.fault
            return preview(rgb, overlap)

        session.preview = failing  # type: ignore[method-assign]
        return session


class Bench:
    """A worker, and everything it speaks to."""

    def __init__(self, extrinsics: ExtrinsicsConfig | None = None, latency: str = "frame") -> None:
        self.network, self.outputs, self.log = Network(), Listeners(), Log()
        self.counters = Counted()
        self.fatal: list[tuple[str, bool]] = []
        self.ended = threading.Event()
        self.alive = True
        config = replace_flat(DepthNodeConfig(), {"stream.latency": latency})
        self.worker = Worker(
            DepthPipeline(config, self.network),
            self.outputs,  # type: ignore[arg-type]
            Transforms(extrinsics or ExtrinsicsConfig(points=HERE, imu=HERE), None),
            CameraSource(),
            self.counters,
            self.log,
            lambda: config,
            self.fail,
            lambda: self.alive,
        )
        self.worker.open()
        decimator = self.worker.handover.decimator
        decimator.accept = lambda now: True  # type: ignore[method-assign]  # every image counts
        self.stamp_ns = 0

    def fail(self, reason: str, device_lost: bool) -> None:
        self.fatal.append((reason, device_lost))
        self.ended.set()

    def send(
        self, *measurements: tuple[str, Any], encoding: str = "mono8", frame: str = "camera"
    ) -> int:
        """Measurements and the image that they precede; its stamp."""
        self.stamp_ns += 100_000_000
        for kind, message in measurements:
            self.worker.handover.offer(kind, message)
        header = conversions.header_of(self.stamp_ns, frame)
        message = conversions.image_message(header, np.full((48, 64), 90, np.uint8), "mono8")
        message.encoding = encoding
        self.worker.handover.offer_frame(message, self.stamp_ns)
        return self.stamp_ns

    def count(self, name: str) -> int:
        return self.counters.snapshot().get(name, 0)


@pytest.fixture()
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert bench.worker.stop(30.0)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_want_of_memory_costs_frames_not_the_process(bench: Bench, error: Exception) -> None:
    assert is_out_of_memory(error)
    bench.network.fault = error
    for _ in range(3):
        bench.send()
        assert bench.network.tried.acquire(timeout=30.0)
    assert bench.ended.wait(30.0)
    assert bench.fatal == [(f"{type(error).__name__}: {error}", False)]
    assert bench.count("dropped.out_of_memory") == 3


def test_failures_that_come_back_in_every_fuller_window_end_it(bench: Bench) -> None:
    """After each the window is empty, and the next images go well."""
    for number in range(3):
        for _ in range(4):
            bench.outputs.wait_for(bench.send())
        assert not bench.fatal
        bench.network.fault = OUT_OF_MEMORY[0]
        bench.send()
        bench.counters.wait_for("dropped.out_of_memory", number + 1)
        bench.network.fault = None
    assert bench.ended.wait(30.0)


def test_failures_are_forgotten_after_two_whole_windows(bench: Bench) -> None:
    bench.network.fault = OUT_OF_MEMORY[0]
    bench.send()
    bench.counters.wait_for("dropped.out_of_memory", 1)
    bench.network.fault = None
    spec = bench.network.spec
    for number in range(2 * (spec.max_overlap + spec.group)):
        assert bench.worker._failures == 1, number
        bench.outputs.wait_for(bench.send())
    bench.outputs.wait_for(bench.send())  # the one before is done with
    assert bench.worker._failures == 0


def test_a_fault_in_publishing_ends_it_too(bench: Bench) -> None:
    bench.outputs.fault = TypeError("no such field")
    for number in range(3):
        bench.send()
        bench.counters.wait_for("dropped.internal", number + 1)
    assert bench.ended.wait(30.0)
    assert bench.fatal == [("TypeError: no such field", False)]


def test_a_worker_at_work_can_be_seen(bench: Bench) -> None:
    go_on = threading.Event()
    seen: list[float | None] = []

    def look() -> None:
        seen.append(bench.worker.busy_since)
        go_on.set()

    bench.worker.handover.command(look)
    bench.outputs.wait_for(bench.send())
    assert go_on.wait(30.0) and seen[0] is not None


def test_images_of_another_frame_start_anew_and_depth_keeps_its_own() -> None:
    bench = Bench(latency="group")
    group = bench.network.spec.group
    try:
        for number in range(1 + 2 * group + 2):  # two of the third group are cut off
            bench.counters.wait_for("used", number)
            bench.send(frame="front")
        for number in range(1 + group):
            bench.counters.wait_for("used", 3 + 2 * group + number)
            last = bench.send(frame="rear")
        bench.outputs.wait_for(last)
        by_stamp = dict(zip(bench.outputs.stamps, bench.outputs.frames, strict=True))
        assert all(
            frame == ("front" if stamp <= (3 + 2 * group) * 100_000_000 else "rear")
            for stamp, frame in by_stamp.items()
        )
        assert set(by_stamp.values()) == {"front", "rear"}
        assert bench.worker._pipeline.report(0).last_reset == "frame_id 'front' -> 'rear'"
    finally:
        assert bench.worker.stop(30.0)


def test_one_refused_image_of_a_thinned_stream_is_no_gap(bench: Bench) -> None:
    """Used images 1 s apart, as max_rate makes them; the camera itself has 10 Hz."""
    bench.outputs.wait_for(bench.send())
    for number in range(3):
        bench.stamp_ns += 900_000_000
        bench.worker.handover._newest_ns = bench.stamp_ns  # the camera's own images between
        if number == 1:
            bench.send(encoding="infrared")
            bench.counters.wait_for("dropped.encoding", 1)
        else:
            bench.outputs.wait_for(bench.send())
    assert bench.worker._pipeline.report(0).resets == 0


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_failures_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_lost_device_is_told_at_once(bench: Bench) -> None:
    bench.network.fault = OTHERS[0]
    bench.send()
    assert bench.ended.wait(30.0)
    assert bench.fatal[0][1] is True


@pytest.mark.parametrize("kind", ["points", "imu"])
def test_an_unforeseen_fault_of_a_measurement_costs_that_measurement_alone(
    bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise AttributeError("module 'numpy' has no attribute 'float'")

    bench.outputs.wait_for(bench.send())
    resets = bench.worker.status.report.resets
    monkeypatch.setattr(bench.worker._measurements._transforms, "camera_from", broken)
    message = cloud() if kind == "points" else Imu()
    for _ in range(5):
        bench.outputs.wait_for(bench.send((kind, message)))
    assert bench.count(f"dropped.{kind}_internal") == 5
    assert len(bench.outputs.stamps) == 6 and not bench.fatal
    assert bench.worker.status.report.resets == resets
    said = [line for line in bench.log.lines if f"{kind} dropped (internal)" in line]
    assert len(said) == 1 and "Traceback" in said[0] and "camera_from" in said[0]


@pytest.mark.parametrize("refused", [2, 10])
def test_a_hole_of_refused_images_is_a_gap_to_the_stream(bench: Bench, refused: int) -> None:
    """0.3 s of them are none, 1.1 s are, though the camera never paused."""
    for _ in range(2):
        bench.outputs.wait_for(bench.send())
    for number in range(refused):
        bench.send(encoding="infrared")
        bench.counters.wait_for("dropped.encoding", number + 1)
    bench.outputs.wait_for(bench.send())
    report = bench.worker._pipeline.report(0)
    expected = (0, "") if refused == 2 else (1, "no usable image for 1.1 s")
    assert (report.resets, report.last_reset) == expected


def test_scans_are_not_even_read_while_nobody_subscribes(bench: Bench) -> None:
    taken = bench.worker._pipeline._scaler._waiting
    bench.outputs.subscribed = False
    for number in range(5):
        bench.send(("points", cloud()))
        bench.counters.wait_for("unsubscribed", number + 1)
    assert len(taken) <= 1  # one came before it was known
    bench.outputs.subscribed = True
    bench.outputs.wait_for(bench.send(("points", cloud())))
    bench.outputs.wait_for(bench.send(("points", cloud())))
    assert bench.worker._pipeline.report(0).scale.sources["lidar"].received >= 1


def test_a_worker_that_stops_forgets_what_it_was_to_do() -> None:
    """A command holds worker, pipeline and network."""
    bench = Bench()
    bench.worker.reset("a last word")
    assert bench.worker.stop(30.0)
    assert not bench.worker.handover._commands


def test_what_fails_after_ros_has_ended_is_no_fault(bench: Bench) -> None:
    bench.outputs.wait_for(bench.send())
    bench.outputs.fault = RuntimeError("publisher's context is invalid")
    bench.alive = False
    bench.send()
    bench.worker._thread.join(30.0)
    assert not bench.worker._thread.is_alive()
    said = [line for line in bench.log.lines if "lost" in line]
    assert not said and not bench.fatal and not bench.count("dropped.internal")


def test_what_comes_before_the_first_image_is_no_fault() -> None:
    bench = Bench(ExtrinsicsConfig(imu=HERE))  # the LiDAR's place would come from TF
    try:
        for kind, message in [("points", cloud()), ("imu", Imu()), ("sparse_depth", Image())]:
            bench.worker.handover.offer(kind, message)
        gone = threading.Event()
        bench.worker.handover.command(gone.set)  # the measurements go along
        assert gone.wait(30.0)
        bench.outputs.wait_for(bench.send())
        assert bench.count("no_image_yet") == 2
        bench.outputs.wait_for(bench.send(("points", cloud())))
        assert bench.count("dropped.points_transform") == 1  # now it is one
        said = [line for line in bench.log.lines if "dropped" in line]
        assert len(said) == 1 and "to 'camera'" in said[0]
    finally:
        assert bench.worker.stop(30.0)


def cloud() -> Any:
    """One point."""
    pixel = np.zeros((1, 1, 3))
    return conversions.cloud_message(Header(frame_id="lidar"), pixel, pixel.astype(np.uint8))


def test_sparse_depth_of_another_camera_is_refused_by_name(bench: Bench) -> None:
    depth = np.full((48, 64), 2.0, np.float32)
    infos = conversions.camera_info_message(Header(frame_id="camera"), CAMERA)
    for frame in ("depth_camera", "camera", ""):
        message = conversions.depth_message(Header(frame_id=frame), depth, "32FC1")
        bench.outputs.wait_for(bench.send(("camera_info", infos), ("sparse_depth", message)))
    dropped = {k: n for k, n in bench.counters.snapshot().items() if k.startswith("dropped.")}
    assert dropped == {"dropped.sparse_depth_frame": 1}
    said = [line for line in bench.log.lines if "sparse_depth dropped" in line]
    assert "'depth_camera', the images have 'camera'" in said[0] and "registered" in said[0]
