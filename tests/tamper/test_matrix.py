"""Every row: the named check fails, and nothing the attacker did is called verified."""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
import time
from pathlib import Path

import pytest

from forebear.verify.result import CORE, Report
from tests.support.release import Simulated
from tests.tamper import rows_statements  # noqa: F401  # registers rows
from tests.tamper.case import Case, failed, status
from tests.tamper.matrix import ROWS, WEIGHTS, Row

N_FLIPS = 150


def passes(report: Report) -> bool:
    return not failed(report) and all(status(report, check) == "passed" for check in CORE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.id}-{row.change.__name__}")
def test_a_change_fails_the_named_check(row: Row, case: Case) -> None:
    row.change(case)
    started = time.monotonic()
    report = case.verify()
    assert set(row.fails) <= failed(report), report.to_json()
    assert report.exit_code() == 1
    assert time.monotonic() - started < 60  # no hang on a FIFO, no minute on a gigabyte
    internal = [result.id for result in report.results if getattr(result.verdict, "internal", 0)]
    assert not internal, report.to_json()
    if row.stock:
        assert case.stock().returncode != 0


def test_an_untouched_release_passes_here_and_under_stock_tools(case: Case) -> None:
    report = case.verify()
    assert passes(report), report.to_json()
    assert report.exit_code() == 0
    assert report.exit_code(strict=True) == 3
    done = case.stock()
    assert done.returncode == 0, done.stderr


def test_row_10_a_hard_link_with_equal_bytes_passes(case: Case) -> None:
    twin = case.folder.with_name("twin")
    shutil.copy(case.out(WEIGHTS), twin)
    case.out(WEIGHTS).unlink()
    os.link(twin, case.out(WEIGHTS))
    assert passes(case.verify())


def test_row_16_other_times_pass(case: Case) -> None:
    for file in case.folder.rglob("*"):
        os.utime(file, (1, 1))
    assert passes(case.verify())


def test_row_38_an_old_release_is_unchecked_without_min_serial(case: Case) -> None:
    assert status(case.verify(), "C11") == "unchecked"
    case.policy = {"min_serial": 1}
    assert status(case.verify(), "C11") == "passed"


def test_an_archive_passes_like_its_folder(case: Case, tmp_path: Path) -> None:
    archive = tmp_path / "release.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(case.folder, "my-release")
    assert passes(case.verify(archive))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SHA256SUMS", tarfile.REGTYPE),
        ("/etc/x", tarfile.REGTYPE),
        ("../x", tarfile.REGTYPE),
        ("a/../../x", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("device", tarfile.CHRTYPE),
        ("pipe", tarfile.FIFOTYPE),
    ],
)
def test_row_80_an_archive_with_an_odd_member_fails_c1(
    case: Case, tmp_path: Path, name: str, kind: bytes
) -> None:
    archive = tmp_path / "release.tar"
    with tarfile.open(archive, "w") as tar:
        for file in sorted(case.folder.rglob("*")):
            tar.add(file, str(file.relative_to(case.folder)), recursive=False)
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "SHA256SUMS"
        tar.addfile(member, io.BytesIO(b""))
    report = case.verify(archive)
    assert failed(report) == {"C1"}
    assert not list(tmp_path.glob("**/x"))


def test_a_cut_archive_fails_c1(case: Case, tmp_path: Path) -> None:
    archive = tmp_path / "release.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(case.folder, ".")
    archive.write_bytes(archive.read_bytes()[:-200])
    assert "C1" in failed(case.verify(archive))


def test_no_random_byte_flip_passes(case: Case) -> None:
    draw = random.Random(20)  # noqa: S311  # to be repeated, not to be secret
    files = [file for file in sorted(case.folder.rglob("*")) if file.stat().st_size]
    files = [file for file in files if file.is_file()]
    for _ in range(N_FLIPS):
        file = draw.choice(files)
        data = file.read_bytes()
        at = draw.randrange(len(data))
        changed = bytearray(data)
        changed[at] ^= 1 << draw.randrange(8)
        file.write_bytes(changed)
        report = case.verify()
        assert failed(report), f"a flip at byte {at} of {file.name} passes"
        assert report.exit_code() == 1
        file.write_bytes(data)
    assert passes(case.verify())


def test_another_owners_key_fails_c2(case: Case, built: Simulated, tmp_path: Path) -> None:
    from forebear.signing.keys import create_key, load_public

    _, public = create_key("owner", tmp_path / "other", None)
    case.policy = {"owner_keys": (load_public(public),)}
    report = case.verify()
    assert {"C2", "C8", "C9"} <= failed(report)
    assert status(report, "C3") == "unchecked"
