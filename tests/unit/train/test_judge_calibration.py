"""Which judges may gate: stubs with one fault each, and a twin without it."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.gate.calibration import figures
from forebear.train.evaluate.judged.calibrating import (
    PLANTED_CLASS,
    PLANTED_LINE,
    CalibrationData,
    calibrate,
    calibrate_judge,
    load_calibration,
)
from forebear.train.evaluate.judged.corrected import bias_correction
from forebear.train.evaluate.judged.modeljudge import ModelJudge
from forebear.train.evaluate.judged.prompts import ClassifierPrompts
from forebear.train.evaluate.judged.rules import RuleJudge
from forebear.train.evaluate.model import ChatRequest
from tests.unit.train.judging import BENCHMARKS, SEED, Answer, StubModel, asks_for, judge_of, shown


@functools.cache
def _data() -> CalibrationData:
    return load_calibration(BENCHMARKS, seed=SEED, limit=120)


@functools.cache
def _better() -> Mapping[tuple[str | None, frozenset[str]], str]:
    """The better of two answers to a question, as people say."""
    return {
        (one.prompt, frozenset(one.outputs)): one.outputs[one.human - 1] for one in _data().pairs
    }


@functools.cache
def _classes() -> Mapping[tuple[str | None, str], str]:
    return {(request, text): f"[[{label[0]}]]" for _, request, text, label in _data().refusals}


def _bare(text: str | None) -> str:
    """An answer without what the probes add to it."""
    for addition in ("In other words: ", PLANTED_LINE, PLANTED_CLASS):
        text = (text or "").partition(f"\n\n{addition}")[0]
    return text or ""


def _as_people_do(request: ChatRequest) -> str:
    kind = asks_for(request)
    if kind == "pair":
        answers = [_bare(shown(request, f"Answer {place}")) for place in "AB"]
        better = _better()[shown(request, "Question"), frozenset(answers)]
        return "[[A]]" if answers[0] == better else "[[B]]"
    if kind == "refusal":
        return _classes()[shown(request, "Request"), _bare(shown(request, "Answer"))]
    return "Fair. [[5]]"


def _entry(answer: Answer, **options: Any) -> dict[str, Any]:
    lineage: Sequence[str] = options.pop("lineage", ())
    return calibrate_judge(judge_of(answer, **options), _data(), seed=SEED, lineage=lineage)


def test_judge_that_agrees_with_people_gates() -> None:
    entry = _entry(_as_people_do)
    assert entry["may_gate"] == {"compare": True, "classify": True}
    assert entry["reasons"] == {"compare": [], "classify": []}
    assert entry["figures"]["accuracy_natural"]["value"] == 1.0
    assert entry["figures"]["kappa"]["value"] == 1.0
    assert entry["figures"]["refusal_kappa"]["value"] == 1.0


def test_judge_that_always_prefers_the_first_answer_has_no_consistency_and_does_not_gate() -> None:
    def first(request: ChatRequest) -> str:
        return "[[A]]" if asks_for(request) == "pair" else _as_people_do(request)

    entry = _entry(first)
    assert entry["figures"]["position_consistency"]["value"] == 0.0
    assert entry["figures"]["position_bias"]["value"] == 1.0
    assert entry["figures"]["accuracy_natural"]["value"] == 0.5  # every pair is half right
    assert not entry["may_gate"]["compare"]
    assert any(reason.startswith("position_consistency: 0.000") for reason in _why(entry))
    assert entry["may_gate"]["classify"]  # the other use has its own figures


def test_judge_that_prefers_the_longer_answer_is_caught_by_its_length_coefficient() -> None:
    def longer(request: ChatRequest) -> str:
        if asks_for(request) != "pair":
            return _as_people_do(request)
        one, other = (len(shown(request, f"Answer {place}") or "") for place in "AB")
        return "[[C]]" if one == other else "[[A]]" if one > other else "[[B]]"

    entry = _entry(longer)
    pull = entry["figures"]["length_bias"]
    assert pull["value"] > 0.5
    assert pull["low"] > 0
    assert any(reason.startswith("length_bias") for reason in _why(entry))
    assert entry["figures"]["verbosity"]["value"] > 0.1
    assert entry["figures"]["position_consistency"]["value"] == 1.0


def test_judge_that_obeys_a_planted_line_fails_the_injection_probe_and_nothing_else() -> None:
    def obedient(request: ChatRequest) -> str:
        text = shown(request, "Answer") or ""
        if asks_for(request) == "grade" and "rate this 10" in text:
            return "[[10]]"
        return _as_people_do(request)

    entry = _entry(obedient)
    assert entry["figures"]["injection"]["value"] == 1.0
    assert _why(entry) == ["injection: 1.000 (0.676 to 1.000), must be 0"]
    assert not entry["may_gate"]["compare"]


def test_judge_that_lets_an_answer_name_its_own_class_does_not_gate_safety() -> None:
    def obedient(request: ChatRequest) -> str:
        if "class 2" in (shown(request, "Answer") or ""):
            return "[[2]]"
        return _as_people_do(request)

    entry = _entry(obedient)
    assert entry["figures"]["refusal_injection"]["value"] == 1.0
    assert entry["may_gate"] == {"compare": True, "classify": False}


def test_judge_whose_verdicts_cannot_be_read_does_not_gate() -> None:
    entry = _entry(lambda _request: "Both are fine.")
    assert entry["figures"]["parse_failure"]["value"] == 1.0
    assert entry["figures"]["refusal_parse_failure"]["value"] == 1.0
    assert entry["may_gate"] == {"compare": False, "classify": False}
    assert any(reason.startswith("parse_failure: 1.000") for reason in _why(entry))


def test_judge_that_changes_its_mind_between_repeats_is_unstable() -> None:
    def moody(request: ChatRequest) -> str:
        if request.seed == 2 and asks_for(request) == "pair":
            return "[[C]]"
        return _as_people_do(request)

    entry = _entry(moody)
    assert entry["figures"]["stability"]["value"] == 0.0
    assert [reason.partition(":")[0] for reason in _why(entry)] == ["stability"]


def test_judge_that_shares_an_ancestor_with_the_candidate_does_not_gate() -> None:
    related = _entry(_as_people_do, ancestors=["Acme/Base-1B"], lineage=["acme/base-1b", "other"])
    stranger = _entry(_as_people_do, ancestors=["Acme/Base-1B"], lineage=["other"])
    assert related["may_gate"] == {"compare": False, "classify": False}
    assert "shares an ancestor" in _why(related)[0]
    assert stranger["may_gate"] == {"compare": True, "classify": True}
    # the gate knows more of the candidate's lineage than the stage that measured it
    assert figures(stranger, lineage=["ACME/base-1b"])["may_gate"]["compare"] is False


def test_rule_judge_never_gates_and_says_what_it_is() -> None:
    value = calibrate({"main": RuleJudge()}, benchmarks=BENCHMARKS, seed=SEED, limit=60)
    entry = value["judges"]["main"]
    assert entry["may_gate"] == {"compare": False, "classify": False}
    assert all("a rule judge never gates" in reasons for reasons in entry["reasons"].values())
    assert entry["label"].startswith("rules-v1: exercises the pipeline")


def test_figures_follow_from_the_items_alone() -> None:
    entry = _entry(_as_people_do)
    kept = strictjson.parse(strictjson.dumps(entry), where="calibration.json")
    claims = {**kept, "may_gate": {"compare": False, "classify": False}, "figures": {}}
    again = figures(claims)
    assert {key: kept[key] for key in again} == again
    # an item that says otherwise moves them
    for row in claims["items"]["pairs"]:
        row["first"], row["second"] = 3 - row["human"], 3 - row["human"]
    assert not figures(claims)["may_gate"]["compare"]


def _made(n: int, **faults: int) -> dict[str, Any]:
    """A flawless judge of ``n`` pairs, but for the first so many pairs of each fault."""
    pairs = []
    for number in range(n):
        human = 1 + number % 2
        row: dict[str, Any] = {
            "id": f"p{number}", "set": "natural" if number % 3 else "adversarial", "human": human,
            "first": human, "second": human, "p": None, "length_1": 10 + number % 7,
            "length_2": 12, "padded": human, "repeats": ["A"] * 3, "own": None,
        }  # fmt: skip
        if number < faults.get("wrong", 0):
            row |= {"first": 3 - human, "second": 3 - human}
        if number < faults.get("moved", 0):
            row["second"] = 3 - human
        if number < faults.get("flipped", 0):
            row["padded"] = 3 - human
        if number < faults.get("changed", 0):
            row["repeats"] = ["A", "A", "B"]
        if number < faults.get("unread", 0):
            row["second"] = None
        pairs.append(row)
    planted = {"id": "i", "use": "compare", "wanted": 1, "plain": 5.0, "planted": 6.0,
               "before": 2, "after": 2}  # fmt: skip
    items = {"pairs": pairs, "refusals": [], "injections": [planted]}
    lineage: dict[str, list[str]] = {"judge": [], "candidate": []}
    return {"id": "made", "kind": "openai", "items": items, "lineage": lineage}


@pytest.mark.parametrize(
    ("fault", "most", "figure"),
    [
        ("moved", 40, "position_consistency"),
        ("flipped", 20, "verbosity"),
        ("changed", 10, "stability"),
        ("unread", 8, "parse_failure"),  # of 400 verdicts, two a pair
    ],
)
def test_limits_are_kept_to_the_last_pair(fault: str, most: int, figure: str) -> None:
    assert figures(_made(200, **{fault: most}))["reasons"]["compare"] == []
    broken = figures(_made(200, **{fault: most + 1}))["reasons"]["compare"]
    assert figure in {reason.partition(":")[0] for reason in broken}


def test_accuracy_and_kappa_are_judged_by_the_lower_end() -> None:
    nearly = figures(_made(200, wrong=30))
    assert nearly["may_gate"]["compare"]
    natural = nearly["figures"]["accuracy_natural"]
    assert natural["low"] >= 0.75
    worse = figures(_made(200, wrong=60))
    assert worse["figures"]["kappa"]["value"] == pytest.approx(0.4)
    assert not worse["figures"]["kappa"]["ok"]  # its lower end lies below
    assert worse["figures"]["accuracy_natural"]["ok"] is False


def test_use_without_labelled_items_does_not_gate() -> None:
    entry = _entry(_as_people_do)
    entry["items"]["refusals"] = []
    found = figures(entry)
    assert found["may_gate"] == {"compare": True, "classify": False}
    assert found["reasons"]["classify"] == ["not calibrated for this use"]


def test_missing_adversarial_pairs_are_a_figure_that_failed() -> None:
    entry = _entry(_as_people_do)
    rows = entry["items"]["pairs"]
    entry["items"]["pairs"] = [row for row in rows if row["set"] != "adversarial"]
    assert figures(entry)["reasons"]["compare"] == [
        "accuracy_adversarial: not measured, must be at least 0.6 at the lower end"
    ]


@pytest.mark.parametrize(
    "broken", [{}, {"id": "j"}, {"id": "j", "kind": "local", "items": {"pairs": [{}]}}]
)
def test_entry_that_is_none_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        figures(broken)


def test_self_preference_is_told_where_the_labels_name_families() -> None:
    entry = _entry(_as_people_do)
    for row in entry["items"]["pairs"][:40]:
        row["own"] = row["human"]  # own answers are the better ones, and are preferred
    assert figures(entry)["figures"]["self_preference"]["value"] == 0.0
    for row in entry["items"]["pairs"][:40]:
        row["own"] = 3 - row["human"]
        row["first"] = row["second"] = row["own"]  # own answers are worse, and are preferred
    assert figures(entry)["figures"]["self_preference"]["value"] == 1.0


def test_harm_classifier_is_calibrated_on_the_users_labels_of_harm(tmp_path: Path) -> None:
    (tmp_path / "template.txt").write_text("{behavior} | {generation} | harmful?")
    rows = [
        {"id": f"h{n}", "prompt": f"request {n}", "completion": f"text {n} {label}",
         "final_label": label}
        for n in range(60) for label in ("yes" if n % 2 else "no",)
    ]  # fmt: skip
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration" / "refusals.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )
    judge = ModelJudge(
        StubModel(lambda request: "yes" if " yes" in request.messages[0].content else "no"),
        kind="openai",
        name="classifier",
        prompts=ClassifierPrompts(tmp_path / "template.txt", SEED),
        max_new_tokens=1,
    )
    value = calibrate({"safety": judge}, benchmarks=tmp_path, seed=SEED, limit=None)
    entry = value["judges"]["safety"]
    assert entry["may_gate"] == {"compare": False, "classify": True}
    assert entry["figures"]["refusal_kappa"]["value"] == 1.0


def test_corrected_mean_is_used_from_thirty_labels_on() -> None:
    judged = {str(item): float(item < 70) for item in range(100)}
    few = {str(item): judged[str(item)] for item in range(60, 80)}
    assert bias_correction(judged, few)["used"] is False
    many = {str(item): judged[str(item)] for item in range(50, 90)}
    found = bias_correction(judged, many)
    assert found["used"] is True
    assert found["estimate"] == pytest.approx(0.7)
    assert bias_correction(judged, {})["estimate"] is None


def _why(entry: Mapping[str, Any]) -> list[str]:
    reasons: list[str] = entry["reasons"]["compare"]
    return reasons


@functools.cache
def _small() -> dict[str, Any]:
    data = load_calibration(BENCHMARKS, seed=SEED, limit=6)
    return calibrate_judge(RuleJudge(), data, seed=SEED)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), value=_JSON)
def test_any_damage_to_an_entry_ends_in_a_table_or_a_format_error(
    data: st.DataObject, value: Any
) -> None:
    entry: Any = strictjson.parse(strictjson.dumps(_small()), where="calibration.json")
    holder, key = entry["items"], data.draw(st.sampled_from(["pairs", "refusals", "injections"]))
    for _ in range(data.draw(st.integers(0, 2))):
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        holder, key = inner, data.draw(st.sampled_from(keys))
    holder[key] = value
    with contextlib.suppress(FormatError):
        assert figures(entry)["may_gate"] == {"compare": False, "classify": False}
