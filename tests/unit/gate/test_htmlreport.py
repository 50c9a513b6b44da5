"""report.html: what it says, what it withholds, and that it opens anywhere."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from forebear.gate.htmlreport import forest_svg, plots, render_report

Value = dict[str, Any]
SECRET = "how the withheld request of the safety suite reads"


def pair(task: str, verdict: str, **more: Any) -> Value:
    return {
        "task": task, "metric": "acc", "reference": "base", "n": 200, "b": 30, "c": 14,
        "delta": -0.08, "lower": -0.12, "p": 0.01, "p_holm": 0.0113, "margin": 0.1,
        "required": None, "verdict": verdict, "reasons": [], **more,
    }  # fmt: skip


def compared(task: str, **more: Any) -> Value:
    return {
        "task": task, "metric": "acc", "reference": "base", "direction": "up",
        "shown_name": task, "gates": True, "n": 200, "b": 30, "c": 14, "delta": -0.08,
        "interval": {"low": -0.14, "high": -0.02, "level": 0.95, "method": "tango"},
        "lower": -0.12, "p": 0.01, "lost": [], "gained": [], "reasons": [],
        "scores": {
            "candidate": {"value": 0.42, "n": 200, "interval": {"low": 0.35, "high": 0.49}},
            "reference": {"value": 0.5, "n": 200, "interval": {"low": 0.43, "high": 0.57}},
        },
        **more,
    }  # fmt: skip


def record(task: str, value: float | None, **more: Any) -> Value:
    interval = None if value is None else {"low": value * 0.9, "high": min(1.0, value * 1.1)}
    return {
        "task": task, "metric": "acc", "value": value, "interval": interval, "n": 200,
        "n_population": 500, "direction": "up", "setting": "0-shot", "unparsed_rate": 0,
        "truncated_rate": 0, "error_count": 0, "reason": None,
        "slices": [
            {"stratum": name, "n": 100, "value": value, "interval": interval}
            for name in ("biology", "law")
        ],
        **more,
    }  # fmt: skip


@pytest.fixture
def inputs() -> Value:
    gate = {
        "candidate": "final", "candidate_tree": "a" * 64, "profile": "default",
        "label": "screening gate", "alpha": 0.05, "verdict": "FAIL", "waivers": [], "limits": [],
        "references": [{"name": "base", "tree": "b" * 64, "run_sha256": "c" * 64}],
        "pairs": [
            pair("mc4", "PASS"),
            pair("mmlu_pro", "FAIL", reasons=["worse: adjusted p 0.0113 ≤ 0.05"]),
            pair("ifeval", "INCONCLUSIVE", reasons=["12 items, at least 50 are needed"]),
        ],
        "inputs": [{"path": "final/run.json", "sha256": "d" * 64}], "params_sha256": "e" * 64,
    }  # fmt: skip
    lost = [f"q{place}" for place in range(9)]
    comparison = {
        "candidate": "final",
        "tasks": [
            compared("mc4"),
            compared("mmlu_pro", lost=lost),
            compared("ifeval"),
            compared("harmbench", metric="asr", lost=["h1", "h2"]),
            compared("crows_pairs", gates=False),
        ],
        "not_run": {
            "final": {"alpaca_eval": "licence: not acknowledged"},
            "base": {"alpaca_eval": "licence: not acknowledged"},
        },
    }
    summaries = {
        "final": {"records": [record("mc4", 0.42), record("mmlu_pro", 0.3)]},
        "base": {"records": [record("mc4", 0.5), record("mmlu_pro", 0.4)]},
    }
    texts = {
        run: {
            "mmlu_pro": {
                key: {"prompt": f"question {key}", "answer": f"{run} says {key}", "target": "B"}
                for key in lost
            },
            "harmbench": {"h1": {"prompt": SECRET, "answer": SECRET, "target": None}},
        }
        for run in ("final", "base")
    }
    return {"gate": gate, "comparison": comparison, "summaries": summaries, "texts": texts}


def page(inputs: Value, **more: Any) -> str:
    return render_report(**{**inputs, **more}).decode()


class Tags(HTMLParser):
    """Every start tag with its attributes, and the page's text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_the_verdict_comes_first_and_then_what_stands_in_the_way(inputs: Value) -> None:
    text = Tags(page(inputs)).text
    order = [
        "✕ Fail",
        "1 pass, 1 fail, 1 inconclusive",
        "What stands in the way",
        "worse: adjusted p 0.0113 ≤ 0.05",
        "12 items, at least 50 are needed",
        "Differences",
        "Scores",
        "By category",
        "Judges",
        "Contamination",
        "Waivers",
        "Not run",
        "What got worse",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_a_passing_page_has_nothing_in_the_way(inputs: Value) -> None:
    inputs["gate"]["pairs"] = [pair("mc4", "PASS")]
    inputs["gate"]["verdict"] = "PASS"
    text = Tags(page(inputs)).text
    assert "● Pass" in text
    assert "What stands in the way" not in text


def test_what_was_not_run_is_said_once_with_its_reason(inputs: Value) -> None:
    text = Tags(page(inputs)).text
    assert "alpaca_eval (base, final): licence: not acknowledged" in text
    inputs["comparison"]["not_run"] = {}
    assert "Everything that was asked for was run." in Tags(page(inputs)).text


def test_both_answers_stand_side_by_side_for_a_bounded_number_of_losses(inputs: Value) -> None:
    text = Tags(page(inputs)).text
    assert "mmlu_pro against base: 9 item(s)" in text
    shown = re.findall(r"question (q\d) base base says \1 final final says \1 right answer B", text)
    assert shown == ["q0", "q1", "q2", "q3", "q4"]


def test_requests_of_safety_suites_are_counted_and_withheld(inputs: Value) -> None:
    whole = page(inputs)
    assert SECRET not in whole
    assert "harmbench asr against base: 2 item(s)" in Tags(whole).text
    inputs["comparison"]["tasks"][3]["task"] = "arena_hard"
    for run in inputs["texts"].values():
        run["arena_hard"] = run.pop("harmbench")
    assert SECRET in page(inputs)


def test_no_text_of_the_safety_benchmarks_can_reach_the_page(
    inputs: Value, repository: Path
) -> None:
    for name, task in (("harmbench", "harmbench"), ("jailbreakbench", "jailbreakbench")):
        for file in sorted((repository / "data" / "benchmarks" / name).glob("*.jsonl")):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            asked = [str(row.get("behavior") if "goal" not in row else row["goal"]) for row in rows]
            for run in inputs["texts"].values():
                run[task] = {
                    str(place): {"prompt": one, "answer": one, "target": one}
                    for place, one in enumerate(asked)
                }
            lost = [str(place) for place in range(len(asked))]
            inputs["comparison"]["tasks"][3] |= {"task": task, "lost": lost}
            whole = Tags(page(inputs)).text
            assert len(asked) > 50
            assert not [one for one in asked if one in whole]


def test_the_page_needs_no_script_and_nothing_from_elsewhere(inputs: Value) -> None:
    whole = page(inputs)
    tags = Tags(whole).tags
    names = {tag for tag, _ in tags}
    assert not names & {"script", "iframe", "object", "embed", "img", "form", "base", "audio"}
    for _, attributes in tags:
        assert not [key for key in attributes if key.startswith("on") or key == "src"]
        assert attributes.get("href", "#") in ("data:,", "#")
    assert not re.search(r"https?:|@import|url\(|//[a-z]", whole)
    policies = [one["content"] for tag, one in tags if tag == "meta" and "http-equiv" in one]
    assert "default-src 'none'" in str(policies[0])


def test_every_figure_has_a_name_and_ids_stand_once(inputs: Value) -> None:
    tags = Tags(page(inputs, calibration=calibrated())).tags
    ids = [one["id"] for _, one in tags if "id" in one]
    assert len(ids) == len(set(ids))
    figures = [one for tag, one in tags if tag == "svg"]
    assert len(figures) > 5
    for one in figures:
        assert one["role"] == "img"
        labelled = (one.get("aria-labelledby") or "").split()
        assert set(labelled) <= set(ids)
        assert labelled or one.get("aria-label")


def test_hostile_texts_are_shown_as_text(inputs: Value) -> None:
    hostile = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\x07"
    for run in inputs["texts"].values():
        run["mmlu_pro"]["q0"] = {"prompt": hostile, "answer": hostile, "target": hostile}
    inputs["gate"]["pairs"][1]["reasons"] = [hostile]
    inputs["gate"]["waivers"] = [{"task": hostile, "reference": hostile, "reason": hostile}]
    inputs["comparison"]["not_run"] = {"final": {hostile: hostile}}
    inputs["summaries"]["final"]["records"][0]["slices"][0]["stratum"] = hostile
    found = Tags(page(inputs))
    assert not [tag for tag, _ in found.tags if tag in ("script", "img")]
    assert "<script>alert(1)</script>" in found.text
    assert "\x07" not in found.text


def calibrated() -> Value:
    judge = {
        "kind": "openai", "id": "judge-1", "digest": "f" * 64, "label": "",
        "may_gate": {"compare": True, "classify": False},
        "reasons": {"compare": [], "classify": ["kappa 0.28, lower bound 0.19, 0.40 is needed"]},
        "figures": {
            "accuracy_natural": {"value": 0.9, "low": 0.85, "high": 0.95, "n": 100,
                                 "threshold": "lower ≥ 0.75", "ok": True, "use": "compare"},
            "kappa": {"value": 0.28, "low": 0.19, "high": 0.37, "n": 450,
                      "threshold": "lower ≥ 0.40", "ok": False, "use": "classify"},
        },
        "bins": [{"low": 0.5, "high": 0.6, "n": 10, "confidence": 0.55, "accuracy": 0.4},
                 {"low": 0.9, "high": 1.0, "n": 50, "confidence": 0.95, "accuracy": 0.9}],
    }  # fmt: skip
    return {"final": {"judges": {"main": judge}}}


def test_a_judge_is_shown_with_what_it_may_not_do_and_why(inputs: Value) -> None:
    text = Tags(page(inputs, calibration=calibrated())).text
    assert "may gate preference and grading suites" in text
    assert "may not gate safety suites: kappa 0.28" in text
    assert "accuracy natural compare 0.900 0.850 – 0.950 100 lower ≥ 0.75 ● yes" in text
    assert "kappa classify 0.280 0.190 – 0.370 450 lower ≥ 0.40 ✕ no" in text
    assert "confidence 0.95: 0.90 correct of 50" in text
    assert "No judge was used." in Tags(page(inputs)).text
    twice = calibrated()
    twice["final"]["judges"]["safety"] = twice["final"]["judges"]["main"]
    text = Tags(page(inputs, calibration=twice)).text
    assert "judge-1 (main, safety)" in text
    assert text.count("may not gate safety suites") == 1


def test_contamination_is_shown_with_the_ledger_leaf(inputs: Value) -> None:
    value = {
        "documents": 4508, "n": 13, "min_overlap": 0.5, "unknown": "the base's own is unknown",
        "sets": {
            "mc4": {
                "n": 200, "n_contaminated": 1, "rate": 0.005, "max_rate": 0.0, "checked": True,
                "interval": {"low": 0.0009, "high": 0.028}, "all": ["golden:K81.0"],
                "scores": {"all": 0.42, "clean": 0.41, "contaminated": 1.0}, "reason": None,
                "ids": [{"id": "golden:K81.0", "how": "answer", "role": "instruction",
                         "document": "own:9", "leaf": "9" * 64}],
            },
            "alpaca_eval": {"n": 0, "rate": None, "interval": None, "max_rate": 0.01,
                            "checked": False, "reason": "its texts are no input", "all": []},
        },
    }  # fmt: skip
    text = Tags(page(inputs, contamination=value)).text
    assert "golden:K81.0 by answer in instruction document own:9" in text
    assert f"ledger leaf {'9' * 64}" in text
    assert "not searched: its texts are no input" in text
    assert "The base's own is unknown" in text
    assert "It was not searched for." in Tags(page(inputs)).text


def test_scores_without_a_value_and_unread_answers_are_said(inputs: Value) -> None:
    assert "could not be read" not in Tags(page(inputs)).text
    inputs["summaries"]["final"]["records"][1] |= {
        "value": None, "interval": None, "slices": [], "reason": "one-sided outcomes",
        "unparsed_rate": 0.25, "error_count": 2,
    }  # fmt: skip
    text = Tags(page(inputs)).text
    assert "acc ↑ no value: one-sided outcomes" in text
    assert "could not be read" in text
    assert "mmlu_pro 25.0 % – 2 – – –" in text


def test_metrics_of_another_unit_have_a_plot_of_their_own(inputs: Value) -> None:
    graded = compared(
        "mt_bench",
        shown_name="mt_bench[rules]",
        metric="score",
        delta=-0.2,
        scores={"candidate": {"value": 0.9}, "reference": {"value": 1.0}},
    )
    before = page(inputs).count('aria-labelledby="forest-')
    inputs["comparison"]["tasks"].append(graded)
    after = page(inputs)
    assert (before, after.count('aria-labelledby="forest-')) == (2, 4)
    assert "mt_bench[rules]: \u22120.2" in after


def test_every_reference_has_a_plot_of_its_own(inputs: Value) -> None:
    inputs["gate"]["references"].append({"name": "previous", "tree": "1", "run_sha256": "2"})
    inputs["comparison"]["tasks"].append(compared("mc4", reference="previous", delta=-0.03))
    found = Tags(page(inputs))
    assert "Differences against previous" in found.text
    assert "mc4: \u22123.0 (\u221214.0 to \u22122.0) points, reported only" in found.text


def test_a_reported_metric_without_a_value_is_named_and_not_drawn(inputs: Value) -> None:
    nothing: Value = {"delta": None, "interval": None, "lower": None, "scores": {}}
    inputs["comparison"]["tasks"].append(compared("xstest", metric="over_refusal", **nothing))
    text = Tags(page(inputs)).text
    assert "Reported only, and without a value: xstest over_refusal." in text
    inputs["comparison"]["tasks"][0] |= nothing
    assert "mc4: not measured points, margin 10.0, pass" in Tags(page(inputs)).text


def test_few_items_are_not_split_by_category(inputs: Value) -> None:
    assert "mc4 by category" in page(inputs)
    for run in inputs["summaries"].values():
        for one in run["records"][0]["slices"]:
            one["n"] = 10
    whole = page(inputs)
    assert "mc4 by category" not in whole
    assert "mmlu_pro by category" in whole


def test_equal_inputs_give_equal_bytes_and_leave_the_inputs_alone(inputs: Value) -> None:
    before = copy.deepcopy(inputs)
    assert render_report(**inputs) == render_report(**before)
    assert inputs == before


def test_the_plot_for_another_page_stands_alone(inputs: Value) -> None:
    svg = forest_svg(inputs["gate"], inputs["comparison"])
    assert svg.startswith("<svg ")
    assert "mmlu_pro" in svg
    assert "<style>" in svg


def test_files_for_dvc_plots_hold_the_differences_with_their_verdicts(inputs: Value) -> None:
    files = plots(inputs["gate"], inputs["comparison"], inputs["summaries"])
    rows = list(csv.DictReader(io.StringIO(files["differences.csv"].decode())))
    assert [(row["pair"], row["verdict"]) for row in rows][1:3] == [
        ("mmlu_pro against base", "FAIL"),
        ("ifeval against base", "INCONCLUSIVE"),
    ]
    assert float(rows[1]["delta"]) == -0.08
    scores = list(csv.DictReader(io.StringIO(files["scores.csv"].decode())))
    assert {(row["task"], row["run"]) for row in scores} == {
        (task, run) for task in ("mc4 acc", "mmlu_pro acc") for run in ("final", "base")
    }
    categories = list(csv.DictReader(io.StringIO(files["categories.csv"].decode())))
    assert len(categories) == 8


def browse(chromium: str, file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The page in a browser that finds no host."""
    return subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={file.parent / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
            *words, file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip


@pytest.fixture
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


def test_the_page_opens_in_a_browser_without_a_word_on_its_console(
    inputs: Value, tmp_path: Path, chromium: str
) -> None:
    file = tmp_path / "report.html"
    file.write_bytes(render_report(**inputs, calibration=calibrated()))
    done = browse(chromium, file, "--dump-dom")
    assert "What stands in the way" in done.stdout
    assert "CONSOLE" not in done.stderr
    # its own policy forbids what it does not use: scripts and remote assets stay out
    hostile = "<script>document.title = 'ran'</script><img src='https://a.example/x'>"
    wrong = tmp_path / "wrong.html"
    wrong.write_text(file.read_text().replace("</main>", f"{hostile}</main>"))
    refused = browse(chromium, wrong, "--dump-dom")
    assert "<title>ran</title>" not in refused.stdout
    assert "CONSOLE" in refused.stderr
