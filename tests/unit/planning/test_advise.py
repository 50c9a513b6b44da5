"""Advice: who is ruled out and why, what orders the rest, and what the unknown may not do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forebear.errors import FormatError
from forebear.planning.advise import Candidate, Wish, advise
from forebear.planning.facts import ModelFacts, load_facts, parse_facts
from forebear.planning.fertility import Fertility, measure_fertility, read_text, tokenizers_at_hand
from tests.unit.planning.rows import own

TABLE = load_facts()


def ranked(wish: Wish, measured: dict[str, Fertility] | None = None) -> list[str]:
    return [one.facts.name for one in judged(wish, measured) if not one.ruled_out]


def judged(wish: Wish, measured: dict[str, Fertility] | None = None) -> list[Candidate]:
    return list(advise(TABLE.values(), wish, measured or {}))


def of(candidates: list[Candidate], name: str) -> Candidate:
    return next(one for one in candidates if one.facts.name == name)


def row(**changes: object) -> ModelFacts:
    return next(iter(parse_facts(own(**changes), where="own").values()))


def test_an_instruct_model_is_ruled_out_and_may_be_let_in() -> None:
    assert "Phi-4" not in ranked(Wish())
    assert any("tuned" in why for why in of(judged(Wish()), "Phi-4").ruled_out)
    assert "Phi-4" in ranked(Wish(tuned=True))


def test_a_licence_that_asks_too_much_is_ruled_out() -> None:
    strict = Wish(posture="permissive")
    assert "Llama-4-Maverick" in ranked(Wish())
    assert "Llama-4-Maverick" not in ranked(strict)
    assert all(TABLE[name].posture == "permissive" for name in ranked(strict))


def test_limits_of_size_count_all_parameters_and_those_at_work_apart() -> None:
    assert "Qwen3-30B-A3B-Base" not in ranked(Wish(max_total=15 * 10**9))
    small_work = ranked(Wish(max_active=4 * 10**9))
    assert "Qwen3-30B-A3B-Base" in small_work
    assert "Qwen3-8B-Base" not in small_work


def test_a_language_that_is_not_covered_rules_out_and_one_that_may_be_does_not() -> None:
    wish = Wish(languages=("ta",))
    assert of(judged(wish), "SmolLM2-135M").ruled_out == ("does not cover ta",)
    maverick = of(judged(wish), "Llama-4-Maverick")
    assert not maverick.ruled_out
    assert any("unknown whether it covers ta" in why for why in maverick.reasons)
    names = ranked(wish)
    assert names.index("Qwen3-14B-Base") < names.index("Llama-4-Maverick")


def test_the_nearest_size_comes_first_when_one_is_wished_for() -> None:
    assert ranked(Wish(total=8 * 10**9, languages=("de",)))[0] == "Qwen3-8B-Base"
    assert ranked(Wish(languages=("de",)))[0] == "Qwen3-0.6B-Base"


def test_fewer_tokens_for_the_users_text_come_before_size() -> None:
    many, few = Fertility(200, 50, 400), Fertility(100, 50, 400)
    names = ranked(Wish(), {"Qwen3-0.6B-Base": many, "Qwen3-8B-Base": few})
    assert names[:2] == ["Qwen3-8B-Base", "Qwen3-0.6B-Base"]
    said = of(judged(Wish(), {"Qwen3-8B-Base": few}), "Qwen3-8B-Base").reasons
    assert any("2.00 tokens for a word" in why for why in said)


def test_the_unknown_rules_nothing_out_and_is_preferred_to_nothing() -> None:
    unknown = row(
        licence="unknown", posture="unknown", tuned="unknown", total="unknown",
        languages={"named": [], "count": "unknown"},
    )  # fmt: skip
    candidates = advise([unknown, row(name="Known")], Wish(max_total=10, languages=("en",)), {})
    assert not of(list(candidates), "Own-1B").ruled_out
    assert of(list(candidates), "Known").ruled_out  # twin: the known size is too large
    candidates = advise([unknown, row(name="Known")], Wish(languages=("en",)), {})
    assert [one.facts.name for one in candidates] == ["Known", "Own-1B"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    file = tmp_path / "tokenizer.json"
    words.save(str(file))
    return file


def test_fertility_counts_tokens_words_and_bytes(tokenizer: Path) -> None:
    found = measure_fertility(tokenizer, "a b\n\nb-a ü")
    assert (found.tokens, found.words, found.size_bytes) == (6, 4, 9)
    assert found.per_word == 1.5


def test_what_is_no_tokenizer_or_no_text_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    broken, text = tmp_path / "broken.json", tmp_path / "text.txt"
    broken.write_text("{}")
    with pytest.raises(FormatError):
        measure_fertility(broken, "a")
    text.write_bytes(b"\xff")
    with pytest.raises(FormatError):
        read_text(text)
    text.write_text(" \n")
    with pytest.raises(FormatError):
        read_text(text)
    text.write_text("a")
    assert measure_fertility(tokenizer, read_text(text)).tokens == 1


def test_tokenizers_are_found_in_the_hubs_cache_and_in_the_built_base(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub/models--microsoft--phi-4/snapshots/abc"
    checkpoint = tmp_path / "repo/data/base/checkpoint"
    for folder in (snapshot, checkpoint):
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    assert tokenizers_at_hand(TABLE.values(), tmp_path / "repo").keys() == {"Phi-4"}
    facts = {"repo": "Qwen/Qwen3-8B-Base"}
    (checkpoint.parent / "base.json").write_text(json.dumps(facts))
    at_hand = tokenizers_at_hand(TABLE.values(), tmp_path / "repo")
    assert at_hand == {
        "Phi-4": snapshot / "tokenizer.json",
        "Qwen3-8B-Base": checkpoint / "tokenizer.json",
    }
