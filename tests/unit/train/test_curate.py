"""The curate stage: what is kept, what is dropped, and that golden codes stay out of training."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forebear import ledger
from forebear.errors import ConfigError, EnvironmentFailure, FormatError, RecordError
from forebear.formats import strictjson
from forebear.train.curate import golden as golden_set
from forebear.train.curate.decontaminate import GoldenIndex, require_no_leak
from forebear.train.curate.icd10cm import letters
from forebear.train.curate.params import CurateParams, QualityParams, SourceParams
from forebear.train.curate.quality import quality_fault
from forebear.train.curate.render import QUESTIONS
from forebear.train.curate.sources import Reject, check_source, read_source, sections
from forebear.train.curate.work import build_corpus
from forebear.train.stage import validate_section

OUTS = ("corpus", "golden", "ledger", "dropped")

COMMON = {
    "modality": "text",
    "publisher": "the tests",
    "collected_from": "2025-10",
    "collected_to": "2026-04",
}
ICD = {
    "id": "icd10cm",
    "kind": "package",
    "package": "simple-icd-10-cm",
    "version": "1.5.0",
    "licence": "LicenseRef-PublicDomain-US",
    "role": "domain",
    **COMMON,
}
PYDOC = {
    "id": "pydoc-topics",
    "kind": "package",
    "package": "pydoc_data.topics",
    "version": "stdlib",
    "licence": "PSF-2.0",
    "role": "replay",
    **COMMON,
}


QUESTION = "Which of these statements on the heat capacity of a perfect gas is the right one?"


def own(path: Path | str, role: str = "domain", **more: object) -> dict[str, object]:
    return {
        "id": "own",
        "kind": "jsonl",
        "path": str(path),
        "licence": "MIT",
        "role": role,
        **COMMON,
        **more,
    }


def params(sources: list[dict[str, object]], **more: object) -> CurateParams:
    section = {
        "sources": sources,
        "chapters": ["A", "E", "I-L"],
        "max_categories": 20,
        "max_documents": 120,
        "instruction_rows": 60,
        "golden": {"n": 12},
        **more,
    }
    checked = validate_section(CurateParams, "curate", {"seed": 7, "curate": section})
    assert isinstance(checked, CurateParams)
    return checked


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().split(b"\n") if line]


def build(folder: Path, section: CurateParams) -> None:
    outs = {name: folder / name for name in OUTS}
    build_corpus(section, metrics=folder / "metrics.json", **outs)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curate")
    given = folder / "given.jsonl"
    texts = [
        "A clinical note on coding.",
        "A clinical note on coding.",
        "word",
        "Cafe\u0301: K00",
        f"As they ask: {QUESTION} One that is right.",
    ]
    url = "https://a.example/notes"
    rows = [*({"text": text} for text in texts), {"text": "A note from the web.", "url": url}]
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair = {"prompt": "Which is short?", "chosen": "This.", "rejected": "That, if you ask me."}
    (folder / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    asked = {"question": QUESTION, "options": ["One that is right", "Another"]}
    (folder / "asked.jsonl").write_text(json.dumps(asked) + "\n")
    build(folder, params(sources_of(folder)))
    return folder


def sources_of(folder: Path) -> list[dict[str, object]]:
    asked = own(folder / "asked.jsonl", "eval", fields={"text": ["question", "options"]})
    pairs = own(folder / "pairs.jsonl", "preference")
    given = own(folder / "given.jsonl")
    return [ICD, PYDOC, given, {**asked, "id": "asked"}, {**pairs, "id": "pairs"}]


@pytest.fixture(scope="module")
def training(built: Path) -> list[dict[str, Any]]:
    return [
        row
        for name in ("domain", "replay", "instruction", "preference")
        for row in rows(built / "corpus" / f"{name}.jsonl")
    ]


@pytest.fixture(scope="module")
def far(built: Path) -> list[dict[str, Any]]:
    return rows(built / "golden" / "mc4_far.jsonl")


def test_no_golden_code_stands_in_any_training_row(
    far: list[dict[str, Any]], training: list[dict[str, Any]]
) -> None:
    text = "\n".join(json.dumps(row) for row in training)
    assert len(far) == 12
    for item in far:
        assert f"{item['code']}:" not in text
        assert f'"{item["code"]}"' not in text
        assert f": {item['code']}" not in text


def test_every_golden_category_has_three_trained_codes_and_one_golden_code(
    far: list[dict[str, Any]], training: list[dict[str, Any]]
) -> None:
    text = "\n".join(row.get("text", "") for row in training)
    categories = Counter(item["code"][:3] for item in far)
    assert set(categories.values()) == {1}
    for category in categories:
        assert text.count(f"{category}.") >= 3


def test_far_options_come_from_four_chapters_and_are_all_held_out(
    far: list[dict[str, Any]],
) -> None:
    chapter = {item["code"]: item["stratum"] for item in far}
    for item in far:
        assert len({chapter[choice] for choice in item["choices"]}) == 4
        assert item["choices"][item["answer"]] == item["code"]


def test_mc4_has_two_pairs_and_hard_one_category(built: Path) -> None:
    for item in rows(built / "golden" / "mc4.jsonl"):
        pairs = Counter(choice[:3] for choice in item["choices"])
        assert sorted(pairs.values()) == [2, 2]
    for item in rows(built / "golden" / "mc4_hard.jsonl"):
        assert len(set(item["choices"])) == 4
        assert {choice[:3] for choice in item["choices"]} == {item["code"][:3]}


@pytest.mark.parametrize("name", golden_set.STRATA)
def test_answer_positions_are_balanced(built: Path, name: str) -> None:
    positions = Counter(item["answer"] for item in rows(built / "golden" / f"{name}.jsonl"))
    assert set(positions.values()) == {3}


def test_two_runs_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build(tmp_path, params(sources_of(built)))
    for name in (*OUTS, "metrics.json"):
        assert files(built / name) == files(tmp_path / name)


KILLED = """
import json, os, signal, sys
from pathlib import Path
import simple_icd_10_cm  # what takes longest is loaded once, before the runs are forked
from forebear.train.curate import gather, writing
from tests.unit.train.test_curate import build, params, sources_of

