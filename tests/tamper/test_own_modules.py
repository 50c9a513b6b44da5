"""A release that brings modules of its own: the real command, started inside it, runs none of them.

Python puts the folder of a script on its import path, and with ``-m`` the current folder. An
auditor stands in the release, or beside its links, and every module of ours is still ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.release import WEIGHTS
from tests.tamper.case import Case

# Modules of the standard library, of what we depend on, and of ourselves, as verification imports
# them; ``sitecustomize`` is what Python itself looks for.
MODULES = (
    "hashlib.py",
    "json.py",
    "re.py",
    "sitecustomize.py",
    "usercustomize.py",
    "click.py",
    "yaml/__init__.py",
    "in_toto/__init__.py",
    "cryptography/__init__.py",
    "model_signing/__init__.py",
    "rfc8785.py",
    "forebear/__init__.py",
)


def command() -> str:
    """The console script that an installation makes."""
    script = Path(sysconfig.get_path("scripts")) / "forebear"
    assert script.is_file(), "install the package: pip install -e ."
    return str(script)


def run(arguments: list[str], where: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        arguments, cwd=where, env=clean, capture_output=True, text=True, check=False, timeout=120
    )


def plant(folder: Path, marker: Path) -> None:
    """Modules that leave ``marker`` behind, then claim that all is well."""
    for name in MODULES:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"open({str(marker)!r}, 'w').close()\nraise SystemExit(0)\n")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "planted-module-ran"


@pytest.mark.parametrize("beside", ["", "links", "attestations"])
def test_planted_modules_are_reported_and_never_run(case: Case, marker: Path, beside: str) -> None:
    plant(case.folder / beside, marker)
    done = run(
        [command(), "verify", str(case.folder), "--trust", str(case.built.owner_pub)],
        case.folder / beside,
    )
    assert not marker.exists()
    assert done.returncode == 1, done.stderr
    planted = (Path(beside) / "hashlib.py").as_posix()
    assert f"{planted} is not listed in SHA256SUMS" in done.stdout


def test_a_clean_release_passes_from_within(case: Case, marker: Path) -> None:
    done = run([command(), "verify", ".", "--trust", str(case.built.owner_pub)], case.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not marker.exists()


def test_a_trace_runs_no_planted_module(case: Case, marker: Path) -> None:
    plant(case.folder, marker)
    done = run([command(), "trace", WEIGHTS, "."], case.folder)
    assert not marker.exists()
    assert done.returncode == 0, done.stderr
    assert "sft" in done.stdout


def test_a_module_run_without_safe_path_refuses_before_anything_is_imported(
    case: Case, marker: Path
) -> None:
    plant(case.folder, marker)
    # a planted ``forebear`` would run in our place, which no code of ours could prevent
    (case.folder / "forebear" / "__init__.py").unlink()
    (case.folder / "forebear").rmdir()
    arguments = ["-m", "forebear", "verify", ".", "--trust", str(case.built.owner_pub)]
    done = run([sys.executable, *arguments], case.folder)
    assert not marker.exists()
    assert done.returncode == 2
    assert "python -P -m forebear" in done.stderr
    safe = run([sys.executable, "-P", *arguments], case.folder)
    assert not marker.exists()
    assert safe.returncode == 1
    assert "hashlib.py is not listed in SHA256SUMS" in safe.stdout


def test_the_same_modules_do_run_where_python_is_told_to(case: Case, marker: Path) -> None:
    """The trap is real: this is what the command keeps out."""
    plant(case.folder, marker)
    run([sys.executable, "-m", "json"], case.folder)
    assert marker.exists()
