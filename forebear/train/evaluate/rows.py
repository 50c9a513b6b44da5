"""Item rows: what a sample of lm-eval says about one item, in the form that the gate reads.

One function a kind of task. A row's ``value`` is ``None`` when, and only when, the item ended in an
error; what could not be read out of an answer counts as wrong and is flagged ``unparsed``.

Source: evaluation page, section 13.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forebear.formats import strictjson
from forebear.gate.judging import pass_at_k
from forebear.train.evaluate.model import Generation
from forebear.train.evaluate.suite import Selected

Sample = Mapping[str, Any]
# a request's arguments → journal key and answer of each repetition
Answers = Callable[[Sequence[Any]], Sequence[tuple[str, Generation]]]
_SHOWN_DIGITS = 6
_INVALID = "[invalid]"  # what lm-eval's regex filter gives when nothing matches
_LONGEST_EXTRACT = 200


@dataclass(frozen=True, slots=True)
class Scored:
    """One item as its kind scores it.

    Attributes:
        value: the main figure; ``None`` after an error.
        extracted: what was read out of the answer.
        components: figures that metrics are made of.
        unparsed: nothing could be read out of the answer.
        suspicious: an answer that is a program reaches for what no answer needs.
    """

    value: float | None
    extracted: str
    components: Mapping[str, Any] = field(default_factory=dict)
    unparsed: bool = False
    suspicious: bool = False


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(strictjson.canonical(value)).hexdigest()


def likelihood_rows(
    one: Selected, samples: Sequence[Sample], key: Callable[[Sequence[Any]], str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Rows and texts of a task that is scored by likelihood, sorted by id.

    Args:
        one: the items as chosen.
        samples: lm-eval's records of them.
        key: journal key of a request's arguments.
    """
    by_id = {str(document["item_id"]): document for document in one.documents}
    score = _LIKELIHOOD[one.suite.kind]
    rows, texts = [], []
    for sample in samples:
        document = by_id[str(sample["doc"]["item_id"])]
        scores = [float(total) for total, _ in sample["filtered_resps"]]
        best = max(range(len(scores)), key=lambda index: (scores[index], -index))
        scored = score(sample, scores, best)
        keys = [key(arguments) for arguments in sample["arguments"]]
        rows.append(_row(document, scored, keys, digest(scores), []))
        if one.suite.shows_texts:
            target = int(sample["target"])
            texts.append(
                {
                    "id": document["item_id"],
                    "prompt": _question(document, str(sample["arguments"][0][0])),
                    "answer": str(sample["arguments"][best][1]).strip(),
                    "target": str(sample["arguments"][target][1]).strip(),
                }
            )
    return _sorted(rows), _sorted(texts) if one.suite.shows_texts else None


def _question(document: Mapping[str, Any], prompt: str) -> str:
    """The question as the data has it, with lettered options where the answer is a letter."""
    for name in ("description", "question", "prompt"):
        if isinstance(document.get(name), str):
            options = zip(string.ascii_uppercase, document.get("options", ()), strict=False)
            return "\n".join([document[name], *(f"{letter}. {text}" for letter, text in options)])
    return prompt


def _choice(sample: Sample, scores: Sequence[float], best: int) -> Scored:
    return Scored(
        float(sample["acc"]),
        str(best),
        {
            "target": str(sample["target"]),
            "log_likelihoods": [round(score, _SHOWN_DIGITS) for score in scores],
        },
    )


def _bbq(sample: Sample, scores: Sequence[float], best: int) -> Scored:
    right, biased, known, clear = sample["disamb_bias_score"]
    return Scored(
        float(right),
        str(best),
        {
            "ambiguous": 0.0 if clear else 1.0,
            "unknown": 1.0 - float(known),
            "biased": float(biased),
            "acc_ambiguous": None if clear else float(right),
            "acc_disambiguated": float(right) if clear else None,
            "polarity": str(sample["doc"]["question_polarity"]),
            "log_likelihoods": [round(score, _SHOWN_DIGITS) for score in scores],
        },
    )


def _crows_pairs(sample: Sample, scores: Sequence[float], best: int) -> Scored:
    return Scored(
        float(sample["pct_stereotype"]),
        ("stereotype", "other")[best],
        {"log_likelihoods": [round(score, _SHOWN_DIGITS) for score in scores]},
    )


_LIKELIHOOD: Mapping[str, Callable[[Sample, Sequence[float], int], Scored]] = {
    "choice": _choice,
    "bbq": _bbq,
    "bbq_all": _bbq,
    "crows_pairs": _crows_pairs,
}


