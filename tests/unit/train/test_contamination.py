"""Contamination: what counts as seen, what does not, and where it is said to stand."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.gate.runs import Item, Run, TaskRun
from forebear.gate.settings import ContaminationSettings
from forebear.gate.statistics import wilson
from forebear.train.evaluate.contamination import (
    UNKNOWN,
    EvalItem,
    EvalSet,
    TrainingText,
    contaminated,
)
from forebear.train.evaluate.searched import eval_sets, training_texts

LONG = (
    "Which of the two bodies falls faster in a vacuum when both start at the same height "
    "and at the same time near the surface of the Earth"
)
SETTINGS = ContaminationSettings()


def run(**tasks: dict[str, float | None]) -> Run:
    made = {
        task: TaskRun(
            task=task,
            identity={"source": f"golden/{task}.jsonl"},
            comparable_key="k",
            direction="up",
            items={key: Item(key, "d", value, ()) for key, value in values.items()},
        )
        for task, values in tasks.items()
    }
    return Run(name="final", tree="t", run_sha256="r", tasks=made, inputs=())


def text(content: str, role: str = "domain") -> TrainingText:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return TrainingText(content, role, f"own:{digest}", digest)


def search(items: Sequence[EvalItem], documents: Iterable[str], **more: Any) -> dict[str, Any]:
    settings = more.pop("settings", SETTINGS)
    one = EvalSet("physics", tuple(items), **more)
    values: dict[str, float | None] = {item.id: 1.0 for item in items}
    value = contaminated(
        [one], [text(content) for content in documents], settings, candidate=run(physics=values)
    )
    found: dict[str, Any] = value["sets"]["physics"]
    return found


def things(n: int) -> list[EvalItem]:
    return [EvalItem(f"q{place}", f"thing number {place} has colour {place}") for place in range(n)]


def hits(items: Sequence[EvalItem], *documents: str) -> list[str]:
    return [str(key) for key in search(items, documents)["all"]]


def test_half_of_an_items_13_grams_make_it_contaminated_and_less_does_not() -> None:
    words = LONG.split()
    n_grams = len(words) - 12
    half = 12 + (n_grams + 1) // 2
    item = EvalItem("a", LONG)
    assert hits([item], " ".join(words[:half])) == ["a"]
    assert hits([item], " ".join(words[: half - 1])) == []


def test_parts_of_an_item_in_two_documents_count_together() -> None:
    words = LONG.split()
    item = EvalItem("a", LONG)
    first, second = " ".join(words[:17]), " ".join(words[5:])
    apart = search([item], [first, " ".join(words[-17:])])
    assert apart["ids"][0]["overlap"] == pytest.approx(10 / (len(words) - 12))
    assert search([item], [first, second])["ids"][0]["overlap"] == 1.0


def test_case_punctuation_and_compatible_letters_do_not_hide_an_item() -> None:
    disguised = LONG.upper().replace(" ", " -- ").replace("FALLS", "\uff26ALLS")
    assert hits([EvalItem("a", LONG)], f"Read: {disguised}!") == ["a"]


def test_an_item_shorter_than_an_n_gram_counts_as_a_whole() -> None:
    item = EvalItem("a", "What is the capital of France today")
    assert hits([item], "Say: what is the capital of France today?") == ["a"]
    assert hits([item], "what is the capital of France") == []


def test_an_item_of_four_words_is_found_by_its_answer_alone() -> None:
    item = EvalItem("a", "Capital of France?", (("Capital of France?", "Paris"),))
    found = search([item], ["The capital of France is large"])
    assert (found["all"], found["n_short"]) == ([], 1)
    assert hits([item], "Capital of France: Paris.") == ["a"]


def test_an_answer_counts_only_within_200_characters_after_its_question() -> None:
    item = EvalItem("a", "x", (("Acute cholecystitis", "K81.0"),))
    near, far = "as we say " * 18, "as we say " * 21
    assert hits([item], f"Acute cholecystitis: {near} K81.0") == ["a"]
    assert hits([item], f"Acute cholecystitis: {far} K81.0") == []
    assert hits([item], "K81.0 before, then acute cholecystitis") == []
    assert hits([item], "Acute cholecystitis: K81.09") == []


def test_a_question_whole_is_enough_where_its_wording_is_ours() -> None:
    asked = 'Which ICD-10-CM code means "Acute cholecystitis"?'
    item = EvalItem("a", f"{asked} K81.0", whole=asked)
    (hit,) = search([item], [f"They ask: {asked}"])["ids"]
    assert hit["how"] == "question"
    assert hits([item], "Which ICD-10-CM code means chronic cholecystitis?") == []


def test_the_document_with_most_of_an_item_is_named_with_its_leaf() -> None:
    words = LONG.split()
    documents = [" ".join(words[:20]), f"Here: {LONG}.", "nothing of it"]
    (hit,) = search([EvalItem("a", LONG)], documents)["ids"]
    digest = hashlib.sha256(documents[1].encode()).hexdigest()
    assert (hit["leaf"], hit["document"], hit["role"]) == (digest, f"own:{digest}", "domain")


def test_rate_interval_scores_and_limit_of_a_set() -> None:
    values: dict[str, float | None] = {f"q{place}": float(place < 4) for place in range(9)}
    apart = things(10)
    found = contaminated(
        [EvalSet("physics", tuple(apart))],
        [text(apart[0].text), text(apart[1].text)],
        SETTINGS,
        candidate=run(physics=values | {"q9": None}),
    )["sets"]["physics"]
    assert found["unknown"] == UNKNOWN
    low, high = wilson(2, 10)
    assert (found["n"], found["rate"], found["over"]) == (10, 0.2, True)
    assert (found["interval"]["low"], found["interval"]["high"]) == (low, high)
    assert found["scores"] == {"all": 4 / 9, "clean": 2 / 7, "contaminated": 1.0}
    assert found["all"] == ["q0", "q1"]


def test_one_contaminated_item_is_too_many_for_a_golden_set_and_not_for_another() -> None:
    items = things(100)
    assert search(items, [items[0].text], golden=True)["over"] is True
    assert search(items, [items[0].text], golden=False)["over"] is False
    assert search(items, [], golden=True)["over"] is False


def test_ids_are_bounded_and_all_are_counted() -> None:
    items = things(30)
    found = search(items, [" and ".join(item.text for item in items)])
    assert len(found["ids"]) == 20
    assert len(found["all"]) == found["n_contaminated"] == 30


def lines(file: Path, rows: Sequence[object]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return file


def measured(task: str, source: str, ids: Sequence[str]) -> Run:
    items = {key: Item(key, "d", 1.0, ()) for key in ids}
    made = TaskRun(task, {"source": source}, "k", "up", items)
    return Run("final", "t", "r", {task: made}, ())


BENCHMARKS = {
    "mmlu_pro": ("mmlu_pro/test_280.jsonl", "7", {"question_id": 7, "question": LONG,
                 "options": ["the first", "the second"], "answer_index": 1}, "the second"),
    "ifeval": ("ifeval/input_data.jsonl", "1000", {"key": 1000, "prompt": LONG}, None),
    "bbq": ("bbq/bbq.jsonl.gz", "Age/8", {"category": "Age", "example_id": 8, "context": LONG,
            "question": "Who?", "label": 0, "ans0": "The one"}, "The one"),
    "crows_pairs": ("crows_pairs/crows_pairs.jsonl.gz", "0", {"id": 0, "sent_more": LONG}, None),
    "gsm8k": ("gsm8k/test.jsonl.gz", "gsm8k/0001", {"question": LONG, "answer": "So.\n#### 18"},
              "18"),
    "humaneval": ("humaneval/HumanEval.jsonl.gz", "HumanEval/0", {"task_id": "HumanEval/0",
                  "prompt": LONG, "canonical_solution": "return 1"}, "return 1"),
    "mt_bench": ("mt_bench/question.jsonl", "81", {"question_id": 81, "turns": [LONG, "And?"]},
                 None),
    "arena_hard": ("arena_hard/question_v0.1.jsonl", "3f", {"uid": "3f", "prompt": LONG}, None),
    "harmbench": ("harmbench/harmbench_standard.jsonl", "h1", {"id": "h1", "behavior": LONG}, None),
    "jailbreakbench": ("jailbreakbench/benign_behaviors.jsonl", "benign-004",
                       {"index": 4, "goal": LONG}, None),
    "xstest": ("xstest/xstest_prompts.jsonl", "012", {"id": 12, "prompt": LONG}, None),
}  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("task", BENCHMARKS)
def test_the_items_of_every_benchmark_are_found_again_by_id(
    tmp_path: Path, task: str, named: bool
) -> None:
    source, key, row, answer = BENCHMARKS[task]
    lines(tmp_path / source, [row])
    finding = measured(task, f"benchmarks/{source}" if named else task, [key])
    (one,) = eval_sets(finding, golden=tmp_path, benchmarks=tmp_path)
    assert [item.id for item in one.items] == [key]
    assert LONG in one.items[0].text
    assert answer is None or answer in [given for _, given in one.items[0].pairs]
    value = contaminated([one], [text(f"Here: {LONG}")], SETTINGS, candidate=finding)
    assert value["sets"][task]["all"] == [key]


def test_an_item_that_the_data_lacks_leaves_its_set_unsearched_and_says_so(tmp_path: Path) -> None:
    source, key, row, _ = BENCHMARKS["ifeval"]
    lines(tmp_path / source, [row])
    (one,) = eval_sets(
        measured("ifeval", f"benchmarks/{source}", [key, "9999"]),
        golden=tmp_path,
        benchmarks=tmp_path,
    )
    assert "'9999'" in one.reason
    value = contaminated([one], [], SETTINGS, candidate=measured("ifeval", "", [key]))
    assert value["sets"]["ifeval"]["checked"] is False


def test_data_that_was_measured_and_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure):
        eval_sets(
            measured("ifeval", "benchmarks/ifeval/input_data.jsonl", ["1"]),
            golden=tmp_path,
            benchmarks=tmp_path,
        )
    lines(tmp_path / "ifeval/input_data.jsonl", [{"key": 1}])
    with pytest.raises(FormatError):
        eval_sets(
            measured("ifeval", "benchmarks/ifeval/input_data.jsonl", ["1"]),
            golden=tmp_path,
            benchmarks=tmp_path,
        )


def test_a_task_whose_texts_are_no_input_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    for task in ("alpaca_eval", "ifeval"):
        (one,) = eval_sets(measured(task, "", ["1"]), golden=tmp_path, benchmarks=None)
        assert one.reason == "its texts are no input of this stage"


GOLDEN = {"id": "golden:K81.0", "description": "Acute cholecystitis", "code": "K81.0",
          "choices": ["K81.0", "K81.1"], "answer": 0, "stratum": "chapter-11"}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "how"),
    [
        ({"id": "own:1", "text": "Acute cholecystitis: K81.0"}, "answer"),
        ({"id": "own:1", "text": "K81.0 Acute cholecystitis"}, "answer"),
        (
            {"id": "own:1", "prompt": 'Which ICD-10-CM code means "Acute cholecystitis"?',
             "answer": "I pass."},
            "question",
        ),
    ],
)  # fmt: skip
def test_a_golden_item_forced_past_curate_is_found_with_its_ledger_leaf(
    tmp_path: Path, row: dict[str, str], how: str
) -> None:
    lines(tmp_path / "golden" / "mc4.jsonl", [GOLDEN])
    lines(
        tmp_path / "corpus" / "instruction.jsonl", [{"id": "own:0", "text": "K81.1: Chronic"}, row]
    )
    finding = measured("mc4", "golden/mc4.jsonl", ["golden:K81.0"])
    sets = eval_sets(finding, golden=tmp_path / "golden", benchmarks=None)
    texts = list(training_texts(corpus=tmp_path / "corpus"))
    value = contaminated(sets, texts, SETTINGS, candidate=finding)["sets"]["mc4"]
    stored = row.get("text") or f"{row['prompt']}\n{row['answer']}"
    (hit,) = value["ids"]
    assert value["golden"]
    assert value["over"]
    assert hit["how"] == how
    assert hit["leaf"] == hashlib.sha256(stored.encode()).hexdigest()
    assert hit["role"] == "instruction"
    clean = contaminated(sets, texts[:1], SETTINGS, candidate=finding)["sets"]["mc4"]
    assert (clean["all"], clean["over"]) == ([], False)


def test_what_is_asked_for_recall_is_not_searched(tmp_path: Path) -> None:
    (one,) = eval_sets(
        measured("golden_seen", "golden/golden_seen.jsonl", ["x"]),
        golden=tmp_path,
        benchmarks=None,
    )
    assert "by design" in one.reason


def test_trajectories_and_pairs_lead_back_to_the_row_they_were_made_from(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"row").hexdigest()
    kept = {
        "id": f"icd10cm:{digest}",
        "prompt": "What is it?",
        "response": "Acute cholecystitis: K81.0",
    }
    pair = {"id": f"icd10cm:{digest}", "prompt": "Code", "chosen": "K81.0", "rejected": "A00.0"}
    lines(tmp_path / "trajectories" / "kept.jsonl", [kept])
    lines(tmp_path / "pairs.jsonl", [pair])
    (tmp_path / "root.json").write_bytes(strictjson.dumps({"version": "v"}))
    (tmp_path / "salted.json").write_bytes(strictjson.dumps({"version": "v", "salted": True}))
    found = {
        ledger: list(
            training_texts(
                corpus=None,
                trajectories=tmp_path / "trajectories",
                pairs=tmp_path / "pairs.jsonl",
                ledger=tmp_path / ledger,
            )
        )
        for ledger in ("root.json", "salted.json")
    }
    assert [one.role for one in found["root.json"]] == ["distillation", "preference"]
    assert {one.leaf for one in found["root.json"]} == {digest}
    assert {one.leaf for one in found["salted.json"]} == {None}
    assert "Acute cholecystitis: K81.0" in found["root.json"][0].text


def test_a_broken_row_of_the_corpus_is_named(tmp_path: Path) -> None:
    file = lines(tmp_path / "corpus" / "domain.jsonl", [{"id": "a", "text": "fine"}, ["no object"]])
    with pytest.raises(FormatError) as refused:
        list(training_texts(corpus=tmp_path / "corpus"))
    assert refused.value.where == f"{file}:2"


def test_the_value_names_no_text(tmp_path: Path) -> None:
    source, key, row, _ = BENCHMARKS["harmbench"]
    lines(tmp_path / source, [row])
    finding = measured("harmbench", f"benchmarks/{source}", [key])
    sets = eval_sets(finding, golden=tmp_path, benchmarks=tmp_path)
    value = contaminated(sets, [text(LONG)], SETTINGS, candidate=finding)
    assert value["sets"]["harmbench"]["all"] == [key]
    assert LONG.split()[5] not in strictjson.dumps(value).decode()
