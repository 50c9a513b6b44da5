"""``forebear base``: the ranking with its reasons, measured on the user's text, and pinning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forebear.cli.main import _run
from tests.unit.planning.rows import own


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = _run(["base", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out + out.err


def candidates(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    _, text = run(capsys, "advise", *words, "--json")
    found = json.loads(text)
    assert found["schema"] == "forebear.base-advise/v1"
    return list(found["candidates"])


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [one["facts"]["name"] for one in rows if not one["ruled_out"]]


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_every_candidate_is_shown_with_a_reason_and_a_source(capsys) -> None:
    code, text = run(capsys, "advise")
    assert code == 0
    assert "  1. SmolLM2-135M" in text
    assert " out Phi-4" in text
    assert text.count("source: ") == len(candidates(capsys))
    assert all(one["reasons"] for one in candidates(capsys))


def test_limits_are_written_as_people_write_them(capsys) -> None:
    assert "Qwen3-14B-Base" in names(candidates(capsys, "--max-params", "15B"))
    assert "Qwen3-14B-Base" not in names(candidates(capsys, "--max-params", "1.4e10"))
    assert names(candidates(capsys, "--target-params", "8B"))[0] == "Qwen3-8B-Base"
    assert run(capsys, "advise", "--max-params", "many")[0] == 2


def test_licence_languages_and_tuned_weights(capsys) -> None:
    strict = names(candidates(capsys, "--licence", "permissive", "--languages", "de, ta"))
    known = [name for name in strict if name.startswith("Qwen3")]
    assert known
    # whose languages nobody published is not ruled out, and comes after all that cover them
    assert strict == [*known, "DeepSeek-V3.1-Base"]
    assert "Phi-4" in names(candidates(capsys, "--tuned"))


def test_nothing_left_ends_in_1(capsys) -> None:
    code, text = run(capsys, "advise", "--max-params", "1M")
    assert code == 1
    assert "  1." not in text


def test_a_users_own_row_is_ranked(tmp_path: Path, capsys) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_bytes(own(total=100))
    assert names(candidates(capsys, "--facts", facts))[0] == "Own-1B"
    facts.write_text("schema: other\n")
    assert run(capsys, "advise", "--facts", facts)[0] == 2


def test_fertility_is_measured_where_a_tokenizer_is_named(tmp_path: Path, capsys) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    text = tmp_path / "text.txt"
    text.write_text("three short words\n")
    given = f"Qwen3-14B-Base={tmp_path / 'tokenizer.json'}"
    rows = candidates(capsys, "--data", text, "--tokenizer", given)
    assert rows[0]["facts"]["name"] == "Qwen3-14B-Base"
    assert rows[0]["fertility"] == {
        "tokens": 3, "words": 3, "bytes": 17, "tokens_per_word": 1.0, "tokens_per_byte": 3 / 17
    }  # fmt: skip
    assert rows[1]["fertility"] is None
    assert run(capsys, "advise", "--tokenizer", given)[0] == 2
    assert run(capsys, "advise", "--data", text, "--tokenizer", "nobody=x")[0] == 2
    assert run(capsys, "advise", "--data", tmp_path / "none")[0] == 4


def test_pin_prints_the_line_to_paste(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from forebear.planning import pin

    asked = []
    monkeypatch.setattr(pin, "resolve_commit", lambda *words: asked.append(words) or "a" * 40)
    code, text = run(capsys, "pin", "org/model")
    assert (code, text) == (0, f"hub: {{repo: org/model, revision: {'a' * 40}}}\n")
    body = json.loads(run(capsys, "pin", "org/model", "v1", "--json")[1])
    assert (body["reference"], body["commit"]) == ("v1", "a" * 40)
    assert asked == [("org/model", "main"), ("org/model", "v1")]
