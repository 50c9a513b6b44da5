"""The transition guard and ``lr: auto``, on a model that has a domain to forget."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import transition
from forebear.errors import ConfigError, RecordError
from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint
from forebear.train.packed import Shards, boundary_inputs
from forebear.train.sft import SftParams, train_sft
from forebear.train.sft_sweep import COLUMNS
from tests.unit.train.test_cpt import write_shards
from tests.unit.train.test_sft import PARAMS, ROWS
from tests.unit.train.tiny import tree, write_checkpoint, write_rows

LENGTH = 32
GOOD, TOO_HIGH = 5e-3, 5e-2
LORA = {**PARAMS, "method": "lora", "lr": GOOD, "epochs": 4, "min_retention": 0.5}
AUTO = {**LORA, "lr": "auto"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products: a second thread only waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBEAR_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A parent that has learned to count, rows that teach something else, and the shards."""
    import torch

    folder = tmp_path_factory.mktemp("guard")
    shards = write_shards(folder / "shards")
    rng = np.random.default_rng(1)
    for name, n in (("train", 32), ("validation_domain", 4)):
        ids = (3 + (rng.integers(0, 37, size=(n, 1)) + np.arange(LENGTH)) % 37).astype("<u2")
        ids[:, 10] = 2
        (shards / f"{name}.bin").write_bytes(ids.tobytes())
    base = write_checkpoint(folder / "base")
    model, data = load_model(base), Shards(shards)
    torch.set_num_threads(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = boundary_inputs(data.train_NT[:], data.eos_id)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch, use_cache=False).loss.backward()
        optimizer.step()
    save_checkpoint(model, load_tokenizer(base), base)
    return base, write_rows(folder / "rows.jsonl", ROWS), shards


def run(inputs: tuple[Path, Path, Path], out: Path, values: dict[str, Any]) -> dict[str, Any]:
    base, rows, shards = inputs
    train_sft(
        SftParams(**values),
        base=base,
        rows=rows,
        shards=shards,
        out=out / "checkpoint",
        adapter=out / "adapter",
        metrics=out / "metrics.json",
        curves=out / "curves.csv",
        row_list=out / "rows.jsonl",
        sweep=out / "sweep.csv",
    )
    figures: dict[str, Any] = json.loads((out / "metrics.json").read_bytes())
    return figures


