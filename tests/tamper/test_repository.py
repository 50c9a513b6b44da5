"""Rows of the matrix about a repository: what was edited after the release was attested."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forebear.evidence.store import open_evidence
from forebear.signing.keys import load_public
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Report
from forebear.verify.run import verify
from tests.support.release import CHECKPOINT, WEIGHTS, Simulated
from tests.tamper.case import failed, status


@pytest.fixture
def repo(built: Simulated, tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    shutil.copytree(built.repo, folder)
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True, capture_output=True
    )
    return folder


def report_on(repo: Path, built: Simulated) -> Report:
    with open_evidence(repo) as evidence:
        return verify(evidence, TrustPolicy(owner_keys=(load_public(built.owner_pub),)))


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(repo: Path) -> None:
        file = repo / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return change


def remove(path: str) -> Callable[[Path], None]:
    return lambda repo: (repo / path).unlink()


ROWS = {
    "17 params edited": (edit("params.yaml", "epochs: 1", "epochs: 2"), "C15"),
    "45 NaN in metrics": (edit("data/sft/metrics.json", "0.5", "NaN"), "C1"),
    "64 dvc.lock edited": (edit("dvc.lock", "0" * 32, "1" * 32), "C15"),
    "65 cmd edited": (edit("dvc.yaml", "stages.sft", "stages.other"), "C15"),
    "66 stage code edited": (edit("stages/sft.py", "# sft", "# other"), "C15"),
    "66b source file gone": (remove("trust/README.md"), "C15"),
    "67 weights edited, lock kept": (edit(WEIGHTS, "s", "t"), "C4"),
    "69 document removed from an unshipped out": (
        remove("data/base/checkpoint/config.json"),
        "C4",
    ),
    "metadata edited": (edit("release/SHA256SUMS", "a", "b"), "C4"),
    "metadata added": (lambda repo: (repo / "release" / "x").write_text("x"), "C4"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_change_fails_the_named_check(name: str, repo: Path, built: Simulated) -> None:
    change, check = ROWS[name]
    change(repo)
    report = report_on(repo, built)
    assert check in failed(report), report.to_json()
    assert report.exit_code() == 1


def test_an_untouched_repository_passes(repo: Path, built: Simulated) -> None:
    report = report_on(repo, built)
    assert not failed(report), report.to_json()
    assert report.exit_code() == 0
    assert status(report, "C15") == "passed"


def test_absent_unshipped_outs_are_counted_not_called_checked(repo: Path, built: Simulated) -> None:
    shutil.rmtree(repo / "data" / "base")
    report = report_on(repo, built)
    assert report.exit_code() == 0
    (disk,) = [result for result in report.results if result.id == "C4"]
    assert "1 out not here, so not checked on disk" in str(disk.verdict)


def test_an_absent_shipped_out_fails_c4(repo: Path, built: Simulated) -> None:
    shutil.rmtree(repo / CHECKPOINT)
    assert "C4" in failed(report_on(repo, built))
