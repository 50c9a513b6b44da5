"""Measuring: a tiny model, the real harness, kills, damage and the way to the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, GateError
from forebear.train.evaluate.journal import Journal, request_key
from forebear.train.evaluate.suite import load_items, select_items
from forebear.train.evaluate.suites import SUITES
from forebear.train.stage import validate_section
from tests.support.tiny_model import build_checkpoint

N_ITEMS = 24


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, a golden set and a general set."""
    root = tmp_path_factory.mktemp("measure")
    build_checkpoint(root / "base", seed=1)
    build_checkpoint(root / "final", seed=2)
    golden = [
        {
            "id": f"g{index}",
            "description": f"disorder number {index}",
            "code": f"A{index:02d}.{index}",
            "choices": [f"A{index:02d}.{index}", f"B{index:02d}", f"C{index:02d}.1", "Z99"],
            "answer": index % 4,
            "stratum": f"chapter {index % 3}",
        }
        for index in range(N_ITEMS)
    ]
    write_lines(root / "golden" / "mc4_far.jsonl", golden)
    write_lines(root / "golden" / "mc4.jsonl", golden)
    general = [
        {
            "question_id": index,
            "question": f"What is {index} plus one?",
            "options": [str(index), str(index + 1), "none"],
            "answer": "B",
            "answer_index": 1,
            "category": ("math", "health")[index % 2],
        }
        for index in range(N_ITEMS)
    ]
    write_lines(root / "benchmarks" / "mmlu_pro" / "test_280.jsonl", general)
    return root


def params(**values: Any) -> Any:
    from forebear.train.evaluate.measure import MeasureParams

    tasks = {"mc4_far": {}, "mc4": {"limit": 12}, "mmlu_pro": {"limit": 10}}
    return MeasureParams.model_validate({"seed": 7, "batch_contexts": 4, "tasks": tasks, **values})


def measure_into(place: Path, name: str, out: Path, **more: Any) -> Path:
    from forebear.train.evaluate.measure import measure

    checkpoint = more.pop("checkpoint", place / name)
    on_chunk = more.pop("on_chunk", lambda: None)
    measure(
        params(**more),
        checkpoint=checkpoint,
        golden=place / "golden",
        benchmarks=place / "benchmarks",
        out=out,
        name=name,
        on_chunk=on_chunk,
    )
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def measured(place: Path) -> Path:
    """The undisturbed run of the base."""
    return measure_into(place, "base", place / "runs" / "base")


def test_a_run_holds_items_identity_and_summary(measured: Path) -> None:
    assert sorted(contents(measured)) == [
        "items/mc4.jsonl.gz",
        "items/mc4_far.jsonl.gz",
        "items/mmlu_pro.jsonl.gz",
        "run.json",
        "summary.json",
        "texts/mc4.jsonl.gz",
        "texts/mc4_far.jsonl.gz",
        "texts/mmlu_pro.jsonl.gz",
    ]
    run = json.loads((measured / "run.json").read_text())
    assert {task: record["n"] for task, record in run["tasks"].items()} == {
        "mc4": 12,
        "mc4_far": N_ITEMS,
        "mmlu_pro": 10,
    }
    assert run["tasks"]["mc4"]["identity"]["chat_template_sha256"]
    assert run["tasks"]["mmlu_pro"]["identity"]["chat_template_sha256"] is None
    for record in json.loads((measured / "summary.json").read_text())["records"]:
        assert record["interval"]["low"] <= record["value"] <= record["interval"]["high"]
        assert record["published_setting"] is False


class Stop(BaseException):
    """Stands for a kill: nothing may catch it."""


def test_a_killed_measurement_resumes_to_the_same_bytes(
    place: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))
    calls = []

    def stop_at_third() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    with pytest.raises(Stop):
        measure_into(place, "base", tmp_path / "out", on_chunk=stop_at_third)
    journal = tmp_path / "scratch" / "journal.jsonl"
    with journal.open("ab") as stream:
        stream.write(b'{"c":"torn')
    before = journal.read_bytes().splitlines()[:3]
    resumed: list[int] = []
    measure_into(place, "base", tmp_path / "out", on_chunk=lambda: resumed.append(1))
    lines = journal.read_bytes().splitlines()
    assert lines[:3] == before
    assert len(lines) == 3 + len(resumed)
    assert contents(tmp_path / "out") == contents(measured)