def table(out: Path) -> list[dict[str, str]]:
    with (out / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def sweep(*rates: float, steps: int = 4) -> dict[str, Any]:
    return {**AUTO, "sweep": {"rates": rates, "steps": steps}}


THREE = sweep(1e-3, TOO_HIGH, GOOD)


def test_a_good_rate_learns_and_keeps_and_one_ten_times_too_high_is_refused(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    figures = run(inputs, tmp_path, LORA)
    before, after = figures["before"], figures["after"]
    assert figures["retention"] == pytest.approx(
        math.exp(before["domain_loss"] - after["domain_loss"])
    )
    assert 0.5 < figures["retention"] < 1.1
    assert figures["uptake"] == pytest.approx(before["answer_loss"] - after["answer_loss"])
    assert figures["uptake"] > 2
    assert after["answer_accuracy"] > before["answer_accuracy"]
    assert (tmp_path / "sweep.csv").read_text() == ",".join(COLUMNS) + "\n"

    good = tree(tmp_path)
    with pytest.raises(RecordError, match=r"retention is 0\.\d+, below .* domain loss went from"):
        run(inputs, tmp_path, {**LORA, "lr": TOO_HIGH})
    assert tree(tmp_path) == good
    lost = run(inputs, tmp_path / "lost", {**LORA, "lr": TOO_HIGH, "min_retention": 0.0})
    assert lost["retention"] < 0.1 < figures["retention"]


@pytest.fixture(scope="module")
def undisturbed(inputs: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outs of a run that found its own rate."""
    out = tmp_path_factory.mktemp("undisturbed")
    run(inputs, out, THREE)
    return out


def test_auto_takes_the_highest_rate_inside_the_bound_as_if_it_had_been_given(
    inputs: tuple[Path, Path, Path], undisturbed: Path, tmp_path: Path
) -> None:
    figures = json.loads((undisturbed / "metrics.json").read_bytes())
    assert figures["lr"] == GOOD
    assert figures["lr_chosen_by"] == "sweep"
    rows = table(undisturbed)
    assert [float(row["lr"]) for row in rows] == [1e-3, GOOD, TOO_HIGH, GOOD]
    assert [row["steps"] for row in rows] == ["4", "4", "4", "16"]
    assert [row["within_bound"] for row in rows] == ["1", "1", "0", "1"]
    assert [row["chosen"] for row in rows] == ["0", "0", "0", "1"]
    assert float(rows[0]["uptake"]) < float(rows[1]["uptake"])
    assert figures["sweep"]["steps"] == 12
    run(inputs, tmp_path, LORA)
    for name in ("checkpoint", "adapter"):
        assert tree(undisturbed / name) == tree(tmp_path / name)


def test_a_rate_that_holds_for_a_few_steps_only_gives_way_to_the_next_lower(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    figures = run(inputs, tmp_path, sweep(GOOD, 2e-2))
    assert figures["lr"] == GOOD
    short, whole = table(tmp_path)[:2], table(tmp_path)[2:]
    assert [row["within_bound"] for row in short] == ["1", "1"]
    assert [(float(row["lr"]), row["within_bound"]) for row in whole] == [(2e-2, "0"), (GOOD, "1")]


def test_a_sweep_in_which_no_rate_holds_is_refused_with_what_each_lost(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match=r"0\.\d+ at 0\.05, 0\.000 at 1e\+30"):
        run(inputs, tmp_path, sweep(1e30, TOO_HIGH))
    assert not tree(tmp_path)


def test_candidates_out_of_range_need_an_allowance() -> None:
    values = {**sweep(1e-4, 5e-3), "allow": ()}
    with pytest.raises(ConfigError, match=r"0\.005 is outside the accepted range"):
        SftParams(**values).rates()
    assert SftParams(**{**values, "sweep": {"rates": (1e-4, 2e-4)}}).rates() == (1e-4, 2e-4)
    assert SftParams(**{**values, "sweep": {}}).rates() == (1e-4, 2e-4, 5e-4)
    full = SftParams(**{**values, "method": "full", "sweep": {}})
    assert full.rates() == (1e-5, 2e-5, 5e-5)


def test_the_benchmark_tells_what_each_rate_teaches_and_destroys(
    inputs: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, rows, shards = inputs
    section = {key: value for key, value in LORA.items() if key not in ("seed", "allow")}
    (tmp_path / "params.yaml").write_text(json.dumps({"seed": 3, "sft": section}))
    monkeypatch.chdir(tmp_path)
    command = ["--base", str(base), "--rows", str(rows), "--shards", str(shards)]
    transition.main([*command, "--rates", f"{TOO_HIGH},{GOOD}", "--steps", "4"])
    said = capsys.readouterr().out
    assert "auto takes 0.005, the highest" in said
    assert "refused: sft: retention is 0.0" in said
    with Path("build/transition/transition.csv").open(newline="") as file:
        assert [row["chosen"] for row in csv.DictReader(file)] == ["1", "0"]
    drawing = Path("build/transition/transition.svg").read_text()
    assert all(f">{label}</text>" in drawing for label in ("5e-3", "5e-2", "Retention", "Uptake"))


_CHILD = """
import json, sys
from pathlib import Path
from tests.unit.train.test_sft_guard import run
values, paths, out = json.loads(sys.argv[1])
values["allow"], values["sweep"]["rates"] = tuple(values["allow"]), tuple(values["sweep"]["rates"])
run(tuple(map(Path, paths)), Path(out), values)
"""


@pytest.mark.parametrize(
    ("kept", "torn"),
    [
        ("sweep/0.001.json", "sweep/0.005.state/trainer/checkpoint-2"),  # inside the second trial
        ("sweep/0.05.json", "whole/0.005.state/trainer/checkpoint-7"),  # in the second epoch
    ],
)
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(
    inputs: tuple[Path, Path, Path],
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: str,
    torn: str,
) -> None:
    scratch = tmp_path / "scratch"
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(scratch))
    monkeypatch.setenv("FOREBEAR_SAVE_EVERY_S", "0")
    said = json.dumps([THREE, [str(path) for path in inputs], str(tmp_path / "resumed")])
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, said], cwd=Path(__file__).parents[3], env=os.environ
    )
    while not (scratch / torn).exists():
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "resumed").exists()
    finished = (scratch / kept).stat()
    run(inputs, tmp_path / "resumed", THREE)
    assert (scratch / kept).stat().st_mtime_ns == finished.st_mtime_ns  # not tried again
    assert tree(tmp_path / "resumed") == tree(undisturbed)
