"""Cost of the document ledger: ``python -m benchmarks.ledger [SIZES…]``.

Documents are made up and streamed; each size runs in a process of its own, so that its peak memory
is its own. Shown are the seconds to build both trees from documents, to find the root again from
the rows alone (processor time beside it, for a busy machine), and the milliseconds of a proof with
an index, self-check included.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from forebear.formats import strictjson
from forebear.ledger.build import IntakeRow, LedgerRow, document_key
from forebear.ledger.check import Anchor, check_proof
from forebear.ledger.prove import open_ledger, prove
from forebear.ledger.rowfile import scan
from forebear.ledger.writer import LedgerWriter

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
N_PROOFS = 50


def document(number: int) -> bytes:
    """A made-up document."""
    return b"document %d of the benchmark\n" % number


def rows(n_documents: int) -> Iterator[tuple[LedgerRow, IntakeRow]]:
    """Rows of both trees, one document in ten dropped from training."""
    for number in range(n_documents):
        data = document(number)
        key = document_key(data)
        source = f"source-{number % 7}"
        yield (
            LedgerRow(key, len(data), "CC0-1.0", source, "domain"),
            IntakeRow(key, len(data), f"kept:{key}" if number % 10 else "dropped:quality", source),
        )


def measure(n_documents: int, folder: Path) -> dict[str, Any]:
    """Figures for that many documents; ``folder`` is scratch and must not exist."""
    started, cpu = time.perf_counter(), time.process_time()
    with LedgerWriter(folder) as writer:
        for number, (kept, intake) in enumerate(rows(n_documents)):
            if number % 10:
                writer.add("kept", kept)
            writer.add("intake", intake)
        root = writer.finish()
    built_s, built_cpu_s = time.perf_counter() - started, time.process_time() - cpu
    started, cpu = time.perf_counter(), time.process_time()
    again = scan(folder / "intake.jsonl", "intake")
    root_s, root_cpu_s = time.perf_counter() - started, time.process_time() - cpu
    if again.root != root["intake"]["root"]:
        raise AssertionError("two roots of the same rows")
    draw = random.Random(n_documents)  # noqa: S311  # to be repeated, not to be secret
    started = time.perf_counter()
    with open_ledger(folder) as ledger:
        open_s = time.perf_counter() - started
        times = sorted(
            _proof_s(ledger, draw.randrange(n_documents + n_documents // 10))
            for _ in range(N_PROOFS)
        )
    return {
        "documents": n_documents,
        "build_s": round(built_s, 2),
        "build_cpu_s": round(built_cpu_s, 2),
        "root_from_rows_s": round(root_s, 2),
        "root_from_rows_cpu_s": round(root_cpu_s, 2),
        "open_ms": round(1000 * open_s, 2),
        "proof_ms_median": round(1000 * times[N_PROOFS // 2], 2),
        "proof_ms_worst": round(1000 * times[-1], 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rows_mib": round((folder / "intake.jsonl").stat().st_size / 2**20),
    }


def _proof_s(ledger: Any, number: int) -> float:
    """Seconds to prove one document present or absent; the check that follows is not counted."""
    started = time.perf_counter()
    proof = prove(ledger, document(number))
    took = time.perf_counter() - started
    report = check_proof(strictjson.dumps(proof.to_json()), Anchor.of(ledger.descriptor))
    if not report.holds:
        raise AssertionError(f"a proof of document {number} does not hold")
    return took


def curve(sizes: Iterable[int] = SIZES) -> list[dict[str, Any]]:
    """Figures for each size, each in a process of its own."""
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
            call = (
                "import json, pathlib; from benchmarks.ledger import measure; "
                f"print(json.dumps(measure({size}, pathlib.Path({scratch!r}) / 'ledger')))"
            )
            done = subprocess.run(
                [sys.executable, "-c", call], check=True, capture_output=True, text=True
            )
            found.append(json.loads(done.stdout))
    return found


def main() -> None:
    """Prints the curve for the sizes on the command line, else up to a million."""
    sizes = [int(word) for word in sys.argv[1:]] or SIZES[:3]
    print("documents   build s (cpu)  root s (cpu)  open ms  proof ms (worst)  peak MiB  rows MiB")
    for one in curve(sizes):
        build = f"{one['build_s']} ({one['build_cpu_s']})"
        root = f"{one['root_from_rows_s']} ({one['root_from_rows_cpu_s']})"
        proof = f"{one['proof_ms_median']} ({one['proof_ms_worst']})"
        print(
            f"{one['documents']:>9}  {build:>13}  {root:>12}  {one['open_ms']:>7}  {proof:>16}"
            f"  {one['peak_mib']:>8}  {one['rows_mib']:>8}"
        )


if __name__ == "__main__":
    main()
