"""Answers of a teacher, whatever its kind, in one shape: rows, answers, where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson
from forebear.train.distill.endpoint import Clock, ask, make_request
from forebear.train.distill.responses import ResponseFile
from forebear.train.distill.settings import CheckpointTeacher, DistillParams, EndpointTeacher
from forebear.train.distill.teachers import Answer, Sampling, sample_answers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.sft_rows import Row


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a teacher gave.

    Attributes:
        method: what this kind of distillation is called.
        rows: the prompts answered.
        answers: of each row.
        extras: further keys of each answer's trajectory; empty when there are none.
        teacher: who answered.
        provenance: what every trajectory says.
        figures: counts, the same in every run.
    """

    method: str
    rows: Sequence[Row]
    answers: Sequence[Sequence[Answer]]
    extras: Sequence[Sequence[Mapping[str, Any]]]
    teacher: Mapping[str, Any]
    provenance: Mapping[str, Any]
    figures: Mapping[str, Any]


def gather(
    params: DistillParams,
    asked: Sequence[Row],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    start: Path,
    teacher: Path | None,
    dataset: Path | None,
    responses: Path,
    scratch: Path,
    seed: int,
) -> Gathered:
    """The teacher's answers to ``asked``; a data set may answer fewer.

    Raises:
        ConfigError: the stage's command lacks what this kind of teacher needs.
        FormatError: a line of the data set has another form.
    """
    if isinstance(params.teacher, EndpointTeacher):
        return from_endpoint(params, params.teacher, asked, responses=responses, seed=seed)
    if not isinstance(params.teacher, CheckpointTeacher):
        return from_dataset(params, asked, dataset)
    if teacher is None:
        raise _lacks("teacher")
    own = teacher == start
    if not own:
        from forebear.train.checkpoint import load_model, load_tokenizer

        model, tokenizer = load_model(teacher), load_tokenizer(teacher)
    return _from_checkpoint(
        params, asked, (model, tokenizer), teacher, scratch=scratch, seed=seed, own=own
    )


def _lacks(option: str) -> ConfigError:
    return ConfigError(
        f"the stage's command gives no --{option}",
        where="params.yaml: distill.teacher.kind",
        fix=f"add --{option} PATH to the command in dvc.yaml, and the path to its deps",
    )


def _from_checkpoint(
    params: DistillParams, asked: Sequence[Row],
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], folder: Path, *,
    scratch: Path, seed: int, own: bool,
) -> Gathered:  # fmt: skip
    from forebear.hashing.digest import hash_tree
    from forebear.train.checkpoint import count_parameters

    sampling = Sampling(
        samples_per_prompt=params.samples_per_prompt,
        temperature=params.temperature,
        max_new_tokens=params.max_new_tokens,
        batch_rows=params.batch_rows,
        seed=seed,
    )
    digest = hash_tree(folder).digest
    samples = sample_answers(
        *loaded,
        [row["prompt"] for row in asked],
        sampling,
        teacher_digest=digest,
        journal=scratch / "answers.jsonl",
        label="distill",
    )
    named = {"kind": params.teacher.kind, "name": params.teacher.name, "tree": digest}
    return Gathered(
        method=f"rejection-sampling {'self-' if own else ''}distillation",
        rows=asked,
        answers=samples.answers,
        extras=(),
        teacher=named,
        provenance={
            "teacher": named, "terms": params.teacher.terms, "sampling": asdict(sampling)
        },
        figures=samples.figures(count_parameters(loaded[0])),
    )  # fmt: skip


