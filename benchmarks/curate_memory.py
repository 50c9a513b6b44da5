"""Peak memory of the curate stage by input size: ``python -m benchmarks.curate_memory [MIB…]``.

Each size runs in a process of its own, with copies, near copies, personal data, the language filter
and decontamination, on made-up pages of about 2 KiB. Flat means that a hundred times the input
takes at most a tenth more; what grows with the number of copies, not of documents, is datatrove's
clustering. The process's own peak counts and its workers', whichever is higher.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.measuring import in_child, load, peak_mib, table
from forebear.formats import strictjson

if TYPE_CHECKING:
    from forebear.train.curate.params import CurateParams

SIZES_MIB = (10, 50, 200, 1000)
_MIB = 1 << 20

_COMMON = {
    "licence": "CC0-1.0",
    "modality": "text",
    "publisher": "the benchmarks",
    "collected_from": "2026-01",
    "collected_to": "2026-01",
}
_SECTION: dict[str, Any] = {
    "chapters": ["A", "E", "I-L"],
    "max_categories": 20,
    "max_documents": 120,
    "instruction_rows": 60,
    "golden": {"n": 12},
    "language": {"keep": ["en"], "roles": ["replay"], "min_score": 0.0},
    "pii": {},
    "near_copies": {"roles": ["replay"], "buckets": 5, "hashes_per_bucket": 4},
    "licences": {"allow": ["CC0-1.0", "LicenseRef-PublicDomain-US"]},
}


def _vocabulary() -> list[str]:
    draw = random.Random(11)  # noqa: S311  # to be repeated, not to be secret
    usual = "the of and to in is that for it was on are as with they at this from by not".split()  # noqa: SIM905  # a text
    made = ["".join(draw.choices("aeioulnrstdm", k=draw.randint(3, 9))) for _ in range(4000)]
    return [*usual * 150, *made]


def pages(size_bytes: int) -> Iterator[bytes]:
    """Rows of made-up pages; one in fifty is a copy, one in fifty a near copy."""
    draw = random.Random(7)  # noqa: S311  # to be repeated, not to be secret
    words, written, last = _vocabulary(), 0, ""
    while written < size_bytes:
        kind = draw.randrange(50)
        text = last if kind in {0, 1} and last else " ".join(draw.choices(words, k=350)) + "."
        if kind == 1:
            text = text.replace(" that ", " which ", 1)
        last = text
        row = strictjson.dumps({"text": text, "url": f"https://example.org/{written}"})
        written += len(row)
        yield row


def run(place: str, size_mib: int, tasks: int) -> dict[str, Any]:
    """Figures of one run of the stage's work; ``place`` is scratch."""
    from forebear.train.curate.params import ICD10CM, CurateParams
    from forebear.train.curate.work import build_corpus
    from forebear.train.stage import validate_section

    folder = Path(place)
    os.environ["FOREBEAR_SCRATCH"] = str(folder / "scratch")
    codes = {"id": "icd10cm", "kind": "package", "package": ICD10CM, "version": "1.5.0",
             "role": "domain", **_COMMON, "licence": "LicenseRef-PublicDomain-US"}  # fmt: skip
    given = {"id": "pages", "kind": "jsonl", "path": str(folder / "pages.jsonl"),
             "role": "replay", **_COMMON}  # fmt: skip
    section = {**_SECTION, "sources": [codes, given], "executor": {"tasks": tasks}}
    checked = validate_section(CurateParams, "curate", {"seed": 7, "curate": section})
    params = cast("CurateParams", checked)
    started, cpu = time.perf_counter(), time.process_time()
    build_corpus(
        params,
        corpus=folder / "corpus",
        golden=folder / "golden",
        ledger=folder / "ledger",
        dropped=folder / "dropped",
        metrics=folder / "metrics.json",
    )
    figures = strictjson.parse((folder / "metrics.json").read_bytes(), where="metrics")
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "input_mib": size_mib,
        "documents": figures["read"]["pages"]["documents"],
        "kept": figures["rows"]["replay"],
        "peak_mib": max(peak_mib(), round(workers.ru_maxrss / 1024)),
        "wall_s": round(time.perf_counter() - started, 1),
        "cpu_s": round(time.process_time() - cpu + workers.ru_utime + workers.ru_stime, 1),
    }


def curve(sizes_mib: Iterable[int] = SIZES_MIB, *, tasks: int = 1) -> list[dict[str, Any]]:
    """Figures for each size; ``of_first`` is its peak over that of the first."""
    found: list[dict[str, Any]] = []
    for size_mib in sizes_mib:
        with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
            with (Path(scratch) / "pages.jsonl").open("wb") as stream:
                stream.writelines(pages(size_mib * _MIB))
            row = in_child("benchmarks.curate_memory", "run", scratch, size_mib, tasks)
            first = found[0]["peak_mib"] if found else row["peak_mib"]
            found.append({**row, "of_first": round(row["peak_mib"] / first, 2), "load": load()})
    return found


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """The curve as rows of a table."""
    return curve((1,) if quick else SIZES_MIB)


def main() -> None:
    """Prints the curve for the sizes on the command line."""
    print(table(curve([int(word) for word in sys.argv[1:]] or SIZES_MIB)))


if __name__ == "__main__":
    main()
