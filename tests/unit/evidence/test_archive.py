"""Archives that cost more than they should, or hide something, are refused before they unpack."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from forebear.evidence.archive import unpack

GIB = 1 << 30


def _refused(archive: Path, folder: Path, *, within_s: float = 1.0) -> str:
    folder.mkdir()
    started = time.process_time()
    faults = unpack(archive, folder)
    assert time.process_time() - started < within_s
    assert faults
    assert not list(folder.iterdir())
    return " ".join(what for _, what in faults)


def _tar(archive: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]  # a literal of the caller
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_an_honest_archive_unpacks(tmp_path: Path, mode: str) -> None:
    archive = _tar(tmp_path / "a.tar", [("r/one", b"1"), ("r/" + "x" * 200, b"2" * 100_000)], mode)
    target = tmp_path / "t"
    target.mkdir()
    assert unpack(archive, target) == []
    assert (target / "r" / "one").read_bytes() == b"1"
    assert (target / "r" / ("x" * 200)).stat().st_size == 100_000


def test_a_gzip_bomb_is_refused_unread(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("zeros")
    entry.size = GIB
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as stream:
        stream.write(entry.tobuf())
        block = bytes(1 << 24)
        for _ in range(4):
            stream.write(block)
    assert "200 times" in _refused(archive, tmp_path / "t")


def test_a_header_of_megabytes_is_refused_unread(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("./@LongLink")
    entry.type = tarfile.GNUTYPE_LONGNAME
    entry.size = 1 << 26
    archive = tmp_path / "a.tar"
    archive.write_bytes(entry.tobuf() + bytes(1 << 26))
    assert "megabyte" in _refused(archive, tmp_path / "t")
    entry.type = tarfile.XHDTYPE
    archive.write_bytes(entry.tobuf() + bytes(1 << 26))
    assert "megabyte" in _refused(archive, tmp_path / "t2")


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("x")
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb", compresslevel=9) as stream:
        for _ in range(40):
            stream.write(entry.tobuf() * 1000)
    assert "more members" in _refused(archive, tmp_path / "t", within_s=5)


def test_a_sparse_file_is_no_regular_file(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("sparse")
    entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                         "GNU.sparse.name": "sparse", "GNU.sparse.realsize": str(GIB)}  # fmt: skip
    data = b"1\n0\n512\n".ljust(512, b"\0") + bytes(512)
    entry.size = len(data)
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(entry, io.BytesIO(data))
    assert _refused(archive, tmp_path / "t")


def test_a_negative_size_does_not_go_round(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("x")
    entry.pax_headers = {"size": "-1024"}
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(entry)
    _refused(archive, tmp_path / "t")


def test_xz_is_refused_with_what_to_do(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.xz"
    archive.write_bytes(lzma.compress(_tar(tmp_path / "a.tar", [("x", b"1")]).read_bytes()))
    assert "unpack it first" in _refused(archive, tmp_path / "t")


def test_a_broken_header_is_no_end(tmp_path: Path) -> None:
    whole = bytearray(_tar(tmp_path / "a.tar", [("one", b"1"), ("two", b"2")]).read_bytes())
    whole[1024 + 150] ^= 1  # in the checksum of the second header, after which tar goes on
    archive = tmp_path / "b.tar"
    archive.write_bytes(whole)
    assert "no tar archive" in _refused(archive, tmp_path / "t")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_a_damaged_archive_is_refused_or_gives_files(tmp_path: Path, mode: str) -> None:
    whole = _tar(tmp_path / "a.tar", [("r/one", b"1" * 2000), ("r/two", b"2" * 10)], mode)
    data = whole.read_bytes()
    draw = random.Random(7)  # noqa: S311  # to be repeated, not to be secret
    for number in range(150):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        if number % 3 == 0:
            del changed[draw.randrange(len(changed)) :]
        archive = tmp_path / "b.tar"
        archive.write_bytes(changed)
        target = tmp_path / f"t{number}"
        target.mkdir()
        faults = unpack(archive, target)  # anything but an error of ours or none would end here
        assert not faults or not list(target.iterdir())
