# SPDX-License-Identifier: Apache-2.0
"""Files are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from video_depth_ros.errors import ConfigError
from video_depth_ros.files import check_writable, replacing, write_bytes, write_text


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "figures.json"
    write_text(path, "old")
    with replacing(path) as beside:
        beside.write_text("half")
        assert path.read_text() == "old"
        assert beside.suffix == ".json"
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    write_text(path, "ä old")
    with pytest.raises(KeyError), replacing(path) as beside:
        beside.write_text("half")
        raise KeyError
    assert path.read_text(encoding="utf-8") == "ä old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "inside.json", tmp_path):
        with pytest.raises(ConfigError, match=f"cannot write {path}: .*name another file"):
            write_bytes(path, b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_place_is_checked_before_there_is_anything_to_write(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(None, tmp_path / "file", tmp_path / "new" / "deep" / "figures.json")
    for path in (tmp_path, tmp_path / "file" / "inside.json", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match=str(path)):
            check_writable(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_outputs_are_no_inputs_and_no_two_are_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bag = tmp_path / "in.mcap"
    bag.write_text("")
    (tmp_path / "link").symlink_to(bag)
    for path in (bag, Path("in.mcap"), Path("./link")):
        with pytest.raises(ConfigError, match=f"{path} is an input"):
            check_writable(path, inputs=[None, bag])
    with pytest.raises(ConfigError, match="two outputs"):
        check_writable(tmp_path / "new", Path("new"), inputs=[bag])
    check_writable(tmp_path / "new", None, Path("newer"), inputs=[bag])