folder = Path(sys.argv[1])
codes = []
for module, name, call in ((gather, "_line", 70), (writing, "corpus_row", 150), (writing, "", 0)):
    child = os.fork()
    if not child:
        before = getattr(module, name, None)

        def until_killed(*arguments):
            global call
            call -= 1
            if not call:
                os.kill(os.getpid(), signal.SIGKILL)
            return before(*arguments)

        setattr(module, name or "unused", until_killed)
        build(folder / "again", params(sources_of(folder)))
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


def test_a_stage_killed_twice_ends_with_the_same_bytes(built: Path, repository: Path) -> None:
    """SIGKILL while drafts are laid on disk, then while the outs are written, then a whole run."""
    scratch = built / "scratch"
    env = {**os.environ, "FOREBEAR_SCRATCH": str(scratch)}
    words = [sys.executable, "-c", KILLED, str(built)]
    done = subprocess.run(words, env=env, cwd=repository, capture_output=True, check=True)
    assert json.loads(done.stdout) == [-signal.SIGKILL, -signal.SIGKILL, 0]
    for name in (*OUTS, "metrics.json"):
        assert files(built / name) == files(built / "again" / name)
    assert list(scratch.iterdir()) == []


def files(place: Path) -> dict[Path, bytes]:
    """Bytes of a file, or of all below a folder."""
    found = [place, *place.rglob("*")]
    return {file.relative_to(place): file.read_bytes() for file in found if file.is_file()}


def test_questions_are_in_other_words_than_the_golden_one(training: list[dict[str, Any]]) -> None:
    asked = [row for row in training if "answer" in row]
    assert len(asked) == 60
    assert all(row["answer"] == row["code"] for row in asked)
    assert not any("Which ICD-10-CM code means" in row["prompt"] for row in asked)
    assert len(QUESTIONS) >= 3


