"""Texts from a checkpoint loaded here: the same whatever stands beside them, and durable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import EnvironmentFailure
from forebear.train.evaluate.backends import Budget, BudgetSettings, strip_reasoning
from forebear.train.evaluate.journal import Journal
from forebear.train.evaluate.model import ChatRequest, Message
from tests.support.tiny_model import build_checkpoint

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from forebear.train.checkpoint import load_model, load_tokenizer

    torch.set_num_threads(1)
    folder = build_checkpoint(tmp_path_factory.mktemp("model") / "m", seed=3)
    return load_model(folder), load_tokenizer(folder)


def open_chat(opened: tuple[Any, Any], file: Path, **more: Any) -> Any:
    from forebear.train.evaluate.hf import HfChat

    settings = {"identity": {"tree": "t"}, "chunk": 2, "batch_rows": 2, **more}
    return HfChat(*opened, Journal(file), **settings)


def request(text: str, **more: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), more.pop("max_new_tokens", 12), **more)


def test_a_greedy_answer_is_the_one_that_transformers_generates(
    opened: tuple[Any, Any], tmp_path: Path
) -> None:
    model, tokenizer = opened
    texts = ["hi", "a much longer question, so that the shorter one is padded"]
    answers = open_chat(opened, tmp_path / "j").chat([request(text) for text in texts])
    for text, answer in zip(texts, answers, strict=True):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        whole = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        drawn = whole[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(drawn, skip_special_tokens=True)
        assert answer.prompt_tokens == ids.shape[1]
        assert answer.completion_tokens == len(drawn)


def test_an_answer_that_is_cut_says_so_and_one_that_ends_at_a_stop_text_does_not(
    opened: tuple[Any, Any], tmp_path: Path
) -> None:
    chat = open_chat(opened, tmp_path / "j")
    (whole,) = chat.chat([request("hi")])
    assert whole.finish_reason == "length"
    assert len(whole.text) > 6
    stop = whole.text[4:6]
    (cut,) = chat.chat([request("hi", stop=(stop,))])
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.completion_tokens < whole.completion_tokens


def test_drawn_answers_come_from_their_seed(opened: tuple[Any, Any], tmp_path: Path) -> None:
    asked = [request("hi", temperature=1.0, seed=seed) for seed in (1, 2)]
    one, two = open_chat(opened, tmp_path / "a").chat(asked)
    assert one.text != two.text
    assert open_chat(opened, tmp_path / "b").chat(asked) == [one, two]


def test_a_chunk_is_kept_and_not_asked_again(opened: tuple[Any, Any], tmp_path: Path) -> None:
    chunks: list[int] = []
    asked = [request(text) for text in ("a", "b", "c", "a")]
    count = lambda: chunks.append(1)  # noqa: E731
    first = open_chat(opened, tmp_path / "j", on_chunk=count).chat(asked)
    assert len(chunks) == 2
    assert open_chat(opened, tmp_path / "j", on_chunk=count).chat(asked) == first
    assert len(chunks) == 2
    assert first[0] == first[3]


def test_an_incomplete_chunk_is_asked_again_whole(opened: tuple[Any, Any], tmp_path: Path) -> None:
    asked = [request(text) for text in ("a", "b")]
    chat = open_chat(opened, tmp_path / "j")
    chat.chat(asked[:1])
    chat.chat(asked)
    lines = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    assert [len(line["k"]) for line in lines] == [1, 2]


def test_other_decoding_has_another_key(opened: tuple[Any, Any], tmp_path: Path) -> None:
    chat = open_chat(opened, tmp_path / "j")
    other = open_chat(opened, tmp_path / "k", identity={"tree": "u"})
    keys = {
        chat.key(request("a")),
        chat.key(request("a", max_new_tokens=13)),
        chat.key(request("a", temperature=0.5)),
        chat.key(request("a", seed=1)),
        chat.key(request("a", stop=("\n",))),
        other.key(request("a")),
    }
    assert len(keys) == 6


def test_a_prompt_that_is_too_long_loses_its_beginning(
    opened: tuple[Any, Any], tmp_path: Path
) -> None:
    (answer,) = open_chat(opened, tmp_path / "j").chat([request("x" * 2000)])
    assert answer.prompt_tokens == 1024 - 12
    with pytest.raises(EnvironmentFailure, match=r"do not fit"):
        open_chat(opened, tmp_path / "j").chat([request("x", max_new_tokens=1024)])


def test_an_output_that_is_not_finite_is_refused(
    opened: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = open_chat(opened, tmp_path / "j")
    weight = opened[0].model.norm.weight
    monkeypatch.setattr(weight, "data", torch.full_like(weight.data, float("nan")))
    with pytest.raises(EnvironmentFailure, match=r"finite"):
        chat.chat([request("hi")])
    assert (tmp_path / "j").read_bytes() == b""


def test_the_budget_of_requests_stops_between_chunks(
    opened: tuple[Any, Any], tmp_path: Path
) -> None:
    asked = [request(text) for text in "abcd"]
    small = Budget(BudgetSettings(max_requests=3))
    with pytest.raises(EnvironmentFailure, match=r"3 requests"):
        open_chat(opened, tmp_path / "j", budget=small).chat(asked)
    assert len((tmp_path / "j").read_text().splitlines()) == 1
    enough = Budget(BudgetSettings(max_requests=4))
    assert len(open_chat(opened, tmp_path / "j", budget=enough).chat(asked)) == 4


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<think>a</think> b", "b"),
        ("a</think>b", "b"),
        ("a <think>b", ""),
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("plain", "plain"),
    ],
)
def test_reasoning_is_cut_between_its_tags(text: str, kept: str) -> None:
    assert strip_reasoning(text, ("<think>", "</think>")) == kept
    assert strip_reasoning(text, None) == text
