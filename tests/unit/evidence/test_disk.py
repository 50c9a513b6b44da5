from __future__ import annotations

import os
from pathlib import Path

import pytest

from forebear.errors import EnvironmentFailure, FormatError, PathError
from forebear.evidence.disk import kind_of, read_regular, scan, scan_path


def test_a_scan_tells_kinds_and_follows_nothing(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("x")
    (tmp_path / "link").symlink_to("sub")
    os.mkfifo(tmp_path / "pipe")
    assert scan(tmp_path) == {
        "link": "symbolic link",
        "pipe": "FIFO",
        "sub": "folder",
        "sub/file": "file",
    }


def test_a_path_through_a_link_ends_at_the_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "data").symlink_to("real")
    assert scan_path(tmp_path, "data/file") == {"data": "symbolic link"}
    assert scan_path(tmp_path, "real/file") == {"real/file": "file"}
    assert scan_path(tmp_path, "real") == {"real": "folder", "real/file": "file"}
    assert scan_path(tmp_path, "real/gone") is None
    assert scan_path(tmp_path, "real/file/inside") == {"real/file": "file"}


def test_only_regular_files_are_read_and_only_up_to_the_limit(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("1234")
    assert read_regular(file, where="file", max_bytes=4) == b"1234"
    with pytest.raises(FormatError):
        read_regular(file, where="file", max_bytes=3)
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(EnvironmentFailure):
        read_regular(tmp_path / "link", where="link", max_bytes=4)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PathError):
        read_regular(tmp_path / "pipe", where="pipe", max_bytes=4)


def test_nothing_has_no_kind(tmp_path: Path):
    assert kind_of(tmp_path / "gone") is None
    assert kind_of(tmp_path) == "folder"