def from_endpoint(
    params: DistillParams, teacher: EndpointTeacher, asked: Sequence[Row], *,
    responses: Path, seed: int, clock: Clock | None = None,
) -> Gathered:  # fmt: skip
    """An endpoint's answers, rows sorted by prompt id; its finished responses stay in a file."""
    rows = sorted(asked, key=lambda row: (row["id"], row["prompt"]))
    endpoint, per_prompt = teacher.endpoint, params.samples_per_prompt
    requests = [
        make_request(
            endpoint, row["prompt"], temperature=params.temperature,
            max_new_tokens=params.max_new_tokens, seed=seed, sample=sample,
        )
        for row in rows
        for sample in range(per_prompt)
    ]  # fmt: skip
    kept = ResponseFile(responses / "responses.jsonl")
    given = ask(endpoint, requests, kept, max_new_tokens=params.max_new_tokens, clock=clock)
    kept.settle()
    answers = [Answer(r.text, r.answer_tokens, r.finished) for r in given]
    extras = [
        {"request_sha256": q.key, "model_reported": r.model, "usage_counted": r.counted}
        for q, r in zip(requests, given, strict=True)
    ]
    starts = range(0, len(given), per_prompt)
    named = {
        "kind": teacher.kind, "name": teacher.name, "model": endpoint.model, "api": endpoint.api,
        "base_url": endpoint.base_url, "accessed": endpoint.accessed,
        "training_on_output": teacher.training_on_output, "by": teacher.by,
    }  # fmt: skip
    temperature = params.temperature if endpoint.send_temperature else None
    sampling = {
        "samples_per_prompt": per_prompt, "temperature": temperature,
        "top_p": endpoint.top_p, "max_new_tokens": params.max_new_tokens,
        "system": endpoint.system, "seed": seed if endpoint.send_seed else None,
    }  # fmt: skip
    prompt_tokens = sum(r.prompt_tokens for r in given)
    answer_tokens = sum(r.answer_tokens for r in given)
    return Gathered(
        method="distillation of an endpoint's verified answers",
        rows=rows,
        answers=[answers[i : i + per_prompt] for i in starts],
        extras=[extras[i : i + per_prompt] for i in starts],
        teacher=named,
        provenance={"teacher": named, "terms": teacher.terms, "sampling": sampling},
        figures={
            "prompts": len(rows),
            "prompt_tokens": prompt_tokens,
            "answer_tokens": answer_tokens,
            "models_reported": sorted({r.model for r in given}),
            "cost": endpoint.budget.cost(prompt_tokens, answer_tokens),
            "currency": endpoint.budget.currency,
        },
    )


def from_dataset(params: DistillParams, asked: Sequence[Row], file: Path | None) -> Gathered:
    """Finished answers to ``asked`` from a JSONL file: ``id``, ``response``, perhaps ``finished``.

    Raises:
        ConfigError: no file is given, or it answers none of the rows.
        FormatError: a line has another form.
    """
    if file is None:
        raise _lacks("dataset")
    found: dict[str, list[str]] = {}
    cut: set[tuple[str, int]] = set()
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        where = f"{file}:{number}"
        row = strictjson.parse(line, where=where)
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) for key in ("id", "response")
        ):
            raise FormatError("needs id and response as text", where=where)
        if not isinstance(row.get("finished", True), bool):
            raise FormatError("finished is true or false", where=where)
        answers = found.setdefault(row["id"], [])
        if row.get("finished") is False:
            cut.add((row["id"], len(answers)))
        answers.append(row["response"])
    rows = [
        row for row in sorted(asked, key=lambda r: (r["id"], r["prompt"])) if row["id"] in found
    ]
    if not rows:
        raise ConfigError(
            f"answers none of the {len(asked)} rows asked",
            where=str(file),
            fix="its ids must be ids of the rows (and of distill.forms); raise "
            "distill.max_prompts when the data set answers few of them",
        )
    teacher = params.teacher
    named = {
        "kind": teacher.kind, "name": teacher.name,
        "training_on_output": teacher.training_on_output, "by": teacher.by,
    }  # fmt: skip
    answers_of = [
        [Answer(text, 0, (row["id"], i) not in cut) for i, text in enumerate(found[row["id"]])]
        for row in rows
    ]
    return Gathered(
        method="distillation of a data set's verified answers",
        rows=rows,
        answers=answers_of,
        extras=(),
        teacher=named,
        provenance={"teacher": named, "terms": teacher.terms, "sampling": "not recorded"},
        figures={"prompts": len(rows), "answers_unasked": len(found) - len(rows)},
    )