def test_every_kept_row_has_a_leaf_under_the_written_root(
    built: Path, training: list[dict[str, Any]]
) -> None:
    kept = ledger.parse_kept((built / "ledger" / "kept.jsonl").read_bytes(), where="kept")
    intake = ledger.parse_intake((built / "ledger" / "intake.jsonl").read_bytes(), where="intake")
    assert {row["id"].partition(":")[2] for row in training} == {row.key for row in kept}
    written = strictjson.parse_canonical((built / "ledger" / "root.json").read_bytes(), where="")
    assert written == ledger.descriptor(kept, intake)
    held = [*rows(built / "golden" / "mc4.jsonl"), *rows(built / "golden" / "golden_unseen.jsonl")]
    assert sum(row.fate == "dropped:golden" for row in intake) == len(held) > 12


def test_a_declared_eval_set_is_read_held_against_the_others_and_used_for_nothing(
    built: Path, training: list[dict[str, Any]]
) -> None:
    metrics = strictjson.parse((built / "metrics.json").read_bytes(), where="metrics")
    assert metrics["decontaminated_against"] == {"asked": 1}
    assert metrics["dropped"]["decontamination"]["asked_ngrams"] == 1
    assert not any(QUESTION in row.get("text", "") for row in training)
    read = f"{QUESTION}\nOne that is right\nAnother".encode()
    intake = ledger.parse_intake((built / "ledger" / "intake.jsonl").read_bytes(), where="intake")
    fates = {row.key: row.fate for row in intake}
    assert fates[ledger.document_key(read)] == "dropped:eval"
    assert sorted(file.name for file in (built / "corpus").iterdir()) == [
        "domain.jsonl", "instruction.jsonl", "preference.jsonl", "replay.jsonl",
    ]  # fmt: skip


def test_a_refused_run_leaves_the_earlier_outs_as_they_were(built: Path, tmp_path: Path) -> None:
    for name in OUTS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "earlier").write_text("whole")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine words"}\n{"text": \n')
    with pytest.raises(FormatError) as refused:
        build(tmp_path, params([ICD, PYDOC, own(bad)]))
    assert f"{bad}:2: " in refused.value.what
    with pytest.raises(ConfigError) as emptied:
        build(tmp_path, params([ICD, PYDOC], licences={"allow": ["PSF-2.0"]}))
    assert "no document of role domain" in emptied.value.what
    assert all(files(tmp_path / name) == {Path("earlier"): b"whole"} for name in OUTS)


def test_given_preferences_have_rows_and_leaves_of_their_own(built: Path) -> None:
    (row,) = rows(built / "corpus" / "preference.jsonl")
    assert (row["prompt"], row["chosen"]) == ("Which is short?", "This.")
    kept = ledger.parse_kept((built / "ledger" / "kept.jsonl").read_bytes(), where="kept")
    (leaf,) = [one for one in kept if one.split == "preference"]
    assert row["id"] == f"pairs:{leaf.key}"


def test_the_ledger_tells_where_a_kept_document_stood(
    built: Path, training: list[dict[str, Any]]
) -> None:
    (row,) = [row for row in training if row.get("text") == "A note from the web."]
    key = row["id"].partition(":")[2]
    details = rows(built / "ledger" / "details.jsonl")
    assert details == [{"key": key, "url": "https://a.example/notes"}]


def test_drops_are_counted_and_sampled_and_texts_brought_to_nfc(
    built: Path, training: list[dict[str, Any]]
) -> None:
    metrics = strictjson.parse((built / "metrics.json").read_bytes(), where="metrics")
    assert metrics["dropped"]["exact_copy"]["copy"] >= 1
    assert metrics["dropped"]["quality"] == {"too_short": 1}
    assert [row["text"] for row in rows(built / "dropped" / "quality.jsonl")] == ["word"]
    assert any(row.get("text") == "Caf\u00e9: K00" for row in training)


