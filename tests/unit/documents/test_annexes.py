"""Annex XI and XII: numbering, the part for systemic risk, the two columns, what is missing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from forebear.documents import annexes
from forebear.documents.values import unknown
from tests.unit.documents.made import computed, declared, facts, reported, row

if TYPE_CHECKING:
    from forebear.documents.values import Row, Value

XI = "restricted/annex-xi.md"


def _rule(key: str, outcome: str | None) -> Row:
    value = unknown("an input is not known") if outcome is None else computed(outcome)
    return row(key, outcome=value)


def _eleven(values: dict[str, Value] | None = None, **rules: str | None) -> str:
    rows = [_rule(key, outcome) for key, outcome in rules.items()]
    made = facts(values, {"applicability.rules": rows})
    return annexes.render(made)[XI].decode()


def test_the_points_carry_the_numbers_of_the_act() -> None:
    files = annexes.render(facts())
    numbers = re.findall(r"^### (\S+ \(.\)) ", files[XI].decode(), re.MULTILINE)
    assert numbers == [f"1.1 ({c})" for c in "abcdef"] + [f"1.2 ({c})" for c in "abcde"]
    twelve = re.findall(r"^### (\S+ \(.\)) ", files["annex-xii.md"].decode(), re.MULTILINE)
    assert twelve == [f"1 ({c})" for c in "abcdefgh"] + [f"2 ({c})" for c in "abc"]


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ("not_indicated", "not applicable (rule A4"),
        (None, "unknown (rule A4"),
        ("indicated", "Red teaming by others"),
    ],
)
def test_the_part_for_systemic_risk_follows_rule_a4(outcome: str | None, says: str) -> None:
    text = _eleven({"eval.redteam.external": declared("two weeks")}, A4=outcome)
    assert says in text
    assert ("two weeks" in text) is (outcome == "indicated")
    assert "## 2 Additional information for models with systemic risk" in text


def test_a_modifier_that_may_be_a_provider_shows_the_original_beside() -> None:
    values = {
        "model.context_length": computed(8192, unit="tokens"),
        "model.base.context_length": reported(32768, unit="tokens"),
    }
    beside = _eleven(values, A2="indicated")
    row_of = next(line for line in beside.splitlines() if line.startswith("| Context length"))
    assert "8192" in row_of
    assert "32,768" in row_of
    assert "◇" in row_of
    alone = _eleven(values, A2="not_indicated")
    assert "32,768" not in alone
    assert "- **Context length:** 8192" in alone


def test_what_is_missing_stays_visible_in_two_columns() -> None:
    made = facts({}, {"applicability.rules": [_rule("A2", "indicated")]},
                 missing=["model.release_date"])  # fmt: skip
    assert "**MISSING: Release date" in annexes.render(made)[XI].decode()


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("owed", "owed, indicative"), ("voluntary", "voluntary"),
        ("not_owed", "not owed, indicative"),
        ("owed_if_unknown", "owed if the criterion is met, which is not known"),
    ],
)  # fmt: skip
def test_the_standing_of_each_annex_is_said_at_its_head(mark: str, says: str) -> None:
    values = {"applicability.mark.D3": computed(mark)}
    files = annexes.render(facts(values))
    assert f"Standing: **{says}**" in files[XI].decode()
    # nobody said anything about Annex XII
    assert "which is not known" in files["annex-xii.md"].decode()


def test_the_time_to_answer_comes_from_the_legal_constants() -> None:
    assert "be answered within 14 days" in annexes.render(facts())["annex-xii.md"].decode()


def test_annex_twelve_holds_no_compute() -> None:
    values = {"train.flop_modification": computed(37_417_770_745_344, unit="FLOP")}
    files = annexes.render(facts(values))
    assert "FLOP" in files[XI].decode()
    assert "FLOP" not in files["annex-xii.md"].decode()


def test_the_json_of_an_annex_holds_exact_values() -> None:
    values = {"train.flop_modification": computed(37_417_770_745_344, unit="FLOP")}
    body = json.loads(annexes.render(facts(values))["restricted/annex-xi.json"])
    lines = [line for section in body["sections"] for block in section["blocks"]
             for line in block.get("lines", ())]  # fmt: skip
    found = next(line for line in lines if line["fact"] == "train.flop_modification")
    assert found["value"]["value"] == 37_417_770_745_344
