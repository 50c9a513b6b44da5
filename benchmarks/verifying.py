"""The whole ``forebear verify`` process beside the other tools, on one packed release."""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.hashing import in_memory, write_files
from benchmarks.measuring import Works, forebear, load, run, take_turns
from tests.support.release import CHECKPOINT, Simulated, build_repository, write_gate

OURS = "forebear verify"
STOCK = "sha256sum -c"
MEMORY = "in memory"

_PYTHON = [sys.executable, "-P", "-c"]
_ONE_THREAD = (
    "import hashlib, pathlib, sys; "
    "[hashlib.file_digest(open(p, 'rb'), 'sha256') for p in sorted(pathlib.Path(sys.argv[1])"
    ".rglob('*')) if p.is_file()]"
)
_RUNLIB = "import sys; from in_toto.runlib import record_artifacts_as_dict as r; r([sys.argv[1]])"
_IN_TOTO = "from in_toto.in_toto_verify import main; main()"
_OMS = "from model_signing._cli import main; main()"


def release_of(folder: Path, total_mib: int) -> Simulated:
    """A signed and packed release whose checkpoint has so many MiB in eight files."""
    made = build_repository(folder)
    write_files(made.repo / CHECKPOINT, total_mib)
    write_gate(made.repo)
    made.record("sft")
    made.record("eval")
    made.attest()
    made.pack()
    return made


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """One row a tool: seconds, share of the time of ``sha256sum -c``, seconds above memory."""
    total_mib = 32 if quick else 1024
    with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
        works = dict(_works(Path(scratch), total_mib))
        turns = take_turns(1 if quick else 5, works)
        loaded = load()
    return [
        {
            "tool": name,
            "seconds": round(turns.seconds(name), 2),
            "cpu_s": round(sorted(turns.cpu[name])[len(turns.cpu[name]) // 2], 2),
            "time_of_sha256sum": round(turns.ratio(name, STOCK), 2),
            "above_memory_s": round(turns.above(name, MEMORY), 2),
            "mib": total_mib,
            "load": loaded,
        }
        for name in sorted(works, key=turns.seconds)
    ]


def _works(folder: Path, total_mib: int) -> Works:
    made = release_of(folder / "made", total_mib)
    packed, trust = made.packed, str(made.owner_pub)
    checkpoint = str(packed / CHECKPOINT)
    copy = folder / "copy"  # in-toto-verify leaves a link in the folder
    shutil.copytree(packed, copy)
    in_toto = [
        *_PYTHON, _IN_TOTO, "--layout", "root.layout", "--verification-keys", trust,
        "--link-dir", "links", "--inspection-timeout", "3600",
    ]  # fmt: skip
    commands = {
        STOCK: (["sha256sum", "-c", "--quiet", "SHA256SUMS"], packed),
        OURS: (forebear("verify", str(packed), "--trust", trust), folder),
        "hashlib, one thread": ([*_PYTHON, _ONE_THREAD, checkpoint], folder),
        "in-toto's runlib, hashing alone": ([*_PYTHON, _RUNLIB, checkpoint], folder),
        "in-toto-verify": (in_toto, copy),
    }
    if find_spec("model_signing"):
        signature = str(packed / "attestations" / CHECKPOINT / "model.sig")
        words = [*_PYTHON, _OMS, "verify", "key", checkpoint, "--public_key", trust,
                 "--signature", signature]  # fmt: skip
        commands["model_signing verify key"] = (words, folder)
    works: dict[str, Any] = {MEMORY: partial(in_memory, total_mib)}
    works |= {name: partial(run, words, cwd) for name, (words, cwd) in commands.items()}
    if find_spec("dvc"):
        works["dvc add"] = partial(_dvc_add, folder / "dvc", Path(checkpoint))
    return works


def _dvc_add(folder: Path, checkpoint: Path) -> None:
    """A first ``dvc add``; links, not copies, so that hashing is what is left to do."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for one in sorted(checkpoint.rglob("*.bin")):
        (folder / "checkpoint").mkdir(exist_ok=True)
        (folder / "checkpoint" / one.name).hardlink_to(one)
    dvc = [sys.executable, "-m", "dvc"]
    run([*dvc, "init", "-q", "--no-scm"], folder)
    run([*dvc, "config", "cache.type", "hardlink"], folder)
    run([*dvc, "add", "-q", "checkpoint"], folder)
