"""The other side of a comparison: another checkpoint, or answers that stand in a file.

Source: evaluation page, section 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import FormatError
from forebear.train.evaluate.judged.items import MissingData, digest, read_jsonl
from forebear.train.evaluate.model import ChatModel

Baseline = ChatModel | Path | None
_ID_KEYS = ("id", "uid", "question_id")


@dataclass(frozen=True, slots=True)
class BaselineAnswers:
    """What the opponent answered.

    Attributes:
        answers: by item id, one text a turn.
        sha256: what names the opponent in the identity.
    """

    answers: Mapping[str, tuple[str, ...]]
    sha256: str


def read_answers(file: Path) -> BaselineAnswers:
    """The answers in a file of JSON lines: our own texts, or the forms of the benchmarks' authors.

    Raises:
        MissingData: there is no such file.
        FormatError: a record holds no id or no answer.
    """
    rows = read_jsonl(file)
    answers = {}
    for number, row in enumerate(rows.rows, start=1):
        name = next((str(row[key]) for key in _ID_KEYS if key in row), None)
        turns = _turns(row)
        if name is None or not turns or not all(isinstance(turn, str) for turn in turns):
            raise FormatError("holds no id or no answer", where=f"{file}:{number}")
        answers[name] = tuple(turns)
    return BaselineAnswers(answers, rows.sha256)


def _turns(row: Mapping[str, Any]) -> Sequence[Any]:
    if isinstance(row.get("turns"), list):  # ours, with prompts beside the answers
        return [turn.get("answer") if isinstance(turn, dict) else turn for turn in row["turns"]]
    if isinstance(row.get("choices"), list) and row["choices"]:
        first = row["choices"][0]
        found = first.get("turns") if isinstance(first, dict) else None
        return found if isinstance(found, list) else []
    return [row[key] for key in ("answer", "output") if key in row][:1]


def find_baseline(named: str, given: Baseline, benchmarks: Path) -> ChatModel | BaselineAnswers:
    """What ``named`` means: a file below the benchmarks' folder, or what the caller gives.

    Raises:
        MissingData: it is not there.
    """
    kind, _, rest = named.partition(":")
    if kind == "file":
        return read_answers(benchmarks / rest)
    if given is None:
        raise MissingData(f"baseline {named}")
    return read_answers(given) if isinstance(given, Path) else given


def baseline_sha256(baseline: ChatModel | BaselineAnswers) -> str:
    """What names the opponent in the identity."""
    if isinstance(baseline, BaselineAnswers):
        return baseline.sha256
    return digest(dict(baseline.identity))