def test_a_finished_journal_asks_nothing_and_another_model_hits_nothing(
    place: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))
    asked: list[int] = []
    count = lambda: asked.append(1)  # noqa: E731
    measure_into(place, "base", tmp_path / "one", on_chunk=count)
    first = len(asked)
    measure_into(place, "base", tmp_path / "two", on_chunk=count)
    assert len(asked) == first
    assert contents(tmp_path / "two") == contents(measured)
    measure_into(place, "final", tmp_path / "three", on_chunk=count)
    assert len(asked) == 2 * first


def test_packed_scores_equal_plain_ones(place: Path, measured: Path, tmp_path: Path) -> None:
    import gzip

    plain = measure_into(place, "base", tmp_path / "plain", pack_choices=False)
    for task in ("mc4_far", "mc4", "mmlu_pro"):
        pairs = zip(
            *(
                gzip.decompress((run / "items" / f"{task}.jsonl.gz").read_bytes()).splitlines()
                for run in (measured, plain)
            ),
            strict=True,
        )
        for packed, alone in pairs:
            ours, theirs = (
                json.loads(line)["components"]["log_likelihoods"] for line in (packed, alone)
            )
            assert ours == pytest.approx(theirs, abs=1e-4)


def test_truncated_weights_are_one_clear_error(place: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(place / "base", broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(EnvironmentFailure, match=r"damaged"):
        measure_into(place, "base", tmp_path / "out", checkpoint=broken)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_one_clear_error(place: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    import shutil

    shutil.copytree(place / "base", broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EnvironmentFailure, match=r"finite"):
        measure_into(place, "base", tmp_path / "out", checkpoint=broken)


def test_answers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

    from forebear.train.evaluate.lm import JournaledLM

    class Broken:
        def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
            return [(float("nan"), False)] * len(requests)

    journal = Journal(tmp_path / "journal.jsonl")
    model = JournaledLM(Broken(), journal, identity={}, contexts_per_chunk=2)
    request = Instance("loglikelihood", {}, ("a", "b"), 0)
    with pytest.raises(EnvironmentFailure, match=r"finite"):
        model.loglikelihood([request])
    assert journal.answers == {}


def test_the_gate_reads_what_measure_wrote(place: Path, measured: Path, tmp_path: Path) -> None:
    from forebear.train.evaluate.decide import EvalParams, evaluate

    final = measure_into(place, "final", tmp_path / "final")
    section = {
        "profile": "smoke",
        "first_release": True,
        "min_items": 5,
        "required": {"mc4_far": {"vs": "base", "min_gain": 0.0}},
        "margins": {"mmlu_pro": 0.1},
    }

    def decide_with(candidate: Path, **more: Any) -> Path:
        evaluate(
            EvalParams.model_validate({"seed": 7, **section, **more}),
            candidate=candidate,
            references=[measured],
            golden=place / "golden",
            out=tmp_path / "verdict",
            metrics_file=tmp_path / "metrics.json",
        )
        return tmp_path / "verdict"

    gate = json.loads((decide_with(final) / "gate.json").read_text())
    assert gate["verdict"] == "SMOKE"
    assert [pair["task"] for pair in gate["pairs"]] == ["mc4_far", "mmlu_pro"]
    with pytest.raises(GateError, match=r"INCONCLUSIVE"):
        decide_with(measured, profile="default")


def test_a_run_of_another_golden_set_is_refused(
    place: Path, measured: Path, tmp_path: Path
) -> None:
    from forebear.train.evaluate.decide import EvalParams, evaluate

    (tmp_path / "golden").mkdir()
    for name in ("mc4", "mc4_far"):
        text = (place / "golden" / f"{name}.jsonl").read_text()
        (tmp_path / "golden" / f"{name}.jsonl").write_text(text.replace("disorder", "Disorder"))
    with pytest.raises(GateError, match=r"another golden set"):
        evaluate(
            EvalParams.model_validate(
                {"seed": 7, "first_release": True, "margins": {"mmlu_pro": 0.1}}
            ),
            candidate=measured,
            references=[measured],
            golden=tmp_path / "golden",
            out=tmp_path / "verdict",
            metrics_file=tmp_path / "metrics.json",
        )


def test_a_byte_flipped_inside_the_journal_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    journal = Journal(file)
    for key in ("a", "b", "c"):
        journal.append([key], [[-1.5, True]])
    journal.close()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(EnvironmentFailure) as caught:
        Journal(file)
    assert caught.value.where.endswith("journal.jsonl:2")


def test_the_first_answer_to_a_request_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(["a"], [[-1.0, True]])
    journal.append(["a", "b"], [[-1.1, True], [-2.0, False]])
    journal.close()
    assert journal.answers["a"] == [-1.0, True]
    assert Journal(tmp_path / "journal.jsonl").answers["a"] == [-1, True]


def test_request_keys_hold_model_and_decoding() -> None:
    request = {"kind": "generate_until", "arguments": ["x", {"max_gen_toks": 8}]}
    longer = {"kind": "generate_until", "arguments": ["x", {"max_gen_toks": 9}]}
    keys = {
        request_key({"tree": "a"}, request),
        request_key({"tree": "b"}, request),
        request_key({"tree": "a"}, longer),
    }
    assert len(keys) == 3


def test_limits_are_spread_over_strata() -> None:
    rows = [{"item_id": str(i), "item_stratum": "large" if i < 30 else "small"} for i in range(40)]
    chosen = select_items(rows, task="t", seed=1, limit=8)
    assert sum(row["item_stratum"] == "large" for row in chosen) == 6


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[]\n", r"object"),
        ('{"id":"a"}\n', r"lacks"),
        ("", r"no item left"),
    ],
)
def test_broken_item_files_are_refused(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "mc4.jsonl"
    file.write_text(text)
    with pytest.raises(FormatError, match=match):
        load_items(SUITES["mc4"], file, seed=1, limit=None, max_chars=None)


def test_an_unknown_task_is_a_config_error() -> None:
    from forebear.train.evaluate.measure import MeasureParams

    values = {"seed": 1, "measure": {"tasks": {"mc5": {}}}}
    with pytest.raises(ConfigError, match=r"unknown task mc5"):
        validate_section(MeasureParams, "measure", values)


def one_item_run(value: float) -> Any:
    from forebear.train.evaluate.measured import Measured, Metric

    row = {
        "id": "a", "item_sha256": "0", "stratum": "s", "cluster": "a", "requests": [],
        "output_sha256": "0", "extracted": "", "value": value, "components": {}, "flags": [],
        "judge": None,
    }  # fmt: skip
    identity = dict.fromkeys(
        ("task_sha256", "data_sha256", "prompt_sha256", "chat_template_sha256", "software"), "0"
    )
    facts = {
        "setting": "s", "licence": "MIT", "n_population": 1, "decoding": "d",
        "published_setting": False, "shown_name": "demo", "judge": None,
    }  # fmt: skip
    metric = Metric("accuracy", "mean", "value", "up")
    return Measured("demo", [row], {**identity, "source": "x", "seed": 1}, (metric,), facts)


@pytest.mark.parametrize("where", ["item", "figure"])
def test_a_figure_that_is_not_finite_is_refused_by_name_and_writes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from forebear.train.evaluate import report

    def write(value: float) -> None:
        report.write_run(
            tmp_path, name="r", model={"tree_sha256": "0"}, tasks=[one_item_run(value)],
            not_run={}, calibration=None, private=None,
        )  # fmt: skip

    with monkeypatch.context() as patch:
        if where == "figure":
            broken = {"value": float("nan"), "n": 1, "interval": None, "reason": None}
            patch.setattr(report, "score", lambda *_, **__: broken)
        with pytest.raises(FormatError) as caught:
            write(float("nan") if where == "item" else 1.0)
    assert "demo" in str(caught.value)
    assert where == "item" or "accuracy" in caught.value.what
    assert not (tmp_path / "run.json").exists()
    write(1.0)
    assert (tmp_path / "run.json").exists()
