"""Models behind an endpoint: paid once, within the budget, and always the same model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import EnvironmentFailure
from forebear.train.evaluate.backends import Budget, BudgetSettings, EndpointSettings, Price
from forebear.train.evaluate.endpoint import EndpointChat
from forebear.train.evaluate.journal import Journal
from forebear.train.evaluate.model import ChatRequest, Message
from tests.support.openai_server import FakeClock, TeacherServer, teacher_server

pytest.importorskip("openai")


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with teacher_server(lambda body: f"answer to {body['messages'][-1]['content']}") as running:
        yield running


def requests(*texts: str, **more: Any) -> list[ChatRequest]:
    return [ChatRequest((Message("user", text),), 16, **more) for text in texts]


def open_chat(server: TeacherServer, file: Path, **more: Any) -> EndpointChat:
    budget = more.pop("budget", BudgetSettings(max_usd=10.0))
    clock = more.pop("clock", FakeClock())
    arguments = {key: more.pop(key) for key in ("reasoning", "top_logprobs") if key in more}
    pressed = {"concurrency": 1, "requests_per_minute": 1e6, **more}
    settings = EndpointSettings(base_url=server.url, model="tester", **pressed)
    return EndpointChat(settings, Journal(file), budget=Budget(budget), clock=clock, **arguments)


def test_answers_come_in_the_order_asked_with_their_token_counts(
    server: TeacherServer, tmp_path: Path
) -> None:
    chat = open_chat(server, tmp_path / "j", concurrency=4)
    answers = chat.chat(requests("one", "two words", "one"))
    assert [answer.text for answer in answers] == [
        "answer to one", "answer to two words", "answer to one",
    ]  # fmt: skip
    assert [answer.finish_reason for answer in answers] == ["stop"] * 3
    assert [answer.prompt_tokens for answer in answers] == [1, 2, 1]
    assert server.asked["one"] == 1


def test_too_many_requests_twice_then_an_answer_is_one_item_and_one_charge(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["429", "429"]
    clock = FakeClock()
    chat = open_chat(
        server, tmp_path / "j", clock=clock, price=Price(in_per_m=1e6, out_per_m=1e6),
        budget=BudgetSettings(max_usd=1000.0),
    )  # fmt: skip
    (answer,) = chat.chat(requests("hello"))
    assert answer.text == "answer to hello"
    assert server.asked["hello"] == 3
    assert server.answered["hello"] == 1
    # the server asks for seven seconds; two refusals, two pauses of that at least
    assert [pause >= 7 for pause in clock.slept] == [True, True]
    assert len((tmp_path / "j").read_text().splitlines()) == 1
    # one token in, three out, a dollar each; refusals cost nothing
    assert chat._budget.usd == pytest.approx(4.0)


@pytest.mark.parametrize("fault", ["500", "malformed", "shape"])
def test_a_passing_fault_is_tried_again(server: TeacherServer, tmp_path: Path, fault: str) -> None:
    server.faults = [fault]
    (answer,) = open_chat(server, tmp_path / "j").chat(requests("hello"))
    assert answer.text == "answer to hello"
    assert server.asked["hello"] == 2


def test_endless_server_errors_end_as_an_error_that_a_later_run_asks_again(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["500"] * 6
    chat = open_chat(server, tmp_path / "j")
    answers = chat.chat(requests("first", "second"))
    assert [answer.finish_reason for answer in answers] == ["error", "stop"]
    assert "HTTP 500" in answers[0].text
    assert server.asked["first"] == 6
    (again,) = open_chat(server, tmp_path / "j").chat(requests("first"))
    assert again.finish_reason == "stop"
    assert server.asked["second"] == 1


def test_a_wrong_key_stops_the_run_at_once(server: TeacherServer, tmp_path: Path) -> None:
    server.faults = ["401"]
    with pytest.raises(EnvironmentFailure, match=r"401"):
        open_chat(server, tmp_path / "j").chat(requests("one", "two"))
    assert sum(server.asked.values()) == 1


def test_a_cut_connection_is_tried_again_and_a_dead_one_stops_the_run(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["cut"]
    (answer,) = open_chat(server, tmp_path / "j").chat(requests("hello"))
    assert answer.finish_reason == "stop"
    server.faults = ["cut"] * 6
    with pytest.raises(EnvironmentFailure, match=r"does not answer"):
        open_chat(server, tmp_path / "j").chat(requests("other", "further"))
    assert server.asked["further"] == 0


def test_a_slow_server_is_given_up_on_and_asked_again(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["slow"]
    (answer,) = open_chat(server, tmp_path / "j", timeout_s=0.2).chat(requests("hello"))
    assert answer.finish_reason == "stop"
    assert server.asked["hello"] == 2


def test_what_was_answered_is_never_paid_twice(server: TeacherServer, tmp_path: Path) -> None:
    open_chat(server, tmp_path / "j").chat(requests("one", "two"))
    later = open_chat(server, tmp_path / "j").chat(requests("one", "two", "three"))
    assert [answer.text for answer in later][-1] == "answer to three"
    assert server.asked == {"one": 1, "two": 1, "three": 1}


def test_other_decoding_is_another_request(server: TeacherServer, tmp_path: Path) -> None:
    chat = open_chat(server, tmp_path / "j")
    chat.chat(requests("one"))
    chat.chat(requests("one", temperature=0.5))
    chat.chat([ChatRequest((Message("user", "one"),), 17)])
    assert server.asked["one"] == 3


def test_the_budget_stops_before_it_is_passed_and_the_run_goes_on_later(
    server: TeacherServer, tmp_path: Path
) -> None:
    # worst case of a request: 3 + 16 bytes in, 16 tokens out; 0.035 USD; three fit into 0.1
    price = Price(in_per_m=1000.0, out_per_m=1000.0)
    texts = ["aaa", "bbb", "ccc", "ddd"]
    small = BudgetSettings(max_usd=0.036)
    chat = open_chat(server, tmp_path / "j", price=price, budget=small)
    with pytest.raises(EnvironmentFailure, match=r"budget of 0\.036 USD") as caught:
        chat.chat(requests(*texts))
    assert caught.value.exit_code == 4
    assert chat._budget.usd <= 0.036
    done = sum(server.asked.values())
    assert 0 < done < len(texts)
    more = BudgetSettings(max_usd=1.0)
    answers = open_chat(server, tmp_path / "j", price=price, budget=more).chat(requests(*texts))
    assert [answer.finish_reason for answer in answers] == ["stop"] * 4
    assert sum(server.asked.values()) == len(texts)


def test_what_an_earlier_run_paid_counts(server: TeacherServer, tmp_path: Path) -> None:
    open_chat(server, tmp_path / "j").chat(requests("one", "two"))
    with pytest.raises(EnvironmentFailure, match=r"2 requests"):
        open_chat(server, tmp_path / "j", budget=BudgetSettings(max_requests=2)).chat(
            requests("three")
        )
    assert server.asked["three"] == 0


def test_a_model_that_changes_under_way_stops_the_run_with_both_names(
    server: TeacherServer, tmp_path: Path
) -> None:
    file = tmp_path / "j"
    open_chat(server, file).chat(requests("one"))
    kept = file.read_bytes()
    server.model_id = "tester-0002"
    with pytest.raises(EnvironmentFailure) as caught:
        open_chat(server, file).chat(requests("one", "two"))
    assert "tester-0001" in caught.value.what
    assert "tester-0002" in caught.value.what
    assert caught.value.exit_code == 4
    assert file.read_bytes() == kept


def test_a_snapshot_that_is_not_the_one_that_answers_stops_the_run(
    server: TeacherServer, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFailure, match=r"tester-of-may"):
        open_chat(server, tmp_path / "j", snapshot="tester-of-may").chat(requests("one"))
    (answer,) = open_chat(server, tmp_path / "k", snapshot="tester-0001").chat(requests("one"))
    assert answer.finish_reason == "stop"


def test_reasoning_is_cut_and_an_open_tag_is_an_empty_answer(tmp_path: Path) -> None:
    said = {
        "closed": "<think>hm</think>\nyes",
        "open": "<think>hm, no end",
        "template": "hm</think>yes",
        "none": "yes",
    }
    with teacher_server(lambda body: said[body["messages"][-1]["content"]]) as server:
        chat = open_chat(server, tmp_path / "j", reasoning=("<think>", "</think>"))
        answers = chat.chat(requests("closed", "open", "template", "none"))
    assert [answer.text for answer in answers] == ["yes", "", "yes", "yes"]
    line = json.loads((tmp_path / "j").read_text().splitlines()[0])
    assert line["v"][0]["text"] == said["closed"]


def test_anthropic_takes_the_system_turn_and_stop_texts_apart(tmp_path: Path) -> None:
    pytest.importorskip("anthropic")
    seen: list[Any] = []

    def answer(body: Any) -> str:
        seen.append(body)
        return "fine"

    with teacher_server(answer) as server:
        chat = open_chat(server, tmp_path / "j", api="anthropic")
        turns = (Message("system", "be brief"), Message("user", "well?"))
        (said,) = chat.chat([ChatRequest(turns, 8, stop=("\n",))])
    assert said.text == "fine"
    assert seen[0]["system"] == "be brief"
    assert [turn["role"] for turn in seen[0]["messages"]] == ["user"]
    assert seen[0]["stop_sequences"] == ["\n"]
    assert seen[0]["max_tokens"] == 8


def test_the_first_token_s_alternatives_are_kept_with_the_answer(
    server: TeacherServer, tmp_path: Path
) -> None:
    server.first_token = lambda _body: {"A": -0.1, "B": -2.4}
    asked = requests("which?")
    chat = open_chat(server, tmp_path / "j", top_logprobs=5)
    chat.chat(asked)
    assert chat.first_token(asked[0]) == {"A": -0.1, "B": -2.4}
    again = open_chat(server, tmp_path / "j", top_logprobs=5)
    assert again.first_token(asked[0]) == {"A": -0.1, "B": -2.4}
