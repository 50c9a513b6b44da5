"""Trajectories: every answer of a teacher with its verdict, kept and rejected alike.

A trajectory says which prompt was asked, who answered and under which terms, how the answer was
drawn, what it was (with its digest) and how the verifier judged it. Yields are counted from the
same rows that are written, so figures and rows cannot disagree.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.formats import strictjson
from forebear.train.distill.teachers import Answer
from forebear.train.distill.verifiers import Verdict, Verifier

Trajectory = dict[str, Any]

# words in a title: the longer the title, the more specific its code
_LENGTHS = ((1, 3), (4, 6), (7, 10), (11, None))


def judge(
    row: Mapping[str, str],
    answers: Sequence[Answer],
    *,
    verifier: str,
    verify: Verifier,
    provenance: Mapping[str, Any],
    extras: Sequence[Mapping[str, Any]] = (),
) -> list[Trajectory]:
    """One trajectory per answer to ``row``, in the order drawn.

    Args:
        row: prompt and right answer.
        answers: the teacher's.
        verifier: name of ``verify``, recorded.
        verify: judges a finished answer; an unfinished one is rejected before it.
        provenance: ``teacher``, ``sampling`` and ``terms``, the same in every row.
        extras: further keys of each answer; none when empty.
    """
    rows: list[Trajectory] = []
    told = {"difficulty": row["difficulty"]} if row.get("difficulty") else {}
    for number, answer in enumerate(answers):
        verdict = (
            verify(answer.text, row)
            if answer.finished
            else Verdict(verified=False, reason="unfinished")
        )
        rows.append(
            {
                **provenance,
                "id": row["id"],
                "prompt": row["prompt"],
                "title": row.get("title", ""),
                "expected": row["answer"],
                "response": answer.text,
                "response_sha256": hashlib.sha256(answer.text.encode()).hexdigest(),
                "sample": number,
                "tokens": answer.n_tokens,
                "verifier": verifier,
                "verdict": "kept" if verdict.verified else "rejected",
                "reason": verdict.reason,
                **told,
                **(extras[number] if extras else {}),
                **verdict.detail,
            }
        )
    return rows


def write_trajectories(folder: Path, trajectories: Sequence[Trajectory]) -> None:
    """Writes ``kept.jsonl`` and ``rejected.jsonl``, one canonical object per line."""
    folder.mkdir(parents=True, exist_ok=True)
    for verdict in ("kept", "rejected"):
        lines = [strictjson.dumps(row) for row in trajectories if row["verdict"] == verdict]
        (folder / f"{verdict}.jsonl").write_bytes(b"".join(lines))


def student_rows(trajectories: Sequence[Trajectory], *, per_prompt: int) -> list[dict[str, str]]:
    """Rows to train on: different kept answers, at most ``per_prompt`` of each prompt."""
    chosen: dict[str, list[dict[str, str]]] = {}
    for row in trajectories:
        if row["verdict"] != "kept":
            continue
        rows = chosen.setdefault(row["id"], [])
        answer = row["response"].strip()
        if len(rows) < per_prompt and all(answer != other["answer"] for other in rows):
            rows.append({"id": row["id"], "prompt": row["prompt"], "answer": answer})
    return [row for rows in chosen.values() for row in rows]


def yields(trajectories: Sequence[Trajectory], *, samples_per_prompt: int) -> dict[str, Any]:
    """Counts and shares of kept answers: overall, by title length, by kept answers per prompt.

    Returns:
        ``answers``, ``kept``, ``rate``; ``by_verifier`` and ``by_title_words`` with the same
        three; ``prompts_by_kept``, how many prompts have 0, 1, … kept answers; ``rejected_by``,
        how many answers were rejected for each reason. ``by_difficulty`` when rows name theirs.
    """
    per_prompt = Counter({row["id"]: 0 for row in trajectories})
    per_prompt.update(row["id"] for row in trajectories if row["verdict"] == "kept")
    prompts = Counter(per_prompt.values())
    reasons = Counter(row["reason"] for row in trajectories if row["verdict"] == "rejected")
    graded = [row for row in trajectories if "difficulty" in row]
    by_difficulty = {"by_difficulty": _grouped(graded, lambda row: str(row["difficulty"]))}
    return {
        **_share(trajectories),
        **(by_difficulty if graded else {}),
        "by_verifier": _grouped(trajectories, lambda row: str(row["verifier"])),
        "by_title_words": _grouped(trajectories, _length_bucket),
        "prompts_by_kept": {
            str(n): prompts[n] for n in range(max(samples_per_prompt, *prompts, 0) + 1)
        },
        "prompts_with_kept": len(per_prompt) - prompts[0],
        "rejected_by": dict(sorted(reasons.items())),
    }


def _length_bucket(row: Trajectory) -> str:
    words = max(1, len(row["title"].split()))
    for low, high in _LENGTHS:
        if high is None:
            return f"{low:02d} or more"
        if words <= high:
            return f"{low:02d} to {high:02d}"
    raise AssertionError("the last bucket is open")


def _grouped(
    trajectories: Sequence[Trajectory], name: Callable[[Trajectory], str]
) -> dict[str, dict[str, float]]:
    groups: dict[str, list[Trajectory]] = {}
    for row in trajectories:
        groups.setdefault(name(row), []).append(row)
    return {key: _share(groups[key]) for key in sorted(groups)}


def _share(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    kept = sum(row["verdict"] == "kept" for row in trajectories)
    return {
        "answers": len(trajectories),
        "kept": kept,
        "rate": kept / len(trajectories) if trajectories else 0.0,
    }
