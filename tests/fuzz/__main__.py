"""``python -m tests.fuzz``: fuzzes the parsers, then changes a release at random, and counts.

    python -m tests.fuzz                        every parser for 20 s, then 10,000 changes
    python -m tests.fuzz link bundle --seconds 300 --changes 0
    python -m tests.fuzz --changes 50000 --seed 7

A parser's input that crashes it, takes over one second or over 512 MiB is kept in
``tests/fuzz/found/`` and the exit code is 1: mend the parser, then move the input to
``tests/fuzz/regressions/TARGET-name.bin``, which ``make test`` reads.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path

from forebear.evidence.store import open_evidence
from forebear.signing.keys import load_public
from forebear.signing.policy import TrustPolicy
from forebear.verify.run import verify
from tests.fuzz.changes import copy_of, make_change
from tests.fuzz.targets import TARGETS, accept, seeds, waived_release
from tests.support.release import Simulated

FOUND = Path(__file__).parent / "found"
REGRESSIONS = Path(__file__).parent / "regressions"
MAX_INPUT_BYTES = 64 * 1024
MAX_INPUT_S = 1
MAX_RSS_MIB = 512
NOW = datetime(2026, 1, 21, tzinfo=UTC)  # within the life of the release and its waiver
_CHILD = "--child"


def main() -> int:
    """Runs what was asked for and prints what came of it."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        built = waived_release(Path(scratch, "release"))
        failed = False
        if options.seconds:
            corpus = Path(scratch, "corpus")
            _write_corpus(corpus, built)
            for name in options.targets or TARGETS:
                failed |= not _fuzz(name, corpus / name, options.seconds)
        if options.changes:
            failed |= not _change(built, Path(scratch), options.changes, options.seed)
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=20, help="for each parser (default 20)")
    parser.add_argument("--changes", type=int, default=10_000, help="of a release (10,000)")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the changes")
    options = parser.parse_args()
    unknown = set(options.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such parser: {', '.join(sorted(unknown))}")
    return options


# ── parsers ────────────────────────────────────────────────────────────────────────────────────


def _write_corpus(corpus: Path, built: Simulated) -> None:
    for name in TARGETS:
        (corpus / name).mkdir(parents=True)
    for number, (name, data) in enumerate(seeds(built)):
        (corpus / name / f"seed-{number}").write_bytes(data)
    for file in REGRESSIONS.glob("*.bin"):
        name = file.stem.rpartition("-")[0]
        (corpus / name / file.name).write_bytes(file.read_bytes())


def _fuzz(name: str, corpus: Path, seconds: int) -> bool:
    """Whether one parser stood ``seconds`` of fuzzing, in a process of its own."""
    FOUND.mkdir(exist_ok=True)
    words = [
        str(corpus), f"-max_total_time={seconds}", f"-timeout={MAX_INPUT_S}",
        f"-rss_limit_mb={MAX_RSS_MIB}", f"-max_len={MAX_INPUT_BYTES}", "-print_final_stats=1",
        f"-artifact_prefix={FOUND / name}-",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-c", _BOOT, _CHILD, name, *words],
        capture_output=True, text=True, errors="replace", check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    log = done.stdout + done.stderr
    runs = re.search(r"number_of_executed_units:\s*(\d+)", log)
    peak = re.search(r"peak_rss_mb:\s*(\d+)", log)
    cover = re.findall(r"cov: (\d+)", log)
    facts = (
        f"{runs[1] if runs else '?':>9} inputs, coverage {cover[-1] if cover else '?'}, "
        f"peak {peak[1] if peak else '?'} MiB"
    )
    print(f"{name:<15} {facts}{'' if done.returncode == 0 else '  FAILED'}", flush=True)
    if done.returncode:
        print("\n".join(log.splitlines()[-40:]), flush=True)
    return done.returncode == 0


# only what parses is watched: watching every loaded module costs a minute before the first input
_BOOT = """
import sys, atheris
sys.path.insert(0, ".")
with atheris.instrument_imports(include=["forebear", "tarfile", "yaml"]):
    from tests.fuzz.__main__ import child
child(sys.argv[2], sys.argv[3:])
"""


def child(name: str, words: list[str]) -> None:
    """Fuzzes one parser in this process; never returns."""
    import atheris

    def one(data: bytes) -> None:
        accept(name, data)

    atheris.Setup([name, *words], one, enable_python_coverage=True)
    atheris.Fuzz()


# ── whole releases ─────────────────────────────────────────────────────────────────────────────


def _change(built: Simulated, scratch: Path, n_changes: int, first_seed: int) -> bool:
    """Whether verification found every one of ``n_changes`` random changes."""
    started = time.monotonic()
    n_workers = cpu_count() or 1
    shares = [range(first_seed + worker, first_seed + n_changes, n_workers)
              for worker in range(n_workers)]  # fmt: skip
    counts: Counter[str] = Counter()
    missed: list[str] = []
    with ProcessPoolExecutor(n_workers) as pool:
        jobs = [
            pool.submit(find_changes, built.packed, built.owner_pub, scratch / f"copy-{number}",
                        share)
            for number, share in enumerate(shares)
        ]  # fmt: skip
        for job in jobs:
            found, left = job.result()
            counts += found
            missed += left
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    print(
        f"{sum(counts.values())} random changes (seeds {first_seed} to "
        f"{first_seed + n_changes - 1}: {told}): {len(missed)} not found, "
        f"{time.monotonic() - started:.0f} s"
    )
    for line in missed:
        print(f"  NOT FOUND: {line}")
    return not missed


def find_changes(
    packed: Path, owner_pub: Path, place: Path, seeds_: range
) -> tuple[Counter[str], list[str]]:
    """Makes one change a seed, verifies, and undoes it; returns counts, and what was not found."""
    folder = copy_of(packed, place)
    policy = TrustPolicy(owner_keys=(load_public(owner_pub),), now=NOW)
    counts: Counter[str] = Counter()
    missed = []
    for seed in seeds_:
        change = make_change(folder, seed)
        with open_evidence(folder) as evidence:
            code = verify(evidence, policy).exit_code()
        counts[change.kind] += 1
        if code != 1:
            missed.append(f"seed {seed}: {change.kind} {change.what} (exit code {code})")
        change.undo()
    return counts, missed


if __name__ == "__main__":
    sys.exit(main())
