"""Every suite at once on a tiny model: offline, private where it must be, and safe from kills."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import socket
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.measuring import (
    N_GOLDEN,
    TASKS,
    build_place,
    contents,
    measure_and_die,
    measure_into,
    read_rows,
)

pytest.importorskip("lm_eval")
pytest.importorskip("math_verify")
SAFETY = ("harmbench", "jailbreakbench", "xstest")
# one of each way: likelihoods, texts, judged turns, private answers
KILLED = {task: TASKS[task] for task in ("mc4_far", "bbq", "code", "mt_bench", "harmbench")}


@pytest.fixture(scope="module")
def benchmarks(repository: Path) -> Path:
    return repository / "data" / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBEAR_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_place(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def attempts() -> list[Any]:
    return []


@pytest.fixture(scope="module")
def measured(place: Path, benchmarks: Path, attempts: list[Any]) -> Path:
    """The undisturbed run of the base; sockets that it tried to open are in ``attempts``."""
    with pytest.MonkeyPatch.context() as patch:

        def note(*arguments: Any, **_: Any) -> None:
            attempts.append(arguments)
            raise OSError("no network")

        patch.setattr(socket.socket, "connect", note)
        patch.setattr(socket, "getaddrinfo", note)
        measure_into(place, benchmarks, place / "run")
    return place / "run"


@pytest.fixture(scope="module")
def run(measured: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((measured / "run.json").read_text())
    return value


def test_every_suite_runs_without_opening_a_socket(
    run: dict[str, Any], attempts: list[Any]
) -> None:
    assert attempts == []
    sandboxed = {"humaneval"} if "humaneval" in run["not_run"] else set()
    assert run["tasks"].keys() == TASKS.keys() - {"alpaca_eval"} - sandboxed
    assert "licence" in run["not_run"]["alpaca_eval"]


def test_each_task_says_how_it_may_be_called(run: dict[str, Any]) -> None:
    shown = {task: record["shown_name"] for task, record in run["tasks"].items()}
    assert shown["mc4_far"] == "mc4_far"
    assert shown["mmlu_pro"] == "mmlu_pro[0shot-mc, subset]"
    assert shown["ifeval"] == "ifeval[subset]"
    assert shown["bbq"] == "bbq[3 choices, subset]"
    assert {shown[task] for task in (*SAFETY, "mt_bench")} == {
        "harmbench[rules]", "jailbreakbench[rules]", "xstest[rules]", "mt_bench[rules]",
    }  # fmt: skip


def test_the_gate_reads_the_run_and_its_judges_calibration(measured: Path) -> None:
    from forebear.gate.runs import load_run

    found = load_run(measured)
    assert found.calibration is not None
    assert found.tasks["mt_bench"].judge == "rules-v1"
    assert found.tasks["bbq"].strata is not None
    assert found.tasks["mc4_far"].strata is None
    for task in found.tasks.values():
        assert task.metrics


def test_summary_figures_lie_inside_their_intervals(measured: Path) -> None:
    records = json.loads((measured / "summary.json").read_text())["records"]
    assert {(r["task"], r["metric"]) for r in records} >= {
        ("bbq", "bias_ambiguous"), ("ifeval", "instruction_loose"), ("title", "f1"),
    }  # fmt: skip
    for record in records:
        if record["interval"] is not None:
            low, high = record["interval"]["low"], record["interval"]["high"]
            assert low - 1e-9 <= record["value"] <= high + 1e-9


def test_items_of_a_scene_share_a_cluster_and_a_category_does(measured: Path) -> None:
    bbq = read_rows(measured / "items" / "bbq.jsonl.gz")
    assert Counter(Counter(row["cluster"] for row in bbq).values()) == {4: 2}
    unseen = read_rows(measured / "items" / "golden_unseen.jsonl.gz")
    assert {row["cluster"] for row in unseen} == {"A0", "A1", "A2", "A3"}
    assert len(unseen) == N_GOLDEN


def test_an_answer_that_cannot_be_read_is_flagged_not_just_wrong(measured: Path) -> None:
    rows = read_rows(measured / "items" / "code.jsonl.gz")
    # random weights write no codes
    assert any("unparsed" in row["flags"] for row in rows)
    for row in rows:
        assert ("unparsed" in row["flags"]) == (row["extracted"] == "")
        assert row["value"] in (0.0, 1.0)
    run = json.loads((measured / "run.json").read_text())
    share = sum("unparsed" in row["flags"] for row in rows) / len(rows)
    assert run["tasks"]["code"]["unparsed_rate"] == share


def test_harmful_requests_and_their_answers_stay_out_of_the_run(
    measured: Path, benchmarks: Path
) -> None:
    requests = [
        json.loads(line)[key]
        for name, key in (
            ("harmbench/harmbench_standard.jsonl", "behavior"),
            ("jailbreakbench/harmful_behaviors.jsonl", "goal"),
        )
        for line in (benchmarks / name).read_bytes().splitlines()
    ]
    import gzip

    everything = b"".join(
        gzip.decompress(data) if name.endswith(".gz") else data
        for name, data in contents(measured).items()
    ).decode()
    assert not [request for request in requests if request in everything]
    texts = {file.name.removesuffix(".jsonl.gz") for file in (measured / "texts").iterdir()}
    assert not texts & {*SAFETY, "bbq", "crows_pairs"}
    assert "mt_bench" in texts
    private = measured.with_name("run.private")
    assert {file.stem for file in private.iterdir()} == set(SAFETY)
    assert {stat.S_IMODE(file.stat().st_mode) for file in private.iterdir()} == {0o600}


def journal_keys(file: Path) -> Counter[str]:
    return Counter(key for line in file.read_bytes().splitlines() for key in json.loads(line)["k"])


def test_killed_five_times_it_ends_in_the_same_bytes_and_asks_nothing_twice(
    place: Path, benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure_whole(out: Path, scratch: Path) -> int:
        monkeypatch.setenv("FOREBEAR_SCRATCH", str(scratch))
        chunks: list[int] = []
        measure_into(place, benchmarks, out, tasks=KILLED, on_chunk=lambda: chunks.append(1))
        return len(chunks)

    total = measure_whole(tmp_path / "calm", tmp_path / "calm-scratch")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lm_eval.evaluator", "forebear.train.evaluate.lm"])
    draw = random.Random(20260101)  # noqa: S311  # a seed, no secret
    scratch, out = tmp_path / "scratch", tmp_path / "run"
    journal, done = scratch / "journal.jsonl", 0
    for killed in range(5):
        chunks = draw.randint(1, (total - done) // (6 - killed) + 1)
        places = tuple(map(str, (place, benchmarks, out, scratch)))
        child = context.Process(target=measure_and_die, args=(*places, KILLED, chunks))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert not out.exists()
        done += chunks
        assert len(journal.read_bytes().splitlines()) == done < total
    with journal.open("ab") as stream:
        stream.write(b'{"c":"torn')
    assert done + measure_whole(out, scratch) == total
    for suffix in ("", ".private"):
        resumed, calm = (contents(tmp_path / f"{name}{suffix}") for name in ("run", "calm"))
        assert resumed == calm
    assert journal_keys(journal) == journal_keys(tmp_path / "calm-scratch" / "journal.jsonl")


def test_other_weights_and_other_limits_hit_nothing_in_the_journal(
    place: Path, benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))
    asked: list[int] = []

    def count(name: str, max_tokens: int) -> int:
        before = len(asked)
        tasks = {"code": {"limit": 6, "max_tokens": max_tokens}}
        measure_into(
            place, benchmarks, tmp_path / "out", name=name, tasks=tasks,
            on_chunk=lambda: asked.append(1),
        )  # fmt: skip
        return len(asked) - before

    assert count("base", 4) == 3
    assert count("base", 4) == 0
    assert count("final", 4) == 3
    assert count("base", 5) == 3