def test_a_malformed_row_is_named_by_file_line_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"text": "fine words"}\n{"text": ""}\n{"text": "fine"\n')
    source = SourceParams.model_validate(own(file))
    with pytest.raises(FormatError) as error:
        list(read_source(source, max_bad_fraction=0.5, reject=lambda _: None))
    assert f"{file}:2: 'text' must be text" in error.value.what
    assert f"{file}:3: " in error.value.what
    rejects: list[Reject] = []
    drafts = list(read_source(source, max_bad_fraction=0.7, reject=rejects.append))
    assert [draft.text for draft in drafts] == ["fine words"]
    assert [reject.line for reject in rejects] == [2, 3]


@pytest.mark.parametrize(
    "source",
    [own("no/such.jsonl"), {**ICD, "version": "0.0.1"}],
    ids=["file", "version"],
)
def test_a_source_that_is_not_there_is_one_clear_error(source: dict[str, object]) -> None:
    checked = SourceParams.model_validate(source)
    with pytest.raises(EnvironmentFailure) as error:
        check_source(checked)
    assert error.value.where.startswith(f"source {checked.id}: ")


def test_a_source_without_licence_is_refused() -> None:
    for licence in ({}, {"licence": ""}):
        source = {key: value for key, value in PYDOC.items() if key != "licence"} | licence
        with pytest.raises(ConfigError) as error:
            params([ICD, source])
        assert "curate.sources.1.licence" in error.value.what


def test_a_leaked_golden_item_stops_the_stage() -> None:
    golden = [{"id": "golden:K81.0", "code": "K81.0", "description": "Acute cholecystitis"}]
    clean = {"id": "a:1", "text": "Chronic cholecystitis: K81.1"}
    require_no_leak(golden, [clean])
    question = 'Which ICD-10-CM code means "Acute cholecystitis"?'
    for text in ("K81.0: Acute cholecystitis", "see K810.", f"{question} K81.0", question):
        with pytest.raises(RecordError) as error:
            require_no_leak(golden, [clean, {"id": "a:2", "text": text}])
        assert error.value.where == "curate: a:2"


def test_a_text_that_repeats_a_long_golden_title_is_contaminated_and_a_sibling_is_not() -> None:
    title = (
        "Displaced transverse fracture of shaft of left femur, subsequent encounter "
        "for open fracture type I or II with routine healing and nothing more to say"
    )
    index = GoldenIndex()
    index.add(title, "S72.322E")
    assert index.reason(f"They ask: Which ICD-10-CM code means {title}") == "golden_ngrams"
    assert index.reason(title.replace("left", "right") + ": S72.321E") is None


def test_too_few_categories_for_the_golden_set_is_refused() -> None:
    section = params([ICD, PYDOC], chapters=["U"], golden={"n": 50})
    with pytest.raises(ConfigError):
        build(Path("unused"), section)


def test_shortcuts_are_scored_with_ties_shared() -> None:
    items = [{"choices": ["A00.1", "A00", "B00", "C00"], "answer": 0}] * 2
    assert golden_set.shortcuts(items) == {
        "first_option": 1.0,
        "longest_option": 1.0,
        "commonest_prefix": 0.5,
    }
    low, high = golden_set.chance_interval(200)
    assert (round(low, 4), round(high, 4)) == (0.1951, 0.3143)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Pain: R52", None),
        ("Pain", "too_short"),
        ("x" * 40 + " y", "long_words"),
        ("1 2 3 4", "few_words"),
        ("same line\n" * 4, "repeated_lines"),
    ],
)
def test_quality_rules(text: str, fault: str | None) -> None:
    assert quality_fault(text, QualityParams()) == fault


def test_chapters_are_letters_and_ranges() -> None:
    assert letters(["A", "S-T"]) == {"A", "S", "T"}
    with pytest.raises(ConfigError):
        params([ICD], chapters=["T-S"])


def test_sections_keep_every_block_of_a_text() -> None:
    text = "\n\n".join(f"block {number} " + "word " * 100 for number in range(9))
    parts = list(sections(text))
    assert len(parts) > 2
    assert [b for part in parts for b in part.split("\n\n")] == [
        b.rstrip() for b in text.split("\n\n")
    ]
    assert len({hashlib.sha256(part.encode()).digest() for part in parts}) == len(parts)