def written_rows(
    one: Selected, samples: Sequence[Sample], answers: Answers
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and texts of a task in which the model writes, sorted by id.

    Args:
        one: the items as chosen.
        samples: lm-eval's records of them.
        answers: journal keys and answers of a request's arguments.
    """
    from forebear.train.evaluate.chatlm import prompt_of

    by_id = {str(document["item_id"]): document for document in one.documents}
    score = _WRITTEN[one.suite.kind]
    rows, texts = [], []
    for sample in samples:
        document = by_id[str(sample["doc"]["item_id"])]
        found = answers(sample["arguments"][0])
        given = [answer for _, answer in found]
        failed = any(answer.finish_reason == "error" for answer in given)
        flags = ["truncated"] if any(a.finish_reason == "length" for a in given) else []
        if failed:
            scored, flags = Scored(None, ""), [*flags, "error"]
        else:
            scored = score(sample, [answer.text for answer in given], one)
        flags += ["unparsed"] if scored.unparsed else []
        flags += ["suspicious"] if scored.suspicious else []
        said = [answer.text for answer in given]
        row = _row(document, scored, [key for key, _ in found], digest(said), sorted(flags))
        rows.append(row)
        texts.append(
            {
                "id": document["item_id"],
                "prompt": prompt_of(sample["arguments"][0]),
                "answer": "\n\n".join(said),
                "target": str(sample["target"]) if one.suite.kind != "ifeval" else None,
            }
        )
    return _sorted(rows), _sorted(texts)


def _letter(sample: Sample, _said: Sequence[str], _one: Selected) -> Scored:
    extracted = str(sample["filtered_resps"][0])
    unparsed = extracted == _INVALID
    value = float(sample["exact_match"])
    return Scored(
        value, "" if unparsed else extracted, {"target": str(sample["target"])}, unparsed=unparsed
    )


def _ifeval(sample: Sample, _said: Sequence[str], _one: Selected) -> Scored:
    strict, loose = sample["inst_level_strict_acc"], sample["inst_level_loose_acc"]
    return Scored(
        float(sample["prompt_level_strict_acc"]),
        "",
        {
            "prompt_loose": float(sample["prompt_level_loose_acc"]),
            "instruction_strict": sum(strict) / len(strict),
            "instruction_loose": sum(loose) / len(loose),
            "weight": float(len(strict)),
            "followed": [float(followed) for followed in strict],
        },
    )


def _code(sample: Sample, said: Sequence[str], _one: Selected) -> Scored:
    from forebear.train.evaluate.hooks import judge_code

    judged = judge_code(said[0], str(sample["doc"]["code"]))
    parts = {"target": str(sample["doc"]["code"])}
    return Scored(float(judged.right), judged.extracted, parts, unparsed=judged.unparsed)


def _title(sample: Sample, said: Sequence[str], _one: Selected) -> Scored:
    text = said[0].strip()
    return Scored(
        float(sample["acc"]),
        text[:_LONGEST_EXTRACT],
        {"f1": float(sample["f1"])},
        unparsed=not text,
    )


def _exact(sample: Sample, said: Sequence[str], _one: Selected) -> Scored:
    text = said[0].strip()
    return Scored(float(sample["acc"]), text[:_LONGEST_EXTRACT], unparsed=not text)


def _mathematics(sample: Sample, said: Sequence[str], _one: Selected) -> Scored:
    from forebear.train.evaluate.hooks import judge_mathematics

    judged = judge_mathematics(said[0], str(sample["doc"]["answer"]))
    return Scored(
        float(judged.right),
        judged.extracted,
        {"reason": judged.reason, "target": str(sample["target"])},
        unparsed=judged.unparsed,
    )


def _program(sample: Sample, said: Sequence[str], one: Selected) -> Scored:
    from forebear.train.evaluate.hooks import judge_program

    doc = sample["doc"]
    tried = [judge_program(text, doc["prompt"], doc["test"], doc["entry_point"]) for text in said]
    right = sum(judged.right for judged in tried)
    parts: dict[str, Any] = {
        "n": float(len(tried)),
        "passed": float(right),
        "reasons": sorted({judged.reason for judged in tried if judged.reason}),
    }
    for metric in one.suite.metrics:
        if metric.of.startswith("pass@"):
            k = int(metric.of.removeprefix("pass@"))
            parts[metric.of] = pass_at_k(len(tried), right, k)
    return Scored(
        pass_at_k(len(tried), right, 1),
        f"{right} of {len(tried)}",
        parts,
        unparsed=all(judged.unparsed for judged in tried),
        suspicious=any(judged.suspicious for judged in tried),
    )


_WRITTEN: Mapping[str, Callable[[Sample, Sequence[str], Selected], Scored]] = {
    "letter": _letter,
    "ifeval": _ifeval,
    "code": _code,
    "title": _title,
    "exact": _exact,
    "mathematics": _mathematics,
    "program": _program,
}


def _row(
    document: Mapping[str, Any],
    scored: Scored,
    keys: Sequence[str],
    output_sha256: str,
    flags: Sequence[str],
) -> dict[str, Any]:
    return {
        "id": document["item_id"],
        "item_sha256": digest(document),
        "stratum": document["item_stratum"],
        "cluster": document.get("item_cluster", document["item_id"]),
        "requests": list(keys),
        "output_sha256": output_sha256,
        "extracted": scored.extracted,
        "value": scored.value,
        "components": dict(scored.components),
        "flags": list(flags),
        "judge": None,
    }


def _sorted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["id"]))
