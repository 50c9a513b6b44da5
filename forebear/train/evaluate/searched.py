"""What contamination is searched for and where: items of the measured tasks, training texts.

Items are read again from the golden set and the benchmarks, by the ids that were measured; only
their ids leave this module's caller, so that no request of a safety suite reaches a report.
Training texts are what curate wrote, what the teacher's trajectories say, and the preference
pairs; the last two lead back to the ledger by the row that they were made from.

Source: evaluation page, section 12.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.gate.runs import Run
from forebear.train.curate.decontaminate import golden_question
from forebear.train.evaluate.contamination import EvalItem, EvalSet, TrainingText

Row = Mapping[str, Any]

_GOLDEN, _BENCHMARK = "golden/", "benchmarks/"
# Trained on by design: it asks for recall.
_SEEN = "golden_seen"


@dataclass(frozen=True, slots=True)
class _Texts:
    """How a benchmark's rows become items.

    Attributes:
        files: below the benchmarks, without ``.jsonl`` or ``.jsonl.gz``.
        key: id of a row, from file and row and its number from 1.
        question: its text.
        answers: texts that would answer it.
    """

    files: tuple[str, ...]
    key: Callable[[str, Row, int], str]
    question: Callable[[Row], str]
    answers: Callable[[Row], Sequence[str]] = lambda _: ()


def _field(name: str) -> Callable[[str, Row, int], str]:
    return lambda _file, row, _number: str(row[name])


def _final(row: Row) -> Sequence[str]:
    """The whole solution, and the number after its last mark."""
    return (str(row["answer"]), str(row["answer"]).rpartition("####")[2].strip())


_BENCHMARKS: Mapping[str, _Texts] = {
    "mmlu_pro": _Texts(
        ("mmlu_pro/test_280",),
        _field("question_id"),
        lambda row: row["question"],
        lambda row: (row["options"][row["answer_index"]],),
    ),
    "ifeval": _Texts(("ifeval/input_data",), _field("key"), lambda row: row["prompt"]),
    "bbq": _Texts(
        ("bbq/bbq",),
        lambda _file, row, _number: f"{row['category']}/{row['example_id']}",
        lambda row: f"{row['context']} {row['question']}",
        lambda row: (row[f"ans{row['label']}"],),
    ),
    "crows_pairs": _Texts(("crows_pairs/crows_pairs",), _field("id"), lambda row: row["sent_more"]),
    "gsm8k": _Texts(
        ("gsm8k/test",),
        lambda _file, _row, number: f"gsm8k/{number:04d}",
        lambda row: row["question"],
        _final,
    ),
    "humaneval": _Texts(
        ("humaneval/HumanEval",),
        _field("task_id"),
        lambda row: row["prompt"],
        lambda row: (row["canonical_solution"],),
    ),
    "mt_bench": _Texts(
        ("mt_bench/question",), _field("question_id"), lambda row: "\n".join(row["turns"])
    ),
    "arena_hard": _Texts(
        ("arena_hard/question_v0.1", "arena_hard/question_v2.0"),
        _field("uid"),
        lambda row: row["prompt"],
    ),
    "harmbench": _Texts(
        ("harmbench/harmbench_standard",), _field("id"), lambda row: row["behavior"]
    ),
    "jailbreakbench": _Texts(
        ("jailbreakbench/harmful_behaviors", "jailbreakbench/benign_behaviors"),
        lambda file, row, _number: (
            f"{file.rpartition('/')[2].partition('_')[0]}-{int(row['index']):03d}"
        ),
        lambda row: row["goal"],
    ),
    "xstest": _Texts(
        ("xstest/xstest_prompts",),
        lambda _file, row, _number: f"{int(row['id']):03d}",
        lambda row: row["prompt"],
    ),
}


def eval_sets(run: Run, *, golden: Path, benchmarks: Path | None) -> list[EvalSet]:
    """The measured items of every task of ``run``, as texts to search for.

    Raises:
        EnvironmentFailure: a file that was measured cannot be read.
        FormatError: it has no such fields.
    """
    sets = []
    for task in sorted(run.tasks):
        measured = run.tasks[task]
        source = str(measured.identity.get("source", ""))
        wanted = set(measured.items)
        try:
            if task == _SEEN:
                sets.append(EvalSet(task, (), reason="trained on by design: it asks for recall"))
            elif source.startswith(_GOLDEN):
                found = _golden_items(golden / source.removeprefix(_GOLDEN))
                sets.append(_matched(task, found, wanted, golden=True))
            elif benchmarks is None or task not in _BENCHMARKS:
                sets.append(EvalSet(task, (), reason="its texts are no input of this stage"))
            else:
                found = _benchmark_items(_BENCHMARKS[task], benchmarks, source)
                sets.append(_matched(task, found, wanted, golden=False))
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise FormatError(
                f"a row lacks what the search for copies needs: {error!r}", where=f"task {task}"
            ) from error
    return sets


def _matched(task: str, found: Mapping[str, EvalItem], wanted: set[str], golden: bool) -> EvalSet:
    missing = sorted(wanted - found.keys())
    if missing:
        return EvalSet(
            task,
            (),
            golden,
            f"{len(missing)} item(s) are not in the data, the first is '{missing[0][:60]}'",
        )
    return EvalSet(task, tuple(found[key] for key in sorted(wanted)), golden)


def _golden_items(file: Path) -> dict[str, EvalItem]:
    items = {}
    for row in _rows(file):
        key = str(row["id"])
        if "description" not in row:
            answer = row["answer"] if row.get("choices") is None else row["choices"][row["answer"]]
            items[key] = EvalItem(key, row["prompt"], ((row["prompt"], str(answer)),))
            continue
        title, code = str(row["description"]), str(row["code"])
        asked = golden_question(title)
        # as curate's own index has it: a title of twenty words has siblings that share most of it
        items[key] = EvalItem(key, f"{asked} {code}", ((title, code), (code, title)), whole=asked)
    return items


def _benchmark_items(texts: _Texts, benchmarks: Path, source: str) -> dict[str, EvalItem]:
    files = texts.files
    if source.startswith(_BENCHMARK) and source.endswith((".jsonl", ".jsonl.gz")):
        measured = source.removeprefix(_BENCHMARK).removesuffix(".gz").removesuffix(".jsonl")
        files = files if len(files) > 1 else (measured,)
    items = {}
    for name in files:
        file = _stored(benchmarks / name)
        if file is None:
            if len(files) == 1:
                raise EnvironmentFailure("the measured data is not here", str(benchmarks / name))
            continue
        for number, row in enumerate(_rows(file), start=1):
            key = texts.key(name, row, number)
            question = texts.question(row)
            pairs = tuple((question, str(answer)) for answer in texts.answers(row))
            items[key] = EvalItem(key, question, pairs)
    return items


def _stored(stem: Path) -> Path | None:
    for suffix in (".jsonl", ".jsonl.gz"):
        file = stem.with_name(stem.name + suffix)
        if file.is_file():
            return file
    return None


def training_texts(
    *,
    corpus: Path | None,
    trajectories: Path | None = None,
    pairs: Path | None = None,
    ledger: Path | None = None,
) -> Iterator[TrainingText]:
    """Every text that the stages trained on, one by one.

    Args:
        corpus: folder that curate wrote.
        trajectories: folder of what the teacher answered; only what was kept is read.
        pairs: file of the preference pairs.
        ledger: its ``root.json``; a salted ledger's leaves cannot be named without the salt.

    Raises:
        EnvironmentFailure: a file cannot be read.
        FormatError: a row is no object.
    """
    salted = ledger is not None and _is_salted(ledger)
    for file in sorted(corpus.glob("*.jsonl")) if corpus is not None else ():
        for row in _rows(file):
            text = row_text(row)
            leaf = None if salted else hashlib.sha256(text.encode()).hexdigest()
            yield TrainingText(text, file.stem, str(row.get("id", "")), leaf)
    kept = trajectories / "kept.jsonl" if trajectories is not None else None
    for row in _rows(kept) if kept is not None and kept.is_file() else ():
        yield _derived(row, f"{row['prompt']}\n{row['response']}", "distillation", salted)
    for row in _rows(pairs) if pairs is not None and pairs.is_file() else ():
        parts = [str(row.get(name, "")) for name in ("prompt", "chosen", "rejected")]
        yield _derived(row, "\n".join(parts), "preference", salted)


def run_texts(folder: Path) -> dict[str, dict[str, Row]]:
    """Prompts and answers that a run kept, by task and item id; safety suites keep none.

    Raises:
        EnvironmentFailure: a file cannot be read.
        FormatError: a row is no object, or has no id.
    """
    found: dict[str, dict[str, Row]] = {}
    for file in sorted((folder / "texts").glob("*.jsonl.gz")):
        task = file.name.removesuffix(".jsonl.gz")
        found[task] = {}
        for row in _rows(file):
            if "id" not in row:
                raise FormatError("a row has no id", where=str(file))
            found[task][str(row["id"])] = row
    return found


def row_text(row: Row) -> str:
    """The text of a corpus row, as the ledger knows it."""
    if "text" in row:
        return str(row["text"])
    names = ("prompt", "answer") if "answer" in row else ("prompt", "chosen", "rejected")
    return "\n".join(str(row.get(name, "")) for name in names)


def _derived(row: Row, text: str, role: str, salted: bool) -> TrainingText:
    """A text made from a corpus row, which the row's id leads back to."""
    name = str(row.get("id", ""))
    leaf = name.rpartition(":")[2]
    return TrainingText(text, role, name, None if salted or not leaf else leaf)


def _is_salted(ledger: Path) -> bool:
    value = strictjson.parse(_read(ledger), where=str(ledger))
    return isinstance(value, dict) and bool(value.get("salted", False))


def _rows(file: Path) -> Iterator[Row]:
    """Objects of a file of lines, one by one: a corpus may be larger than memory."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                where = f"{file}:{number}"
                row = strictjson.parse(line, where=where) if line.strip() else None
                if isinstance(row, dict):
                    yield row
                elif line.strip():
                    raise FormatError("is no object", where=where)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"is no whole gzip file: {error}", where=str(file)) from error
    except OSError as error:
        raise EnvironmentFailure(f"cannot read: {error.strerror}", where=str(file)) from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"cannot read: {error.strerror}", where=str(file)) from error
