"""Teachers behind an endpoint: faults, rate, budget, secrecy, and no request paid twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    FormatError,
    MissingExtra,
    RecordError,
)
from forebear.train.distill.endpoint import (
    EndpointParams,
    Request,
    ask,
    make_request,
)
from forebear.train.distill.responses import Response, ResponseFile
from tests.support.openai_server import FakeClock, TeacherServer, teacher_server

_SECRET = "sk-the-secret-key-0123456789"  # made up


def _echo(body: Mapping[str, Any]) -> str:
    return f"answer to {body['messages'][-1]['content']}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TeacherServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TEACHER_KEY", _SECRET)
    with teacher_server(_echo) as running:
        yield running


def _params(server: TeacherServer, **changes: Any) -> EndpointParams:
    section = {
        "base_url": server.url,
        "model": "big",
        "accessed": "2026-11-24",
        "api_key_env": "TEACHER_KEY",
        "concurrency": 1,
        "requests_per_minute": 1e6,
        "budget": {"max_tokens": 100_000},
    }
    return EndpointParams.model_validate(section | changes)


def _requests(params: EndpointParams, *prompts: str) -> list[Request]:
    return [
        make_request(params, prompt, temperature=0.5, max_new_tokens=32, seed=1, sample=0)
        for prompt in prompts
    ]


def _ask(
    params: EndpointParams, file: Path, *prompts: str, clock: FakeClock | None = None
) -> list[Response]:
    return ask(
        params,
        _requests(params, *prompts),
        ResponseFile(file),
        max_new_tokens=32,
        clock=clock or FakeClock(),
    )


def test_answers_come_in_the_order_asked_with_their_counts(
    server: TeacherServer, tmp_path: Path
) -> None:
    prompts = [f"question {number}" for number in range(12)]
    params = _params(server, concurrency=4)
    barrier = threading.Barrier(4)  # passes only when four requests are under way

    def together(_count: int) -> None:
        barrier.wait(20)

    server.on_request = together
    answers = _ask(params, tmp_path / "r.jsonl", *prompts)
    assert [answer.text for answer in answers] == [f"answer to {prompt}" for prompt in prompts]
    assert answers[0] == Response(
        "answer to question 0",
        finished=True,
        model="big-0001",
        prompt_tokens=2,
        answer_tokens=4,
        counted=True,
    )
    assert server.asked.total() == 12
    assert server.most_at_once == 4


@pytest.mark.parametrize("fault", ["429", "500", "cut", "malformed", "shape"])
def test_passing_fault_is_tried_again_and_ends_in_the_answer(
    server: TeacherServer, tmp_path: Path, fault: str
) -> None:
    server.faults = [fault]
    clock = FakeClock()
    (answer,) = _ask(_params(server), tmp_path / "r.jsonl", "q", clock=clock)
    assert answer.text == "answer to q"
    assert server.asked["q"] == 2
    assert server.answered["q"] == 1
    assert clock.slept == [7.0] if fault == "429" else 0.5 <= clock.slept[0] <= 1.5


def test_slow_server_is_given_up_and_asked_again(server: TeacherServer, tmp_path: Path) -> None:
    server.faults = ["slow"]
    (answer,) = _ask(_params(server, timeout_s=0.2), tmp_path / "r.jsonl", "q")
    assert answer.text == "answer to q"
    assert server.asked["q"] == 2


def test_pauses_grow_and_are_the_same_in_every_run(server: TeacherServer, tmp_path: Path) -> None:
    slept = []
    for name in ("a", "b"):
        server.faults = ["500"] * 4
        clock = FakeClock()
        _ask(_params(server), tmp_path / name, "q", clock=clock)
        slept.append(clock.slept)
    assert slept[0] == slept[1]
    assert [later / first for first, later in zip(slept[0], slept[0][1:], strict=False)] == [
        2.0
    ] * 3


def test_endless_fault_ends_in_one_error_and_what_was_finished_is_kept(
    server: TeacherServer, tmp_path: Path
) -> None:
    params = _params(server, max_attempts=3)
    _ask(params, tmp_path / "r.jsonl", "one")
    server.faults = ["500"] * 3
    with pytest.raises(EnvironmentFailure, match="after 3 attempts: HTTP 500") as caught:
        _ask(params, tmp_path / "r.jsonl", "one", "two", "three")
    assert "1 finished responses are kept" in caught.value.fix
    assert server.asked == {"one": 1, "two": 3}
    assert len(_ask(params, tmp_path / "r.jsonl", "one", "two", "three")) == 3
    assert server.answered == {"one": 1, "two": 1, "three": 1}


def test_refusal_is_not_tried_again_and_the_key_is_in_no_message_and_no_file(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["", "401"]
    params = _params(server)
    with pytest.raises(EnvironmentFailure, match="HTTP 401") as caught:
        _ask(params, tmp_path / "r.jsonl", "one", "two")
    assert server.asked == {"one": 1, "two": 1}
    assert server.seen_headers[0]["authorization"] == f"Bearer {_SECRET}"
    assert _SECRET not in str(caught.value)
    assert _SECRET not in (tmp_path / "r.jsonl").read_text()
    assert _SECRET not in repr(params)


def test_missing_key_is_refused_before_anything_is_sent(
    server: TeacherServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(ConfigError, match="TEACHER_KEY"):
        _ask(_params(server), tmp_path / "r.jsonl", "q")
    assert not server.asked
    assert _ask(_params(server, api_key_env=None), tmp_path / "r.jsonl", "q")


def test_missing_library_names_the_extra(
    server: TeacherServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra, match="teachers"):
        _ask(_params(server), tmp_path / "r.jsonl", "q")


def test_rate_is_bounded(server: TeacherServer, tmp_path: Path) -> None:
    clock = FakeClock()
    _ask(_params(server, requests_per_minute=30), tmp_path / "r.jsonl", *"abcd", clock=clock)
    assert clock.time == pytest.approx(6.0)


def test_token_budget_is_never_passed_and_stops_with_what_was_kept(
    server: TeacherServer, tmp_path: Path
) -> None:
    prompts = [f"question {number}" for number in range(9)]
    # at worst one request costs 10 bytes, 32 for its frame and 32 tokens of answer; in truth 6
    params = _params(server, budget={"max_tokens": 90}, concurrency=3)
    with pytest.raises(RecordError, match="the budget is spent") as caught:
        _ask(params, tmp_path / "r.jsonl", *prompts)
    kept = len(ResponseFile(tmp_path / "r.jsonl"))
    assert 0 < kept < 9
    assert f"{kept} of 9 responses are finished and kept" in caught.value.what
    assert server.asked.total() == kept
    assert kept * 6 <= 90
    more = _params(server, budget={"max_tokens": 1000})
    assert len(_ask(more, tmp_path / "r.jsonl", *prompts)) == 9
    assert set(server.asked.values()) == {1}


def test_attempts_that_may_be_charged_count_against_the_budget(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["malformed"] * 4
    # one attempt costs at most 1 byte, 32 for its frame and 32 tokens: the third is too much
    params = _params(server, budget={"max_tokens": 140})
    with pytest.raises(RecordError, match="budget is spent"):
        _ask(params, tmp_path / "r.jsonl", "q")
    assert server.asked["q"] == 2
    server.faults = ["500"] * 4  # a refusal is charged by nobody
    (answer,) = _ask(params, tmp_path / "r.jsonl", "q")
    assert answer.text == "answer to q"


def test_what_other_params_paid_for_is_kept_and_never_paid_again(
    server: TeacherServer, tmp_path: Path
) -> None:
    for prompts in ("abc", "ab", "abc"):
        kept = ResponseFile(tmp_path / "r.jsonl")
        params = _params(server)
        ask(params, _requests(params, *prompts), kept, max_new_tokens=32, clock=FakeClock())
        kept.settle()
    assert server.asked == {"a": 1, "b": 1, "c": 1}


def test_cost_budget_stops_and_names_the_currency(server: TeacherServer, tmp_path: Path) -> None:
    budget = {
        "max_tokens": 10**6, "max_cost": 0.0001, "currency": "EUR",
        "prompt_price": 1.0, "answer_price": 2.0,
    }  # fmt: skip
    with pytest.raises(RecordError, match="EUR"):
        _ask(_params(server, budget=budget), tmp_path / "r.jsonl", *"abcdefghij")
    assert 0 < server.asked.total() < 10
    with pytest.raises(ValueError, match="prompt_price"):
        _params(server, budget={"max_tokens": 9, "max_cost": 1.0})


def test_response_without_usage_is_charged_at_its_bound(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.with_usage = False
    (answer,) = _ask(_params(server), tmp_path / "r.jsonl", "q")
    assert (answer.prompt_tokens, answer.answer_tokens, answer.counted) == (33, 32, False)


def test_equal_requests_are_sent_once_and_samples_are_not_equal(
    server: TeacherServer, tmp_path: Path
) -> None:
    params = _params(server)
    _ask(params, tmp_path / "r.jsonl", "q", "q")
    assert server.asked["q"] == 1
    keys = {
        make_request(params, "q", temperature=0.5, max_new_tokens=8, seed=1, sample=n).key
        for n in range(3)
    }
    assert len(keys) == 3


_CHILD = """
import sys
from pathlib import Path
from forebear.train.distill.endpoint import EndpointParams, ask, make_request
from forebear.train.distill.responses import ResponseFile
url, file = sys.argv[1:]
params = EndpointParams.model_validate({
    "base_url": url, "model": "big", "accessed": "2026-11-24", "concurrency": 2,
    "requests_per_minute": 1e6, "budget": {"max_tokens": 100000},
})
requests = [
    make_request(params, f"q{n}", temperature=0.5, max_new_tokens=32, seed=1, sample=0)
    for n in range(20)
]
kept = ResponseFile(Path(file))
ask(params, requests, kept, max_new_tokens=32)
kept.settle()
"""


def test_killed_run_pays_for_no_finished_request_twice(
    server: TeacherServer, tmp_path: Path
) -> None:
    def start(file: str) -> subprocess.Popen[bytes]:
        code = textwrap.dedent(_CHILD)
        command = [sys.executable, "-c", code, server.url, str(tmp_path / file)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[3])

    finished_at_kill: list[str] = []

    def kill(count: int) -> None:
        if count == 9 and not finished_at_kill:
            child.send_signal(signal.SIGKILL)
            child.wait()
            with server.lock:
                finished_at_kill.extend((tmp_path / "killed").read_text().splitlines())

    server.on_request = kill
    child = start("killed")
    assert child.wait(60) == -signal.SIGKILL
    assert len(finished_at_kill) >= 6
    torn = (tmp_path / "killed").read_bytes() + b'{"answer_tokens":3,"coun'
    (tmp_path / "killed").write_bytes(torn)
    again = start("killed")
    assert again.wait(60) == 0
    kept = (tmp_path / "killed").read_text().splitlines()
    assert set(finished_at_kill) <= set(kept)
    # only what was under way at the kill was asked again
    twice = [prompt for prompt, times in server.asked.items() if times > 1]
    assert len(twice) <= 2
    assert not [p for p in twice if any(f'"answer to {p}"' in line for line in finished_at_kill)]
    whole = start("whole")
    assert whole.wait(60) == 0
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_whole_line_that_is_no_response_is_refused_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(b'{"text":"x"}\n')
    with pytest.raises(FormatError, match="no finished response"):
        ResponseFile(file)
    assert file.read_bytes() == b'{"text":"x"}\n'


def test_address_with_credentials_is_refused(server: TeacherServer) -> None:
    with pytest.raises(ValueError, match="base_url"):
        _params(server, base_url="https://user:password@host/v1")


def test_anthropic_is_reached_by_its_own_client(server: TeacherServer, tmp_path: Path) -> None:
    pytest.importorskip("anthropic")
    server.faults = ["500", "malformed"]
    url = server.url.removesuffix("/v1")
    params = _params(server, api="anthropic", base_url=url, system="be short", top_p=0.9)
    (answer,) = _ask(params, tmp_path / "r.jsonl", "q")
    assert answer == Response(
        "answer to q", finished=True, model="big-0001",
        prompt_tokens=5, answer_tokens=3, counted=True,
    )  # fmt: skip
    assert server.asked["q"] == 3
    assert _SECRET in str(server.seen_headers[0])


def test_temperature_is_left_out_when_the_model_refuses_it(server: TeacherServer) -> None:
    sent, left_out = (
        _requests(_params(server, send_temperature=send), "q")[0] for send in (True, False)
    )
    assert sent.body["temperature"] == 0.5
    assert "temperature" not in left_out.body
    assert sent.key != left_out.key
