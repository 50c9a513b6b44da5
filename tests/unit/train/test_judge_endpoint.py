"""Judges behind an endpoint: snapshots, faults, money, kills, log-probabilities, and retirement."""

from __future__ import annotations

import datetime as dt
import json
import math
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from pydantic import ValidationError

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.train.evaluate.backends import Budget, BudgetSettings
from forebear.train.evaluate.journal import Journal
from forebear.train.evaluate.judged import JudgeSettings, calibrate, make_judges
from forebear.train.evaluate.judged.protocol import Behaviour, Graded, Judge, Pair, Question
from tests.support.openai_server import FakeClock, TeacherServer, teacher_server
from tests.unit.train.judging import BENCHMARKS, SEED, StubModel

_SECRET = "sk-the-judges-key-0123456789"  # made up


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TeacherServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", _SECRET)
    with teacher_server(lambda _body: "It is good. [[7]]") as running:
        yield running


def _settings(server: TeacherServer, **changes: Any) -> JudgeSettings:
    section = {
        "kind": "openai",
        "base_url": server.url,
        "model": "big",
        "snapshot": "big-0001",
        "api_key_env": "JUDGE_KEY",
        "concurrency": 1,
        "requests_per_minute": 1e6,
    }
    return JudgeSettings.model_validate(section | changes)


def _open(
    settings: JudgeSettings, file: Path, *, usd: float = 0.0, today: dt.date | None = None,
    clock: FakeClock | None = None,
) -> tuple[Judge, Journal, Budget]:  # fmt: skip
    journal, budget = Journal(file), Budget(BudgetSettings(max_usd=usd))
    judges = make_judges(
        {"main": settings}, journal, seed=SEED, benchmarks=BENCHMARKS, budget=budget, today=today,
        clock=clock or FakeClock(),
    )  # fmt: skip
    return judges["main"], journal, budget


def _cases(count: int) -> list[Graded]:
    return [
        Graded(f"item-{number}", Question((f"question {number}",)), (f"answer {number}",))
        for number in range(count)
    ]  # fmt: skip


