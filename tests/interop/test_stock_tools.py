"""Stock tools on a packed release: they pass on it, and fail after one changed byte."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forebear.formats.layout import SUMS
from tests.support.release import CHECKPOINT, WEIGHTS, build_release

BINARIES = Path(sys.executable).parent
pytest.importorskip("model_signing")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_release(tmp_path_factory.mktemp("stock")).packed


@pytest.fixture
def release(packed: Path, tmp_path: Path) -> Path:
    # a copy, no hard links: tests change bytes
    shutil.copytree(packed, tmp_path / "release")
    return tmp_path / "release"


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def in_toto_verify(folder: Path) -> subprocess.CompletedProcess[str]:
    return _run(
        folder, str(BINARIES / "in-toto-verify"), "--layout", "root.layout",
        "--verification-keys", "owner.pub", "--link-dir", "links",
        "--inspection-timeout", "86400", "-v",
    )  # fmt: skip


def sha256sum(folder: Path) -> subprocess.CompletedProcess[str]:
    return _run(folder, "sha256sum", "--check", "--strict", "--quiet", SUMS)


def model_signing(folder: Path) -> subprocess.CompletedProcess[str]:
    return _run(
        folder, str(BINARIES / "model_signing"), "verify", "key", CHECKPOINT,
        "--signature", f"attestations/{CHECKPOINT}/model.sig", "--public_key", "owner.pub",
    )  # fmt: skip


@pytest.mark.parametrize("tool", [in_toto_verify, sha256sum, model_signing])
def test_tool_passes_on_the_release_and_fails_on_one_changed_byte(release, tool):
    done = tool(release)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "differs from expected command" not in done.stdout + done.stderr
    data = bytearray((release / WEIGHTS).read_bytes())
    data[50] ^= 1
    (release / WEIGHTS).write_bytes(data)
    assert tool(release).returncode != 0


@pytest.mark.parametrize("tool", [in_toto_verify, sha256sum, model_signing])
def test_tool_fails_on_a_deleted_file(release, tool):
    (release / WEIGHTS).unlink()
    assert tool(release).returncode != 0


@pytest.mark.parametrize("tool", [in_toto_verify, model_signing])
def test_tool_fails_on_an_added_file(release, tool):
    (release / CHECKPOINT / "added.bin").write_bytes(b"x")
    assert tool(release).returncode != 0


def test_in_toto_fails_on_consistently_edited_sums(release):
    (release / WEIGHTS).write_bytes(b"other")
    files = sorted(line.split("  ", 1)[1] for line in (release / SUMS).read_text().splitlines())
    made = _run(release, "sha256sum", *files)
    (release / SUMS).write_text(made.stdout)
    assert sha256sum(release).returncode == 0
    assert in_toto_verify(release).returncode != 0


@pytest.mark.parametrize("stage", ["base", "sft", "eval", "source", "attest"])
def test_in_toto_fails_without_a_link(release, stage):
    next((release / "links").glob(f"{stage}.*.link")).unlink()
    assert in_toto_verify(release).returncode != 0


def test_manifests_are_input_for_sha256sum(release):
    manifest = release.absolute() / "manifests" / f"{CHECKPOINT}.sha256"
    done = _run(release / CHECKPOINT, "sha256sum", "--check", "--strict", str(manifest))
    assert done.returncode == 0, done.stderr


def from_readme(start: str) -> str:
    """The README's block of commands that begins with this text."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    return text[text.index(start) :].partition("\n```")[0]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_alone_checks_a_statement_as_the_readme_says(release):
    commands = from_readme("python3 - release.sigstore.json")
    assert "openssl dgst" in commands
    done = _run(release, "bash", "-euc", commands)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Verified OK\n"
    bundle = release / "release.sigstore.json"
    text = bundle.read_text()
    at = text.index('"payload":"') + 40
    bundle.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    done = _run(release, "bash", "-euc", commands)
    assert done.returncode != 0
