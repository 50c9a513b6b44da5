"""The golden set's cells and forms, sets of one's own, and what stops a leak before training."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ConfigError, FormatError, RecordError
from forebear.formats import strictjson
from forebear.train.curate import cells, golden, ownset
from forebear.train.curate.classification import (
    Classification,
    classification_drafts,
    read_classification,
)
from forebear.train.curate.decontaminate import golden_question
from forebear.train.curate.evalonly import read_evaluation_only, refuse_benchmarks
from forebear.train.curate.icd10cm import Code
from forebear.train.curate.params import CurateParams, OwnSetParams, SourceParams
from forebear.train.curate.takedown import TakedownList
from forebear.train.stage import validate_section
from tests.unit.train.test_curate import ICD, PYDOC, build, files, own, params, rows

Rows = Sequence[Mapping[str, Any]]
PACKAGES: list[dict[str, object]] = [{**ICD}, {**PYDOC}]
SHORTCUTS = ("first_option", "longest_option", "commonest_prefix")


def large() -> CurateParams:
    """400 golden items."""
    section = {
        "sources": PACKAGES,
        "chapters": ["C", "H-K", "M", "N", "S", "T"],
        "max_categories": 480,
        "max_documents": 2400,
        "instruction_rows": 600,
        "golden": {"n": 400, "unseen": 60, "seen": 80},
    }
    checked = validate_section(CurateParams, "curate", {"seed": 7, "curate": section})
    assert isinstance(checked, CurateParams)
    return checked


@pytest.fixture(scope="module")
def chosen() -> CurateParams:
    return large()


@pytest.fixture(scope="module")
def split(chosen: CurateParams) -> Classification:
    return read_classification(chosen, TakedownList())


@pytest.fixture(scope="module")
def sets(split: Classification, chosen: CurateParams) -> dict[str, list[dict[str, Any]]]:
    return split.golden_sets(chosen)[0]


@pytest.fixture(scope="module")
def texts(split: Classification, chosen: CurateParams) -> list[str]:
    return [draft.text for draft in classification_drafts(split, chosen)]


def test_shortcuts_stay_within_chance_on_mc4_at_400_items(
    sets: dict[str, list[dict[str, Any]]],
) -> None:
    low, high = golden.chance_interval(400)
    scores = golden.shortcuts(sets["mc4"])
    assert len(sets["mc4"]) == 400
    assert set(scores) == set(SHORTCUTS)
    assert all(low <= score <= high for score in scores.values())


def test_a_shortcut_on_mc4_fails_the_build(
    split: Classification, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_first = dict.fromkeys(SHORTCUTS, 0.25) | {"first_option": 0.4}
    monkeypatch.setattr(golden, "shortcuts", lambda _: always_first)
    monkeypatch.setattr(golden, "_DRAWS", 2)
    few = split.held[:80]
    with pytest.raises(ConfigError) as refused:
        golden.build(few, split.trained, 7)
    assert "a shortcut scores outside 0.1" in refused.value.what


def test_the_unseen_cell_shares_no_category_with_training(
    split: Classification, sets: dict[str, list[dict[str, Any]]], texts: list[str]
) -> None:
    unseen = sets["golden_unseen"]
    taught = set(split.trained) | {one.category for one in split.held}
    assert len(unseen) == 60
    assert len({item["code"][:3] for item in unseen}) == 60
    for item in unseen:
        assert all(choice[:3] not in taught for choice in item["choices"])
    joined = "\n".join(texts)
    assert not any(item["code"] in joined for item in unseen)


def test_the_seen_cell_asks_for_trained_codes_in_words_that_training_does_not_use(
    split: Classification, sets: dict[str, list[dict[str, Any]]], texts: list[str]
) -> None:
    trained = {one.code for members in split.trained.values() for one in members}
    joined = "\n".join(texts)
    assert len(sets["golden_seen"]) == 80
    for item in sets["golden_seen"]:
        assert set(item["choices"]) <= trained
        assert item["code"] in joined
        assert item["prompt"] not in joined


@pytest.mark.parametrize("name", ["mc4_far", "mc4", "golden_unseen", "golden_seen"])
def test_positions_are_balanced_and_options_differ(
    sets: dict[str, list[dict[str, Any]]], name: str
) -> None:
    items = sets[name]
    positions = Counter(item["answer"] for item in items)
    assert max(positions.values()) - min(positions.values()) <= 1
    for item in items:
        assert len(set(item["choices"])) == 4
        assert item["choices"][item["answer"]] == item["code"]
    low, high = golden.chance_interval(len(items))
    assert all(low <= score <= high for score in golden.shortcuts(items).values())


def test_the_free_forms_ask_for_every_golden_code_both_ways(
    sets: dict[str, list[dict[str, Any]]],
) -> None:
    by_code = {item["code"]: item for item in sets["mc4"]}
    for item in sets["code"]:
        assert item["answer"] == item["code"]
        assert item["description"] in item["prompt"]
        assert item["code"] not in item["prompt"]
    for item in sets["title"]:
        assert item["answer"] == by_code[item["code"]]["description"]
        assert item["code"] in item["prompt"]
    assert len(sets["code"]) == len(sets["title"]) == 400


def test_two_builds_give_the_same_rows(
    chosen: CurateParams, sets: dict[str, list[dict[str, Any]]]
) -> None:
    again = read_classification(chosen, TakedownList()).golden_sets(chosen)[0]
    assert strictjson.dumps(again) == strictjson.dumps(sets)


def test_cells_of_any_size_leave_what_is_held_out_and_trained_as_it_was(
    chosen: CurateParams, split: Classification
) -> None:
    none = chosen.model_copy(update={"golden": chosen.golden.model_copy(update={"unseen": 0})})
    without = read_classification(none, TakedownList())
    assert without.unseen == ()
    assert (without.held, without.trained) == (split.held, split.trained)


def test_an_unseen_code_that_a_training_text_gives_away_is_not_taken(chosen: CurateParams) -> None:
    first, second = (
        Code(f"Z9{place}.1", f"A rare thing of kind {place}", "Z9", "Rare", 21, "Factors")
        for place in range(2)
    )
    (free,) = cells.unseen({"Z9": [first, second]}, ["nothing of it"], chosen)
    (other,) = cells.unseen({"Z9": [first, second]}, [f"see {free.code}"], chosen)
    assert {free.code, other.code} == {first.code, second.code}
    assert cells.unseen({"Z9": [first]}, ["Z90.1 is rare"], chosen) == ()


def test_codes_of_too_few_chapters_are_refused(split: Classification) -> None:
    chapter = split.held[0].chapter
    few = [one for one in split.held if one.chapter == chapter]
    with pytest.raises(ConfigError) as refused:
        golden.build(few, split.trained, 7)
    assert "are of 1 chapters" in refused.value.what


def pasted(file: Path, prompt: str) -> Path:
    row = {"prompt": prompt, "answer": "I do not know."}
    file.write_text(json.dumps(row) + "\n")
    return file


def test_a_golden_question_pasted_into_an_instruction_row_stops_the_stage(tmp_path: Path) -> None:
    clean = params(
        [*PACKAGES, own(pasted(tmp_path / "clean.jsonl", "Is it raining?"), "instruction")]
    )
    build(tmp_path / "clean", clean)
    item = rows(tmp_path / "clean" / "golden" / "mc4.jsonl")[0]
    leaky = pasted(tmp_path / "leaky.jsonl", f"Tell me: {golden_question(item['description'])}")
    with pytest.raises(RecordError) as stopped:
        build(tmp_path / "leaky", params([*PACKAGES, own(leaky, "instruction")]))
    text = f"{json.loads(leaky.read_text())['prompt']}\nI do not know."
    assert stopped.value.exit_code == 1
    assert stopped.value.where == f"curate: own:{hashlib.sha256(text.encode()).hexdigest()}"
    assert "the exact question of a golden item" in stopped.value.what
    assert not (tmp_path / "leaky" / "corpus").exists()
    named = pasted(tmp_path / "named.jsonl", f"What became of {item['id']} then?")
    with pytest.raises(RecordError) as stopped:
        build(tmp_path / "named", params([*PACKAGES, own(named, "instruction")]))
    assert "the id of a golden item" in stopped.value.what


def own_rows(n: int, **more: object) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{place:03d}",
            "prompt": f"Which colour has thing number {place} in the painted hall?",
            "choices": ["red", "green", "blue"],
            "answer": "green",
            "source": "the tests",
            "licence": "MIT",
            **more,
        }
        for place in range(n)
    ]


def written(file: Path, items: Sequence[object]) -> list[OwnSetParams]:
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return [OwnSetParams(name="halls", path=str(file))]


def test_a_set_of_ones_own_is_laid_beside_the_golden_one_and_kept_out_of_training(
    tmp_path: Path,
) -> None:
    items = own_rows(60)
    written(tmp_path / "halls.jsonl", items)
    asked = {"prompt": f"{items[7]['prompt']} Say it.", "answer": "green"}
    rest = {"prompt": "Which colour has a lemon?", "answer": "yellow"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(rest) + "\n")
    halls = {"n": 12, "own": [{"name": "halls", "path": str(tmp_path / "halls.jsonl")}]}
    section = params([*PACKAGES, own(tmp_path / "rows.jsonl", "instruction")], golden=halls)
    build(tmp_path / "out", section)
    made = rows(tmp_path / "out" / "golden" / "own_halls.jsonl")
    assert [item["id"] for item in made] == [f"own_halls:q{place:03d}" for place in range(60)]
    assert {(item["answer"], item["stratum"]) for item in made} == {(1, "all")}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["golden"]["own"] == {"own_halls": 60}
    (tmp_path / "rows.jsonl").write_text(json.dumps(asked) + "\n")
    with pytest.raises(RecordError):
        build(tmp_path / "again", section)


@pytest.mark.parametrize(
    ("n", "said"), [(200, []), (199, ["fewer than 200"]), (49, ["too few to gate"])]
)
def test_a_small_set_of_ones_own_is_said_to_be_small(
    tmp_path: Path, n: int, said: list[str]
) -> None:
    heard: list[str] = []
    ownset.read_own(written(tmp_path / "halls.jsonl", own_rows(n)), say=heard.append)
    assert len(heard) == len(said)
    assert all(words in sentence for words, sentence in zip(said, heard, strict=True))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"licence": "do what you like"}, "licence"),
        ({"answer": "yellow"}, "none of the choices"),
        ({"answer": 3}, "no place among the choices"),
        ({"choices": ["green", "green"]}, "two choices are the same"),
        ({"choices": None, "answer": 1}, "must be a text"),
        ({"prompt": "  "}, "prompt"),
        ({"hint": "it is green"}, "hint"),
    ],
)
def test_a_row_of_ones_own_that_breaks_the_format_is_named(
    tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    items = own_rows(2)
    ownset.read_own(written(tmp_path / "halls.jsonl", items), say=lambda _: None)
    items[1] |= change
    with pytest.raises(FormatError) as refused:
        ownset.read_own(written(tmp_path / "halls.jsonl", items), say=lambda _: None)
    assert fault in refused.value.what
    assert refused.value.where == f"{tmp_path / 'halls.jsonl'}:2"


def test_an_id_that_stands_twice_in_a_set_of_ones_own_is_refused(tmp_path: Path) -> None:
    items = own_rows(2)
    items[1]["id"] = items[0]["id"]
    with pytest.raises(FormatError, match="stands twice"):
        ownset.read_own(written(tmp_path / "halls.jsonl", items), say=lambda _: None)


def test_a_benchmarks_own_file_is_refused_as_a_source_by_its_digest(
    tmp_path: Path, repository: Path
) -> None:
    benchmarks = repository / "data" / "benchmarks"
    listed = read_evaluation_only(benchmarks / "evaluation_only.json")
    data = gzip.decompress((benchmarks / "gsm8k" / "test.jsonl.gz").read_bytes())
    (tmp_path / "mathematics.jsonl").write_bytes(data)
    place = own(tmp_path / "mathematics.jsonl", "instruction")
    with pytest.raises(ConfigError) as refused:
        refuse_benchmarks([SourceParams.model_validate(place)], listed)
    assert "gsm8k/test.jsonl" in refused.value.what
    held_against = {**place, "role": "eval"}
    refuse_benchmarks([SourceParams.model_validate(held_against)], listed)
    (tmp_path / "mathematics.jsonl").write_bytes(data + b"\n")
    refuse_benchmarks([SourceParams.model_validate(place)], listed)


def test_every_benchmark_file_of_the_repository_is_on_the_list(repository: Path) -> None:
    benchmarks = repository / "data" / "benchmarks"
    listed = read_evaluation_only(benchmarks / "evaluation_only.json")
    data = [file for file in benchmarks.rglob("*.jsonl*") if file.is_file()]
    assert len(data) > 5
    for file in data:
        content = file.read_bytes()
        assert hashlib.sha256(content).hexdigest() in listed, file
        if file.suffix == ".gz":
            assert hashlib.sha256(gzip.decompress(content)).hexdigest() in listed, file


def test_a_list_of_benchmarks_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('{"schema": "another", "files": {}}')
    with pytest.raises(FormatError):
        read_evaluation_only(tmp_path / "list.json")
    (tmp_path / "list.json").write_text("")
    assert read_evaluation_only(tmp_path / "list.json") == {}


def test_an_own_set_does_not_change_the_other_outs(tmp_path: Path) -> None:
    halls = {"n": 12, "own": [{"name": "halls", "path": str(tmp_path / "halls.jsonl")}]}
    written(tmp_path / "halls.jsonl", own_rows(60))
    build(tmp_path / "with", params(PACKAGES, golden=halls))
    build(tmp_path / "without", params(PACKAGES))
    assert files(tmp_path / "with" / "corpus") == files(tmp_path / "without" / "corpus")
    assert files(tmp_path / "with" / "ledger") == files(tmp_path / "without" / "ledger")
