"""Judged suites with models and judges of a few lines: what rows, figures and refusals come out."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson
from forebear.gate.aggregate import aggregate
from forebear.train.evaluate.judged import CHOICES, measure_judged
from forebear.train.evaluate.judged.protocol import Judge
from forebear.train.evaluate.judged.rules import LABEL, RuleJudge
from forebear.train.evaluate.measured import Measured, NotRun
from forebear.train.evaluate.model import ChatRequest, Generation
from tests.unit.train.judging import BENCHMARKS, SEED, Answer, StubModel, judge_of, shown

_SAFETY = ("harmbench", "jailbreakbench", "xstest")
_REFUSAL = "I'm sorry, but I can't help with that."
_INSTRUCTIONS = Path(__file__).parents[2] / "support" / "instructions_24.jsonl"


@functools.cache
def _rules() -> RuleJudge:
    """One for all: it starts a process to compare mathematics."""
    return RuleJudge()


def _run(
    task: str, answer: Answer, judge: Judge | None = None, *, benchmarks: Path = BENCHMARKS,
    opponent: Any = None, **choice: Any,
) -> Measured | NotRun:  # fmt: skip
    one = CHOICES[task].model_validate(choice)
    return measure_judged(
        task, one, model=StubModel(answer), judges={one.judge: judge or _rules()},
        benchmarks=benchmarks, seed=SEED, baseline=opponent,
    )  # fmt: skip


def _measure(task: str, answer: Answer, judge: Judge | None = None, **options: Any) -> Measured:
    found = _run(task, answer, judge, **options)
    assert isinstance(found, Measured)
    strictjson.dumps(
        {"rows": list(found.rows), "identity": dict(found.identity), "facts": dict(found.facts)}
    )  # can be written
    assert list(found.rows) == sorted(found.rows, key=lambda row: str(row["id"]))
    return found


def _figure(measured: Measured, name: str) -> float | None:
    metric = next(one for one in measured.metrics if one.name == name)
    return aggregate(metric.aggregate, measured.rows, metric.of)


def _sentence(request: ChatRequest) -> str:
    return f"That is a fair question, and this is the answer to it: {len(request.messages)}."


def _gibberish(request: ChatRequest) -> str:
    """Words at random, another line of them for every request."""
    text = hashlib.sha256(request.messages[-1].content.encode()).hexdigest() * 3
    return " ".join(text[place : place + 6] for place in range(0, len(text), 6))


# ── safety ─────────────────────────────────────────────────────────────────────────────────────


def test_model_that_always_refuses_has_no_attack_success_and_full_over_refusal() -> None:
    harm = _measure("harmbench", lambda _: _REFUSAL, limit=24)
    jail = _measure("jailbreakbench", lambda _: _REFUSAL, limit=40)
    safe = _measure("xstest", lambda _: _REFUSAL, limit=36)
    assert _figure(harm, "asr") == 0.0
    assert _figure(jail, "asr") == 0.0
    assert _figure(jail, "over_refusal") == 1.0
    assert _figure(safe, "over_refusal") == 1.0
    assert _figure(safe, "full_refusal") == 1.0
    assert _figure(safe, "under_refusal") == 0.0
    assert harm.facts["not_meaningful"] is None  # it writes sentences


def test_model_that_complies_with_everything_has_full_attack_success_and_no_over_refusal() -> None:
    harm = _measure("harmbench", _sentence, limit=24)
    jail = _measure("jailbreakbench", _sentence, limit=40)
    safe = _measure("xstest", _sentence, limit=36)
    assert (_figure(harm, "asr"), _figure(jail, "asr")) == (1.0, 1.0)
    assert (_figure(jail, "over_refusal"), _figure(safe, "over_refusal")) == (0.0, 0.0)
    assert _figure(safe, "under_refusal") == 1.0


@pytest.mark.parametrize("task", _SAFETY)
@pytest.mark.parametrize(
    "answer", [_gibberish, lambda _: "", lambda _: "no no no no no no no no no"],
    ids=["random words", "nothing", "the same over and over"],
)  # fmt: skip
def test_model_that_writes_no_sentences_is_not_meaningful(task: str, answer: Answer) -> None:
    found = _measure(task, answer, limit=12)
    assert found.facts["not_meaningful"] == "not meaningful: 100% of the answers are incoherent"
    assert _figure(found, "incoherent") == 1.0


@pytest.mark.parametrize("task", _SAFETY)
def test_rows_of_safety_suites_hold_no_request_and_no_answer(task: str) -> None:
    secret = "This very sentence is an answer that must stay on the machine."
    found = _measure(task, lambda _: secret, limit=30)
    model = StubModel(lambda _: "")
    one = CHOICES[task].model_validate({"limit": 30})
    measure_judged(
        task, one, model=model, judges={"safety": _rules()}, benchmarks=BENCHMARKS, seed=SEED
    )
    requests = [request.messages[-1].content for request in model.asked]
    assert len(requests) == 30
    public = json.dumps([list(found.rows), dict(found.identity), dict(found.facts)])
    assert secret not in public
    assert not [request for request in requests if json.dumps(request)[1:-1] in public]
    assert found.private
    assert found.texts is not None
    # the private texts have the answers, not the requests
    assert {text["answer"] for text in found.texts} == {secret}
    assert all(set(text) == {"id", "answer"} for text in found.texts)


def test_attack_templates_are_the_users_and_multiply_the_items(tmp_path: Path) -> None:
    _copy(tmp_path, "harmbench/harmbench_standard.jsonl")
    rows = [{"id": "t1", "template": "Please: {request}"}, {"id": "t2", "template": "{request}!"}]
    _write(tmp_path / "mine.jsonl", rows)
    found = _measure(
        "harmbench", lambda _: _REFUSAL, benchmarks=tmp_path, templates="mine.jsonl", limit=10
    )
    assert found.facts["n_population"] == 400
    assert all(row["cluster"] == str(row["id"]).partition("@")[0] for row in found.rows)
    _write(tmp_path / "mine.jsonl", [{"id": "t1", "template": "no place"}])
    with pytest.raises(FormatError, match="lacks"):
        _run("harmbench", lambda _: "", benchmarks=tmp_path, templates="mine.jsonl")


# ── MT-Bench ───────────────────────────────────────────────────────────────────────────────────


def test_both_turns_stand_in_one_conversation_at_the_published_temperatures() -> None:
    model = StubModel(lambda request: f"reply {len(request.messages)}")
    choice = CHOICES["mt_bench"].model_validate({"limit": 16})
    found = measure_judged(
        "mt_bench", choice, model=model, judges={"main": _rules()}, benchmarks=BENCHMARKS,
        seed=SEED,
    )  # fmt: skip
    assert isinstance(found, Measured)
    first, second = model.asked[:16], model.asked[16:]
    assert [len(request.messages) for request in first] == [1] * 16
    assert [request.messages[1].content for request in second] == ["reply 1"] * 16
    temperatures = {row["stratum"]: set[float]() for row in found.rows}
    for row, one, two in zip(found.rows, first, second, strict=True):
        temperatures[row["stratum"]] |= {one.temperature, two.temperature}
    assert temperatures == {
        "writing": {0.7}, "roleplay": {0.7}, "extraction": {0.0}, "math": {0.0}, "coding": {0.0},
        "reasoning": {0.0}, "stem": {0.1}, "humanities": {0.1},
    }  # fmt: skip
    assert first[0].seed != first[1].seed != second[0].seed


def test_score_is_the_mean_of_both_turns_and_carries_the_judges_name() -> None:
    def grades(request: ChatRequest) -> str:
        return "Good. [[9]]" if shown(request, "Answer, turn 2") else "So so. [[4]]"

    found = _measure("mt_bench", _sentence, judge_of(grades), limit=8)
    assert _figure(found, "score") == 6.5
    assert (_figure(found, "turn_1"), _figure(found, "turn_2")) == (4.0, 9.0)
    assert found.facts["shown_name"] == "mt_bench[subset]"
    assert found.identity["judge"]["model"] == "stub-judge"


def test_rule_judge_labels_its_scores_wherever_they_go() -> None:
    for task in ("mt_bench", "harmbench", "xstest", "jailbreakbench"):
        found = _measure(task, _sentence, limit=8)
        assert found.facts["shown_name"] == f"{task}[rules]"
        assert LABEL in found.facts["notes"]
        assert found.facts["published_setting"] is False
        assert {row["judge"]["id"] for row in found.rows} == {"rules-v1"}


def test_override_replaces_a_wrong_reference_and_changes_the_data_digest(tmp_path: Path) -> None:
    _copy_mt_bench(tmp_path)
    seen: list[str] = []

    def grades(request: ChatRequest) -> str:
        seen.append(shown(request, "Reference answer") or "")
        return "[[5]]"

    before = _measure("mt_bench", _sentence, judge_of(grades), benchmarks=tmp_path)
    assert not any("the mended reference" in text for text in seen)
    override = {"question_id": 111, "turns": ["the mended reference", "the second"]}
    _write(tmp_path / "mt_bench" / "reference_overrides.jsonl", [override])
    after = _measure("mt_bench", _sentence, judge_of(grades), benchmarks=tmp_path)
    assert seen.count("the mended reference") == 1
    assert before.identity["data_sha256"] != after.identity["data_sha256"]


def test_pairwise_win_needs_both_orders(tmp_path: Path) -> None:
    _copy_mt_bench(tmp_path)
    answers = [
        {"question_id": number, "choices": [{"turns": ["theirs 1", "theirs 2"]}]}
        for number in range(81, 161)
    ]
    _write(tmp_path / "theirs.jsonl", answers)

    def always_first(_: ChatRequest) -> str:
        return "[[A]]"

    def ours(request: ChatRequest) -> str:
        last = shown(request, "Answer A, turn 2") or shown(request, "Answer A")
        return "[[B]]" if (last or "").startswith("theirs") else "[[A]]"

    tied = _pairwise(tmp_path, always_first)
    won = _pairwise(tmp_path, ours)
    assert _figure(tied, "win_rate") == 0.5
    assert _figure(won, "win_rate") == 1.0
    assert {row["judge"]["order"] for row in won.rows} == {"both"}


def _pairwise(benchmarks: Path, judge: Answer) -> Measured:
    choice = CHOICES["mt_bench"].model_validate(
        {"mode": "pairwise", "baseline": "file:theirs.jsonl", "limit": 8}
    )
    found = measure_judged(
        "mt_bench", choice, model=StubModel(_sentence), judges={"main": judge_of(judge)},
        benchmarks=benchmarks, seed=SEED,
    )  # fmt: skip
    assert isinstance(found, Measured)
    return found


# ── verdicts that fail ─────────────────────────────────────────────────────────────────────────


def test_judge_that_never_gives_a_verdict_leaves_errors_and_no_score() -> None:
    asked: list[ChatRequest] = []

    def mute(request: ChatRequest) -> str:
        asked.append(request)
        return "A thoughtful answer."

    found = _measure("mt_bench", _sentence, judge_of(mute), limit=8)
    assert [row["flags"] for row in found.rows] == [["error", "unparsed"]] * 8
    assert {row["value"] for row in found.rows} == {None}
    assert _figure(found, "score") is None  # not zero
    assert len(asked) == 32  # two turns of eight, each with one second chance


def test_second_chance_mends_a_verdict_of_the_wrong_form() -> None:
    def clumsy(request: ChatRequest) -> str:
        return "[[7]]" if len(request.messages) > 2 else "I would say seven."

    found = _measure("mt_bench", _sentence, judge_of(clumsy), limit=8)
    assert _figure(found, "score") == 7.0
    assert {tuple(row["flags"]) for row in found.rows} == {()}
    # four requests of the judge beside two of the model
    assert {len(row["requests"]) for row in found.rows} == {6}


def test_answer_that_could_not_be_had_is_an_error_and_is_not_judged() -> None:
    def answer(request: ChatRequest) -> str | Generation:
        if "Hawaii" in request.messages[0].content:
            return Generation("HTTP 500", "error", 0, 0)
        return _sentence(request)

    found = _measure("mt_bench", answer)
    failed = [row for row in found.rows if row["flags"]]
    assert [(row["id"], row["flags"], row["value"]) for row in failed] == [("81", ["error"], None)]
    assert _figure(found, "score") is not None


def test_answer_at_the_token_limit_is_flagged() -> None:
    found = _measure("xstest", lambda _: Generation("And so on", "length", 1, 1), limit=4)
    assert {tuple(row["flags"]) for row in found.rows} == {("truncated",)}


# ── preferences ────────────────────────────────────────────────────────────────────────────────


def test_alpaca_eval_is_not_run_without_the_users_data_and_word(tmp_path: Path) -> None:
    shutil.copy(_INSTRUCTIONS, tmp_path / "mine.jsonl")
    nothing = _run("alpaca_eval", _sentence)
    silent = _run("alpaca_eval", _sentence, benchmarks=tmp_path, data="mine.jsonl")
    assert nothing == silent == NotRun("alpaca_eval", "licence")
    said = _alpaca(tmp_path, lambda _: "A")
    assert len(said.rows) == 24
    lost = _run(
        "alpaca_eval", _sentence, benchmarks=tmp_path, data="other.jsonl",
        licence_ack="CC-BY-NC-4.0",
    )  # fmt: skip
    assert lost == NotRun("alpaca_eval", "data: other.jsonl")


def _alpaca(folder: Path, judge: Answer) -> Measured:
    shutil.copy(_INSTRUCTIONS, folder / "mine.jsonl")
    return _measure(
        "alpaca_eval", _sentence, judge_of(judge), benchmarks=folder, data="mine.jsonl",
        licence_ack="CC-BY-NC-4.0",
    )  # fmt: skip


def test_alpaca_eval_joins_both_orders_and_keeps_lengths(tmp_path: Path) -> None:
    blind = _alpaca(tmp_path, lambda _: "A")
    assert {row["value"] for row in blind.rows} == {0.5}
    assert _figure(blind, "win_rate") == 50.0
    assert _figure(blind, "lc_win_rate") is None  # fewer than fifty items
    assert "weighted: false" in blind.facts["notes"]
    mine = len(_sentence(ChatRequest((), 1)))
    assert {row["components"]["length"] for row in blind.rows} == {mine}
    assert {row["components"]["baseline_length"] for row in blind.rows} >= {2, 4}

    def ours(request: ChatRequest) -> str:
        return "A" if (shown(request, "Answer A") or "").startswith("That is a fair") else "B"

    assert _figure(_alpaca(tmp_path, ours), "win_rate") == 100.0


def test_arena_hard_plays_two_games_and_counts_much_better_three_times() -> None:
    def judge(request: ChatRequest) -> str:
        candidate_is_a = (shown(request, "Answer A") or "").startswith("That is a fair")
        return "[[A>>B]]" if candidate_is_a else "[[A>B]]"

    found = _measure("arena_hard", _sentence, judge_of(judge), limit=6)
    assert found.facts["setting"].endswith("6 of 500 questions")
    for row in found.rows:
        # the baseline wins as A, the candidate wins by far as A
        assert row["components"]["labels"] == ["A>B", "A>>B"]
        assert row["components"]["weight"] == 4.0
        assert row["value"] == 0.75
        assert -1 <= row["components"]["x_length"] <= 1
    assert _figure(found, "win_rate") == 0.75


def test_style_is_controlled_only_where_there_are_questions_enough() -> None:
    few = _measure("arena_hard", _sentence, limit=8)
    many = _measure("arena_hard", _sentence, limit=50)
    assert [metric.name for metric in few.metrics] == ["win_rate"]
    assert any("at least 50" in note for note in few.facts["notes"])
    assert [metric.name for metric in many.metrics] == ["style_controlled", "win_rate"]
    assert not any("at least 50" in note for note in many.facts["notes"])


def test_judge_that_always_prefers_the_first_answer_ends_in_a_tie() -> None:
    found = _measure("arena_hard", _sentence, judge_of(lambda _: "[[A>B]]"), limit=6)
    assert {row["value"] for row in found.rows} == {0.5}


def test_checkpoint_that_plays_against_itself_is_even() -> None:
    def cut(request: ChatRequest) -> Generation:
        return Generation(_sentence(request), "length", 1, 1)

    def play(opponent: Answer) -> Measured:
        rival = StubModel(opponent)
        return _measure("arena_hard", cut, limit=6, opponent=rival, baseline="checkpoint:me")

    assert {row["value"] for row in play(cut).rows} == {0.5}
    lost = play(lambda _: Generation("HTTP 500", "error", 0, 0))
    assert {(row["value"], row["flags"][0]) for row in lost.rows} == {(None, "error")}


def test_arena_hard_takes_its_opponent_from_a_checkpoint_or_its_texts(tmp_path: Path) -> None:
    rival = StubModel(lambda _: "The rival says this.", "rival")
    choice = CHOICES["arena_hard"].model_validate({"baseline": "checkpoint:base", "limit": 4})

    def play(baseline: Any) -> Measured | NotRun:
        return measure_judged(
            "arena_hard", choice, model=StubModel(_sentence), judges={"main": _rules()},
            benchmarks=BENCHMARKS, seed=SEED, baseline=baseline,
        )  # fmt: skip

    assert play(None) == NotRun("arena_hard", "data: baseline checkpoint:base")
    live = play(rival)
    assert isinstance(live, Measured)
    assert live.texts is not None
    texts = [{"id": text["id"], "answer": text["baseline"]} for text in live.texts]
    file = tmp_path / "texts.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(t) + "\n" for t in texts).encode()))
    replayed = play(file)
    assert isinstance(replayed, Measured)
    values = [[row["value"] for row in one.rows] for one in (live, replayed)]
    assert values[0] == values[1]
    assert live.identity["baseline_sha256"] != replayed.identity["baseline_sha256"]


def test_human_labels_of_these_answers_correct_the_mean_and_others_are_left_aside(
    tmp_path: Path,
) -> None:
    _copy(tmp_path, "harmbench/harmbench_standard.jsonl")
    plain = _measure("harmbench", _sentence, benchmarks=tmp_path, limit=60)
    assert _figure(plain, "asr") == 1.0
    # people say that only half of forty answers were harmful
    labels = [
        {"id": row["id"], "output_sha256": row["output_sha256"], "value": number % 2}
        for number, row in enumerate(plain.rows[:40])
    ]
    _write(tmp_path / "labels.jsonl", labels)
    options: dict[str, Any] = {"benchmarks": tmp_path, "limit": 60, "labels": "labels.jsonl"}
    corrected = _measure("harmbench", _sentence, **options)
    assert corrected.facts["bias_corrected"]["estimate"] == pytest.approx(0.5)
    assert corrected.facts["bias_corrected"]["used"] is True
    assert corrected.facts["notes"][-1].startswith("mean value corrected by 40 human labels: 0.500")
    assert corrected.rows == plain.rows  # the judge's own figure stays beside it
    _write(tmp_path / "labels.jsonl", labels[:20])
    few = _measure("harmbench", _sentence, **options)
    assert few.facts["bias_corrected"]["used"] is False
    other = _measure("harmbench", lambda _: "Another answer, of another model.", **options)
    assert other.facts["bias_corrected"]["n"] == 0
    _write(tmp_path / "labels.jsonl", [{**labels[0], "value": 2}])
    with pytest.raises(FormatError, match="between 0 and 1"):
        _run("harmbench", _sentence, **options)


# ── all ────────────────────────────────────────────────────────────────────────────────────────


def test_larger_limit_contains_the_smaller_one_for_every_checkpoint() -> None:
    small = _measure("xstest", _sentence, limit=30)
    large = _measure("xstest", lambda _: _REFUSAL, limit=90)
    assert {row["id"] for row in small.rows} < {row["id"] for row in large.rows}
    assert len({row["stratum"] for row in small.rows}) == 18


def test_other_judge_or_limit_makes_another_identity_and_another_model_does_not() -> None:
    one = _measure("xstest", _sentence, limit=8)
    same = _measure("xstest", lambda _: _REFUSAL, limit=8)
    more = _measure("xstest", _sentence, limit=9)
    judged = _measure("xstest", _sentence, judge_of(lambda _: "[[1]]"), limit=8)
    assert one.identity == same.identity
    assert len({strictjson.dumps(dict(m.identity)) for m in (one, more, judged)}) == 3


def test_equal_runs_give_equal_rows() -> None:
    first, second = (_measure("mt_bench", _sentence, limit=8) for _ in range(2))
    assert first == second


def test_suite_without_its_data_is_not_run(tmp_path: Path) -> None:
    assert _run("harmbench", _sentence, benchmarks=tmp_path) == NotRun(
        "harmbench", "data: harmbench_standard.jsonl"
    )


def test_unknown_judge_is_refused_by_name() -> None:
    choice = CHOICES["xstest"].model_validate({"judge": "nobody"})
    with pytest.raises(ConfigError, match="no judge 'nobody'"):
        measure_judged(
            "xstest", choice, model=StubModel(_sentence), judges={"safety": _rules()},
            benchmarks=BENCHMARKS, seed=SEED,
        )  # fmt: skip


def _copy(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(BENCHMARKS / name, folder / name)


def _copy_mt_bench(folder: Path) -> None:
    for name in ("question.jsonl", "reference_answer_gpt4.jsonl"):
        _copy(folder, f"mt_bench/{name}")


def _write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
