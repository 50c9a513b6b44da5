"""The recorded distill stage: code is judged in a sandbox inside the fences of the stage."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("trl")

from tests.support.clone import Clone, clone_smoke
from tests.unit.train.tiny import write_checkpoint

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

_ROWS = [
    {"id": f"p{n}", "prompt": f"times {n}", "answer": "-", "form": "code",
     "tests": f"assert f(3) == {3 * n}", "difficulty": "easy" if n < 4 else "hard"}
    for n in range(7)
]  # fmt: skip
_HOSTILE = {
    "p4": "print('passed')",
    "p5": "import os\nwhile True: os.fork()",
    "p6": "import socket\ndef f(x): socket.create_connection(('127.0.0.1', 1)); return 18",
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose only stage is distill, run by ``dvc repro`` on a data set of code."""
    folder = tmp_path_factory.mktemp("confined")
    clone = clone_smoke(folder / "clone", config=folder / "config")
    declared = yaml.safe_load((clone.root / "dvc.yaml").read_text())["stages"]["distill"]
    declared["cmd"] = declared["cmd"].replace(
        "--teacher data/sft/checkpoint", "--student data/sft/checkpoint --dataset data/given.jsonl"
    )
    declared["deps"].append("data/given.jsonl")
    (clone.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"distill": declared}}))
    params = yaml.safe_load((clone.root / "params.yaml").read_text())
    params["distill"] |= {
        "teacher": {
            "kind": "trajectories", "name": "made by hand", "terms": "CC0-1.0",
            "training_on_output": "permitted", "by": "A. B.",
        },
        "verifier": "code",
        "forms": ["code"],
        "held_out_rows": 1,
        "sandbox": {"cpu_s": 2, "wall_s": 20, "memory_mb": 256, "processes": 4},
    }  # fmt: skip
    params["distill"]["student"] |= {"batch_rows": 2, "epochs": 1}
    (clone.root / "params.yaml").write_text(yaml.safe_dump(params))
    rows = clone.root / "data" / "curate" / "corpus" / "instruction.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text("".join(json.dumps(row) + "\n" for row in _ROWS))
    answers = {row["id"]: f"def f(x): return {row['id'][1:]} * x" for row in _ROWS} | _HOSTILE
    given = [json.dumps({"id": name, "response": text}) for name, text in answers.items()]
    (clone.root / "data" / "given.jsonl").write_text("\n".join(given) + "\n")
    write_checkpoint(clone.root / "data" / "sft" / "checkpoint")
    clone.run("forebear", "keys", "ensure")
    clone.run("dvc", "repro")
    return clone


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _confinement(clone: Clone) -> dict[str, Any]:
    envelope = json.loads((clone.root / "links" / "distill.link").read_bytes())
    if "payload" in envelope:
        link = json.loads(base64.b64decode(envelope["payload"]))
    else:
        link = envelope["signed"]
    found: dict[str, Any] = link["byproducts"]["forebear"]["confinement"]
    return found


def test_sandbox_stands_inside_the_stages_own_fences(recorded: Clone) -> None:
    confinement = _confinement(recorded)
    if confinement["level"] != "enforced":
        pytest.skip("this machine grants no confinement")
    assert confinement["network"] == "none"
    folder = recorded.root / "data" / "distill" / "trajectories"
    kept, rejected = _lines(folder / "kept.jsonl"), _lines(folder / "rejected.jsonl")
    for row in (*kept, *rejected):
        assert row["sandbox"]["network"] == "none"
        assert row["sandbox"]["processes"] == "limited"
        assert row["sandbox"]["files"] == "closed"
    assert {row["id"] for row in rejected} <= set(_HOSTILE)
    assert not {row["id"] for row in kept} & set(_HOSTILE)
    assert len(kept) >= 3
    assert len(rejected) >= 2


def test_yield_is_told_per_verifier_difficulty_and_reason(recorded: Clone) -> None:
    metrics = json.loads((recorded.root / "data" / "distill" / "metrics.json").read_bytes())
    told = metrics["yield"]
    assert told["by_verifier"]["code"]["answers"] == told["answers"] == 6
    assert told["by_difficulty"]["easy"]["rate"] == 1
    assert told["by_difficulty"]["hard"]["rate"] == 0
    assert sum(told["rejected_by"].values()) == told["answers"] - told["kept"]
