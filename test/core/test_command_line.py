# SPDX-License-Identifier: Apache-2.0
"""What `video_depth` says to arguments that cannot be."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from video_depth_ros.cli import (
    benchmark,
    benchmark_alignment,
    evaluate,
    import_,
    reprocess,
    simulate,
)
from video_depth_ros.cli.main import main
from video_depth_ros.cli.progress import UNKNOWN, progress_bar
from video_depth_ros.cli.termination import Terminated, unwinding_on_sigterm
from video_depth_ros.errors import ConfigError
from video_depth_ros.evaluation import metric_study_sigma, runner
from video_depth_ros.evaluation.metric_study_results import DriveResult
from video_depth_ros.evaluation.metric_study_run import MetricStudy, Outcome

NODE_FILE = Path(__file__).resolve().parents[2] / "config" / "depth.yaml"


# The command as it is, and a word whenever a message is in the bag.
TELLING = """
import sys
from video_depth_ros.bags.writer import BagWriter
from video_depth_ros.cli.main import main
from video_depth_ros.cli.progress import UNKNOWN, progress_bar

write = BagWriter.write

def telling(*arguments):
    write(*arguments)
    print("written", flush=True)

BagWriter.write = telling
sys.exit(main(sys.argv[1:]))
"""


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one clear line that a command ends with."""
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_evaluate_takes_the_nodes_parameter_file(tmp_path, monkeypatch):
    path = tmp_path / "depth.yaml"
    path.write_text(NODE_FILE.read_text().replace("max_gap: 0.5", "max_gap: 0.75"))
    taken = []
    monkeypatch.setattr(evaluate, "_videos", lambda *_: iter(()))
    monkeypatch.setattr(runner, "EvaluationOptions", lambda config, *_, **__: taken.append(config))
    assert main(["evaluate", "--dataset", "simulated", "--config", str(path)]) == 2  # no videos
    assert taken[0].stream.max_gap == 0.75


def test_a_value_that_is_no_yaml_is_one_line(tmp_path, capsys):
    words = ["reprocess", str(tmp_path / "in.mcap"), str(tmp_path / "out.mcap")]
    said = refused([*words, "--set", "stream.max_gap=["], capsys)
    assert "'stream.max_gap=[': expected YAML" in said


def test_train_names_a_config_that_is_no_text(tmp_path, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"\xff\xfe\x00")
    for path in (bad, tmp_path):
        said = refused(["train", "--out", str(tmp_path / "r"), "--config", str(path)], capsys)
        assert f"cannot read parameters from {path}" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pushes", "0"], "--pushes: expected 1 or more, got 0"),
        (["--threads", "-1"], "--threads: expected 0 or more, got -1"),
        (["--alignment", "--frames", "0"], "--frames: expected 1 or more, got 0"),
        (["--json", "{folder}"], "is a folder"),
        (["--metric", "simulated", "--plot", "{folder}"], "is a folder"),
        (["--stability", "--profiles", "{file}"], "is no folder"),
        (["--metric", "still", "--mounting-error", "1", "2", "3"], "with --metric simulated"),
    ],
)
def test_benchmark_refuses_before_it_measures(words, message, tmp_path, monkeypatch, capsys):
    def measured(*_: object) -> None:
        raise AssertionError

    for name in ("_regressor_rows", "_load"):
        monkeypatch.setattr(benchmark, name, measured)
    monkeypatch.setattr(benchmark_alignment, "run", measured)
    monkeypatch.setattr(MetricStudy, "run", measured)
    (tmp_path / "file").write_text("")
    places = {"folder": tmp_path, "file": tmp_path / "file"}
    assert message in refused(["benchmark", *(word.format(**places) for word in words)], capsys)


