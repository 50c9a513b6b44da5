"""A small place to measure in: tiny checkpoints, a golden set, and every suite in a few items."""

from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.support.tiny_model import build_checkpoint

N_GOLDEN = 12
TASKS: dict[str, Any] = {
    "mc4_far": {},
    "mc4": {"limit": 8},
    "golden_unseen": {},
    "code": {"limit": 6, "max_tokens": 8},
    "title": {"limit": 4, "max_tokens": 8},
    "own_demo": {"max_tokens": 8},
    "mmlu_pro": {"limit": 14, "max_chars": 300},
    "ifeval": {"limit": 3, "max_tokens": 12},
    "bbq": {"limit": 8},
    "crows_pairs": {"limit": 18},
    "gsm8k": {"limit": 2, "max_tokens": 8},
    "humaneval": {"limit": 1, "max_tokens": 8},
    "mt_bench": {"limit": 2, "max_tokens": 8},
    "alpaca_eval": {},
    "arena_hard": {"limit": 2, "max_tokens": 8},
    "harmbench": {"limit": 3, "max_tokens": 8},
    "jailbreakbench": {"limit": 4, "max_tokens": 8},
    "xstest": {"limit": 4, "max_tokens": 8},
}


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def build_place(root: Path) -> Path:
    """Two checkpoints and a golden set below ``root``."""
    build_checkpoint(root / "base", seed=1, positions=4096)
    build_checkpoint(root / "final", seed=2, positions=4096)
    rows = [
        {
            "id": f"g{index:02d}",
            "description": f"Disorder number {index} of the knee",
            "code": f"A{index:02d}.{index % 10}",
            "choices": [f"A{index:02d}.{index % 10}", f"B{index:02d}", f"C{index:02d}.1", "Z99"],
            "answer": index % 4,
            "stratum": f"chapter {index % 3}",
        }
        for index in range(N_GOLDEN)
    ]
    golden = root / "golden"
    for name in ("mc4_far", "mc4"):
        write_lines(golden / f"{name}.jsonl", rows)
    unseen = [{**row, "cluster": f"A{index % 4}"} for index, row in enumerate(rows)]
    write_lines(golden / "golden_unseen.jsonl", unseen)
    for name, answer in (("code", "code"), ("title", "description")):
        write_lines(golden / f"{name}.jsonl", [{**row, "answer": row[answer]} for row in rows])
    own = [
        {"id": f"o{index}", "prompt": f"Say {index}.", "choices": None, "answer": str(index),
         "stratum": "all", "source": "ours", "licence": "Apache-2.0"}
        for index in range(3)
    ]  # fmt: skip
    write_lines(golden / "own_demo.jsonl", own)
    return root


def make_params(tasks: dict[str, Any] | None = None, **more: Any) -> Any:
    from forebear.train.evaluate.params import MeasureParams

    section = {
        "seed": 7,
        "batch_contexts": 4,
        "model": {"batch_rows": 4, "chunk": 2},
        "judges": {"main": {"kind": "rules"}, "safety": {"kind": "rules"}},
        "calibration": {"limit": 8},
        "tasks": TASKS if tasks is None else tasks,
    }
    return MeasureParams.model_validate({**section, **more})


def measure_into(place: Path, benchmarks: Path, out: Path, **more: Any) -> Path:
    """Measures one checkpoint of ``place``; private texts lie beside ``out``."""
    from forebear.train.evaluate.measure import measure

    name = more.pop("name", "base")
    on_chunk = more.pop("on_chunk", lambda: None)
    measure(
        make_params(**more),
        checkpoint=place / name,
        golden=place / "golden",
        benchmarks=benchmarks,
        out=out,
        private=out.with_name(f"{out.name}.private"),
        name=name,
        on_chunk=on_chunk,
    )
    return out


def measure_and_die(
    place: str, benchmarks: str, out: str, scratch: str, tasks: dict[str, Any], chunks: int
) -> None:
    """For a process of its own: measures, and kills itself after ``chunks`` new chunks."""
    os.environ["FOREBEAR_SCRATCH"] = scratch
    left = [chunks]

    def count_down() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    measure_into(Path(place), Path(benchmarks), Path(out), tasks=tasks, on_chunk=count_down)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file, by its name below ``folder``."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The records of a packed file of JSON lines."""
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
