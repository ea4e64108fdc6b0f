# SPDX-License-Identifier: Apache-2.0
"""Downloading from a hub that runs on this machine and speaks the hub's protocol."""

from __future__ import annotations

import argparse
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save_file

from video_depth_ros.cli import download as command
from video_depth_ros.cli import fold as fold_command
from video_depth_ros.errors import CheckpointError, ConfigError
from video_depth_ros.regressors.wan.download import PUBLIC_WEIGHTS, download

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = bytes(range(256)) * 98304  # 24 MiB: the library writes blocks of 10 MB


class Hub:
    """What the stand-in serves, and what it was asked for."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.announced = hashlib.sha256(CONTENT).hexdigest()
        self.break_after: int | None = None  # bytes until the connection drops, once
        self.withheld = 0  # bytes that are announced and not served
        self.requests: list[tuple[str, str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._head(200)

            def do_GET(self) -> None:
                start = self.headers.get("Range", "bytes=0-")[6:].split("-")[0]
                body = hub.content[int(start) : len(hub.content) - hub.withheld]
                self._head(206 if "Range" in self.headers else 200, len(body))
                if hub.break_after is not None:
                    body, hub.break_after = body[: hub.break_after], None
                    self.close_connection = True
                self.wfile.write(body)

            def _head(self, status: int, length: int | None = None) -> None:
                if "/resolve/" in self.path:  # the library also asks for other things
                    hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
                known = any(
                    self.path == f"/{w.repository}/resolve/main/{w.filename}"
                    or self.path == f"/{w.repository}/resolve/{COMMIT}/{w.filename}"
                    for w in PUBLIC_WEIGHTS.values()
                )
                self.send_response(status if known else 404)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hub.announced}"')
                size = len(hub.content) if length is None else length
                self.send_header("Content-Length", str(size if known else 0))
                if status == 206:
                    total = len(hub.content)
                    self.send_header("Content-Range", f"bytes {total - size}-{total - 1}/{total}")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


def test_file_arrives_whole_and_only_once(hub, tmp_path):
    path = download("dvd-1.1", tmp_path)
    assert path == tmp_path / "dvd_1.1.safetensors"
    assert path.read_bytes() == CONTENT
    fetched = [r for r in hub.requests if r[0] == "GET"]
    assert len(fetched) == 1
    assert download("dvd-1.1", tmp_path) == path  # already there and right
    assert [r for r in hub.requests if r[0] == "GET"] == fetched


def test_broken_download_goes_on(hub, tmp_path):
    hub.break_after = 16_000_000
    try:
        download("wan-vae", tmp_path)
    except CheckpointError as error:
        assert "run the command again" in str(error)
        assert not (tmp_path / "Wan2.1_VAE.pth").exists()
    assert download("wan-vae", tmp_path).read_bytes() == CONTENT
    ranges = [r[2] for r in hub.requests if r[0] == "GET"]
    assert len(ranges) == 2
    assert ranges[1].startswith("bytes=")
    assert 0 < int(ranges[1][6:].rstrip("-").split("-")[0]) <= 16_000_000


def test_wrong_content_is_deleted(hub, tmp_path):
    hub.content = CONTENT[:-1] + b"?"
    with pytest.raises(CheckpointError, match=r"expected SHA-256 .* damaged file is deleted"):
        download("dvd-1.0", tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    hub.content = CONTENT
    assert download("dvd-1.0", tmp_path).read_bytes() == CONTENT


def test_without_a_checksum_only_the_size_is_checked_and_said_so(hub, tmp_path, caplog):
    hub.announced = "d41d8cd98f00b204e9800998ecf8427e"  # a tag, no SHA-256

    def fetches() -> int:
        return len([r for r in hub.requests if r[0] == "GET"])

    path = download("dvd-1.1", tmp_path)
    assert path.read_bytes() == CONTENT
    assert re.search(r"no SHA-256 of dvd_1.1.safetensors .* size of 25165824 bytes", caplog.text)
    assert download("dvd-1.1", tmp_path) == path
    assert fetches() == 1
    hub.announced, hub.content = "another", CONTENT[::-1]  # of the same size
    assert download("dvd-1.1", tmp_path).read_bytes() == CONTENT[::-1]
    assert fetches() == 2
    path.write_bytes(CONTENT[:100])  # damaged since
    assert download("dvd-1.1", tmp_path).read_bytes() == CONTENT[::-1]
    assert fetches() == 3


def test_another_size_than_announced_is_refused_without_a_checksum(hub, tmp_path):
    hub.announced, hub.withheld = "d41d8cd98f00b204e9800998ecf8427e", 1000
    with pytest.raises(CheckpointError, match=r"dvd-1\.1: cannot download"):
        download("dvd-1.1", tmp_path)
    assert not (tmp_path / "dvd_1.1.safetensors").exists()


def test_with_a_checksum_nothing_is_warned_of(hub, tmp_path, caplog):
    download("dvd-1.1", tmp_path)
    assert "SHA-256" not in caplog.text


def test_mirror_is_held_to_the_known_checksum(hub, tmp_path):
    with pytest.raises(CheckpointError, match=r"taew2_1: expected SHA-256 04766eac"):
        download("taew2_1", tmp_path)


def test_no_connection_and_unknown_name(hub, tmp_path):
    with pytest.raises(ConfigError, match=r"known are dvd-1.1"):
        download("dvd-9", tmp_path)
    with pytest.raises(CheckpointError, match="check the connection"):
        download("dvd-1.1", tmp_path, endpoint="http://127.0.0.1:9")


def parse(module, *words):
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())
    return parser.parse_args(words)


def test_licence_must_be_accepted(hub, tmp_path, capsys):
    args = parse(command, "download", "dvd-1.1", "--to", str(tmp_path))
    assert args.run(args) == 1
    shown = capsys.readouterr().out
    assert "CC-BY-NC-4.0, non-commercial" in shown and "--accept-license" in shown
    assert not hub.requests and not list(tmp_path.iterdir())
    args = parse(command, "download", "dvd-1.1", "--to", str(tmp_path), "--accept-license")
    assert args.run(args) == 0
    assert "video_depth fold" in capsys.readouterr().out
    assert (tmp_path / "dvd_1.1.safetensors").read_bytes() == CONTENT


def test_names_of_the_command_are_those_known():
    for name in PUBLIC_WEIGHTS:
        assert parse(command, "download", name).name == name


def test_fold_command_refuses_what_is_not_dvd(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "in.safetensors")
    args = parse(fold_command, "fold", str(tmp_path / "in.safetensors"), str(tmp_path / "out"))
    with pytest.raises(CheckpointError, match="unknown naming"):
        args.run(args)