def test_figures_are_kept_when_their_picture_fails(tmp_path, monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise ConfigError("no picture")

    result = DriveResult("room 1", "imu", True)
    result.sigma.add(np.ones(1), np.ones(1))
    monkeypatch.setattr(metric_study_sigma, "plot", fail)
    monkeypatch.setattr(MetricStudy, "run", lambda _: Outcome("none", [], {"imu": [result]}))
    out = tmp_path / "figures.json"
    words = ["--metric", "still", "--json", str(out), "--plot", str(tmp_path / "curve.png")]
    assert "no picture" in refused(["benchmark", *words], capsys)
    assert json.loads(out.read_text())["setting"] == "none"


def test_tables_are_whole_where_there_is_no_width(capsys):
    words = {name: f"{name}_in_words" for name in ("regressor", "size", "mode", "decode", "dtype")}
    stages = {"encode": 1.0011, "transformer": 2.0022, "decode": 3.0033}
    figures = {"window": 9, "push": 6.0066, "fps": 12.25, "ratio": 3.5, "memory": 375 * 2**20}
    benchmark._print_table([{**words, **figures, "stages": stages}], "machine")
    said = capsys.readouterr().out
    for cell in (*words.values(), "6006.6", "1001.1", "2002.2", "3003.3", "12.2", "3.5x", "375"):
        assert f" {cell} " in said
    name = "a way of many words " * 5
    benchmark._print_fidelity([{"name": name, "push": 1.0, "error": 0.5, "worst": 0.7}], "machine")
    assert f" {name.strip()} " in capsys.readouterr().out


def test_evaluate_refuses_a_folder_in_the_place_of_a_file(tmp_path, capsys):
    words = ["evaluate", "--dataset", "simulated"]
    for option in ("--json", "--report"):
        assert "is a folder" in refused([*words, option, str(tmp_path)], capsys)


def test_sigterm_leaves_nothing_behind(tmp_path):
    words = ["simulate", str(tmp_path / "out.mcap"), "--size", "64x48", "--seconds", "600"]
    process = subprocess.Popen(
        [sys.executable, "-c", TELLING, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(120.0, process.kill)
    guard.start()
    try:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        assert any(tmp_path.glob(".out.*.partial/*/*"))
        process.terminate()
        _, said = process.communicate(timeout=120)
    finally:
        guard.cancel()
        process.kill()
    assert process.returncode == 143, said
    assert said.splitlines()[-1] == "video_depth simulate: stopped"
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [simulate, import_, reprocess])
def test_sigterm_unwinds_the_commands_that_write_bags(command):
    """The command's first use of its arguments is as far as it comes."""

    def before(*_: object) -> None:  # instead of the default, which would end the tests
        raise AssertionError

    original = signal.signal(signal.SIGTERM, before)

    class Arguments:
        def __getattr__(self, name: str) -> None:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("SIGTERM did not unwind")

    try:
        with pytest.raises(Terminated):
            command.run(Arguments())
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, original)


def test_another_thread_takes_no_signals():
    worker = ThreadPoolExecutor(1)
    before = signal.getsignal(signal.SIGTERM)

    def handler_inside() -> object:
        with unwinding_on_sigterm():
            return signal.getsignal(signal.SIGTERM)

    assert worker.submit(handler_inside).result() is before


def test_examples_need_no_folder_that_is_not_there():
    """A bag is written beside what is there; the commands make no folders above it."""
    outputs = re.findall(r"video_depth simulate (\S+)", simulate.EXAMPLES)
    assert len(outputs) > 3
    assert {str(Path(output).parent) for output in outputs} == {"."}


def test_average_names_a_file_that_is_no_run(tmp_path, capsys):
    zipped = tmp_path / "object.pt"
    torch.save({"path": Path("x")}, zipped)
    bag, text = tmp_path / "street.mcap", tmp_path / "text.pt"
    bag.write_bytes(b"\x89MCAP0\r\n" + bytes(64))
    text.write_text("hello")
    for path in (zipped, bag, text):
        words = ["average", str(path), "--export", str(tmp_path / "x.safetensors")]
        said = refused([*words, "--window", "3"], capsys)
        assert f"expected a training checkpoint at {path}" in said
        assert "another kind of file" in said and "weights_only" not in said


def test_a_progress_bar_counts_with_and_without_a_known_end():
    console = Console(width=100, force_terminal=True, color_system=None, record=True)
    with progress_bar(console, noted=True, transient=False) as progress:
        known = progress.add_task("frames", total=120, note="fast")
        progress.update(known, completed=7)
        unknown = progress.add_task("messages", total=UNKNOWN, note="")
        progress.update(unknown, completed=9)
        progress.refresh()
        early = console.export_text()
        progress.update(unknown, completed=9, total=30)
    assert re.search(r"frames .*   7/120 .*fast", early) and re.search(r"messages .*9/\? ", early)
    assert re.search(r"messages .* 9/30 ", console.export_text())