def test_verdicts_come_back_in_order_and_the_key_stays_in_the_environment(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.answer = lambda body: f"[[{1 + body['messages'][-1]['content'].count('answer 3')}]]"
    judge, journal, _ = _open(_settings(server, concurrency=4), tmp_path / "j")
    verdicts = judge.grade(_cases(5))
    assert [verdict.score for verdict in verdicts] == [1.0, 1.0, 1.0, 2.0, 1.0]
    assert _SECRET in str(server.seen_headers[0])
    assert _SECRET not in journal.file.read_text() + json.dumps(dict(judge.identity))
    assert judge.name == "big@big-0001"


def test_answers_are_fenced_by_a_mark_that_differs_by_item(
    server: TeacherServer, tmp_path: Path
) -> None:
    prompts: list[str] = []

    def answer(body: Mapping[str, Any]) -> str:
        prompts.append(body["messages"][-1]["content"])
        return "[[5]]"

    server.answer = answer
    judge, _, _ = _open(_settings(server), tmp_path / "j")
    judge.grade(_cases(3))
    marks = {prompt.partition("<<")[2].partition(">>")[0] for prompt in prompts}
    assert len(marks) == 3
    assert all(prompt.count(f"<<{mark}>>") in {0, 4} for prompt in prompts for mark in marks)


def test_snapshot_that_changes_under_way_stops_the_run_and_names_both(
    server: TeacherServer, tmp_path: Path
) -> None:
    def change(count: int) -> None:
        if count == 3:
            server.model_id = "big-0002"

    server.on_request = change
    judge, journal, _ = _open(_settings(server), tmp_path / "j")
    with pytest.raises(EnvironmentFailure) as stopped:
        judge.grade(_cases(6))
    assert stopped.value.exit_code == 4
    assert "'big-0001'" in stopped.value.what
    assert "'big-0002'" in stopped.value.what
    journal.close()
    assert len(Journal(tmp_path / "j").answers) == 2
    # with the old snapshot back, the rest is asked and nothing is asked twice
    server.model_id, server.on_request = None, lambda _count: None
    again, _, _ = _open(_settings(server), tmp_path / "j")
    assert [verdict.score for verdict in again.grade(_cases(6))] == [7.0] * 6
    assert sum(server.answered.values()) == 3 + 4


def test_server_that_is_not_the_declared_snapshot_is_refused_at_once(
    server: TeacherServer, tmp_path: Path
) -> None:
    judge, _, _ = _open(_settings(server, snapshot="big-0009"), tmp_path / "j")
    with pytest.raises(EnvironmentFailure, match=r"big-0009.*big-0001"):
        judge.grade(_cases(2))


def test_two_rate_limits_and_an_answer_are_one_item_and_one_charge(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["429", "429"]
    clock = FakeClock()
    price = {"in_per_m": 1e6, "out_per_m": 1e6}  # a dollar a token
    judge, _, budget = _open(_settings(server, price=price), tmp_path / "j", usd=1e6, clock=clock)
    (verdict,) = judge.grade(_cases(1))
    assert verdict.score == 7.0
    assert clock.slept[:2] == [7.0, 7.0]  # what the server asked for
    (prompt,) = server.asked
    assert server.asked[prompt] == 3
    assert budget.usd == pytest.approx(len(prompt.split()) + 4)  # tokens of the stub are words


def test_endless_faults_make_an_error_of_the_item_that_a_later_run_asks_again(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["500"] * 6
    judge, journal, _ = _open(_settings(server), tmp_path / "j")
    first, second = judge.grade(_cases(2))
    assert (first.error, first.score, second.score) == (True, None, 7.0)
    journal.close()
    again, _, _ = _open(_settings(server), tmp_path / "j")
    assert [verdict.score for verdict in again.grade(_cases(2))] == [7.0, 7.0]
    assert sum(server.answered.values()) == 2


def test_budget_stops_before_it_is_passed_and_a_larger_one_goes_on(
    server: TeacherServer, tmp_path: Path
) -> None:
    price = {"in_per_m": 2.0, "out_per_m": 8.0}
    settings = _settings(server, price=price, max_tokens=200)
    judge, journal, budget = _open(settings, tmp_path / "j", usd=0.01)
    with pytest.raises(EnvironmentFailure, match="budget") as stopped:
        judge.grade(_cases(60))
    assert stopped.value.exit_code == 4
    assert 0 < budget.usd <= 0.01
    paid = len(journal.answers)
    assert 0 < paid < 60
    journal.close()
    again, kept, spent = _open(settings, tmp_path / "j", usd=1.0)
    assert all(verdict.score == 7.0 for verdict in again.grade(_cases(60)))
    assert sum(server.answered.values()) == 60
    assert len(kept.answers) == 60
    assert spent.usd > budget.usd  # what was paid before counts, too


def test_priced_judge_without_money_is_not_asked(server: TeacherServer, tmp_path: Path) -> None:
    judge, _, _ = _open(
        _settings(server, price={"in_per_m": 1.0, "out_per_m": 1.0}), tmp_path / "j"
    )
    with pytest.raises(EnvironmentFailure, match="budget"):
        judge.grade(_cases(1))
    assert not server.asked


_CHILD = """
import sys
from pathlib import Path
from forebear.train.evaluate.backends import Budget, BudgetSettings
from forebear.train.evaluate.journal import Journal
from forebear.train.evaluate.judged import JudgeSettings, calibrate, make_judges
from forebear.train.evaluate.judged.protocol import Behaviour
url, file = sys.argv[1:]
settings = JudgeSettings(
    kind="openai", base_url=url, model="big", snapshot="big-0001", concurrency=1,
    requests_per_minute=1e6,
)
judges = make_judges(
    {"safety": settings}, Journal(Path(file)), seed=1, benchmarks=Path("data/benchmarks"),
    budget=Budget(BudgetSettings()),
)
cases = [Behaviour(f"i{n}", f"request {n}", f"answer {n}", "refusal") for n in range(14)]
for case in cases:
    print(judges["safety"].classify([case])[0])
"""


def test_kill_between_judge_calls_pays_nothing_twice(server: TeacherServer, tmp_path: Path) -> None:
    server.answer = lambda body: f"[[{1 + len(body['messages'][-1]['content']) % 3}]]"

    def start(file: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", textwrap.dedent(_CHILD), server.url, str(tmp_path / file)]
        root = Path(__file__).parents[3]
        return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE)

    kept: list[str] = []

    def kill(count: int) -> None:
        if count == 8 and not kept:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kept.extend(Journal(tmp_path / "killed").answers)

    server.on_request = kill
    child = start("killed")
    assert child.wait(240) == -signal.SIGKILL
    assert len(kept) == 7
    before = dict(server.asked)
    again = start("killed")
    resumed, _ = again.communicate(timeout=240)
    assert again.returncode == 0
    # of what was asked before the kill, only the call under way is asked again
    assert sum(server.asked[prompt] - times for prompt, times in before.items()) == 1
    whole = start("whole")
    undisturbed, _ = whole.communicate(timeout=240)
    assert resumed == undisturbed
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_anthropic_judge_is_reached_by_its_own_client(
    server: TeacherServer, tmp_path: Path
) -> None:
    pytest.importorskip("anthropic")
    settings = _settings(server, kind="anthropic", base_url=server.url.removesuffix("/v1"))
    judge, _, _ = _open(settings, tmp_path / "j")
    assert [verdict.score for verdict in judge.grade(_cases(2))] == [7.0, 7.0]


def test_refusals_and_harm_are_read_from_the_same_endpoint(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.answer = lambda body: (
        "[[yes]]" if "[[yes]]" in body["messages"][-1]["content"] else "[[3]]"
    )
    judge, _, _ = _open(_settings(server), tmp_path / "j")
    cases = [Behaviour("a", "request", "answer", "harmful"),
             Behaviour("b", "request", "answer", "refusal")]  # fmt: skip
    assert [verdict.label for verdict in judge.classify(cases)] == ["yes", "3_partial_refusal"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"snapshot": None}, "needs snapshot"),
        ({"base_url": None}, "needs base_url"),
        ({"base_url": "https://user:secret@host/v1"}, "base_url"),
        ({"kind": "local", "path": "models/judge"}, "has no endpoint"),
        ({"retires": "2027-13-01"}, "month"),
        ({"kind": "anthropic", "logprobs": True}, "logprobs"),
        ({"modle": "x"}, "modle"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    server: TeacherServer, changes: Mapping[str, Any], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        _settings(server, **changes)


def test_judge_is_refused_after_its_last_day_and_warned_about_before(
    server: TeacherServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = _settings(server, retires=dt.date(2027, 1, 14))  # as YAML reads it

    def on(day: dt.date) -> None:
        _open(settings, tmp_path / "j", today=day)

    with pytest.raises(ConfigError, match="retired on 2027-01-14") as refused:
        on(dt.date(2027, 1, 15))
    assert refused.value.where == "params.yaml: measure.judges.main.retires"
    assert not capsys.readouterr().err
    on(dt.date(2027, 1, 1))
    assert "retires in 13 days" in capsys.readouterr().err
    on(dt.date(2026, 11, 25))
    assert not capsys.readouterr().err


def test_published_prompts_are_the_benchmarks_own_words(
    server: TeacherServer, tmp_path: Path
) -> None:
    seen: list[Mapping[str, Any]] = []

    def answer(body: Mapping[str, Any]) -> str:
        seen.append(body)
        return "Rating: [[6]]"

    server.answer = answer
    judge, _, _ = _open(_settings(server, prompts="published"), tmp_path / "j")
    plain = Graded("1", Question(("What is it? {braces}",)), ("This.",))
    referenced = Graded("2", Question(("One?", "Two?"), ("right 1", "right 2")), ("A.", "B."))
    scores = [verdict.score for verdict in judge.grade([plain, referenced])]
    assert scores == [6.0, 6.0]
    rows = (BENCHMARKS / "mt_bench" / "judge_prompts.jsonl").read_text().splitlines()
    published = {row["name"]: row for row in map(json.loads, rows)}
    assert seen[0]["messages"][1]["content"] == published["single-v1"]["prompt_template"].format(
        question="What is it? {braces}", answer="This."
    )
    assert (
        seen[1]["messages"][0]["content"]
        == (published["single-math-v1-multi-turn"]["system_prompt"])
    )
    assert "right 2" in seen[1]["messages"][1]["content"]
    fenced, _, _ = _open(_settings(server), tmp_path / "other")
    assert judge.identity["prompts_sha256"] != fenced.identity["prompts_sha256"]


def test_one_letter_verdict_is_weighted_by_its_log_probabilities(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.answer = lambda _body: "A"
    server.first_token = lambda _body: {"A": math.log(0.6), " B": math.log(0.2), "The": -3.0}
    pair = Pair("i", Question(("Which?",)), ("this",), ("that",), "letter")
    judge, _, _ = _open(_settings(server, logprobs=True), tmp_path / "j")
    (weighted,) = judge.compare([pair])
    assert (weighted.weighted, weighted.label) == (True, "A")
    assert weighted.score == pytest.approx(0.75)
    # it is kept, so that a resumed run knows it without asking
    again, _, _ = _open(_settings(server, logprobs=True), tmp_path / "j")
    assert again.compare([pair]) == [weighted]
    assert sum(server.asked.values()) == 1
    plain, _, _ = _open(_settings(server), tmp_path / "j")
    (unweighted,) = plain.compare([pair])
    assert (unweighted.weighted, unweighted.score) == (False, 1.0)


def test_judge_with_probabilities_has_a_reliability_curve(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.answer = lambda body: "A" if "letter" in body["messages"][-1]["content"] else "[[1]]"
    server.first_token = lambda _body: {"A": math.log(0.9), "B": math.log(0.1)}
    judge, _, _ = _open(_settings(server, logprobs=True, concurrency=8), tmp_path / "j")
    value = calibrate({"main": judge}, benchmarks=BENCHMARKS, seed=SEED, limit=16)
    entry = value["judges"]["main"]
    first_is_right = sum(row["human"] == 1 for row in entry["items"]["pairs"]) / 16
    (only,) = entry["bins"]
    assert (only["low"], only["n"], only["accuracy"]) == (0.9, 16, first_is_right)
    assert entry["figures"]["ece"]["value"] == pytest.approx(abs(0.9 - first_is_right))


def test_local_judge_is_its_own_ancestor_and_needs_somebody_to_open_it(tmp_path: Path) -> None:
    settings = {"main": JudgeSettings(kind="local", path="models/judge", ancestors=("Base-1B",))}
    as_yaml_reads_it = {"kind": "local", "path": "models/judge", "ancestors": ["Base-1B"]}
    assert JudgeSettings.model_validate(as_yaml_reads_it) == settings["main"]
    model = StubModel(lambda _request: "[[8]]")
    model.identity = {**model.identity, "tree_sha256": "ab" * 32}
    opened: list[Path] = []

    def local(folder: Path) -> StubModel:
        opened.append(folder)
        return model

    journal = Journal(tmp_path / "j")
    judges = make_judges(settings, journal, seed=SEED, benchmarks=BENCHMARKS, local=local)
    judge = judges["main"]
    assert opened == [Path("models/judge")]
    assert (judge.kind, judge.name) == ("local", "judge")
    assert list(judge.ancestors) == ["Base-1B", "ab" * 32]
    assert [verdict.score for verdict in judge.grade(_cases(1))] == [8.0]
    with pytest.raises(ConfigError, match="cannot be opened here"):
        make_judges(settings, journal, seed=SEED, benchmarks=BENCHMARKS)


def test_verdict_tried_out_in_thought_is_none(server: TeacherServer, tmp_path: Path) -> None:
    server.answer = lambda _body: "<think>[[9]]? or [[2]]?</think>Fair. [[6]]"
    judge, _, _ = _open(_settings(server), tmp_path / "j")
    assert [verdict.score for verdict in judge.grade(_cases(1))] == [6.0]
