"""What a method learns from: pairs made on policy, or pairs or thumbs that a file gives.

A pair is a prompt with a chosen and a rejected answer; a thumb is a prompt with one answer and
``up`` or ``down``. A line of the file is an object with ``id``, ``prompt`` and either ``chosen``
and ``rejected``, or ``answer`` and ``thumb``. What is held out for the figures is drawn by hash of
seed, id and prompt, and no prompt stands on both sides.

Refuses a row that lacks a field, an answer that is chosen and rejected at once, and too few rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson
from forebear.train.distill.teachers import Samples, Sampling, sample_answers
from forebear.train.pairs import make_pairs
from forebear.train.preference.settings import PreferParams
from forebear.train.stage import stage_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.sft import Row

Pair = dict[str, Any]
Thumb = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Material:
    """What is trained on, what is held out, and the policy's answers before training.

    Attributes:
        train: pairs, or thumbs, to train on; empty for GRPO, which makes its own.
        held_out: pairs, or thumbs, for the figures.
        kind: ``pairs`` or ``thumbs``: what the two above hold.
        probe: rows of the held-out prompts, asked before and after; with an ``answer`` on policy.
        before: the policy's answers to ``probe``, and on policy to the prompts after them.
        rows: prompts that GRPO trains on.
    """

    train: list[Pair]
    held_out: list[Pair]
    kind: str
    probe: list[Row]
    before: Samples
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Policy:
    """Who answers: a model with its tokenizer, its digest, and the file of answers in scratch."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    digest: str
    journal: Path


def sample(params: PreferParams, policy: Policy, rows: Sequence[Row]) -> Samples:
    """The policy's answers to every row's prompt, durably."""
    sampling = Sampling(
        samples_per_prompt=params.samples_per_prompt,
        temperature=params.temperature,
        max_new_tokens=params.max_new_tokens,
        batch_rows=params.batch_rows,
        seed=stage_seed(params.seed, "prefer"),
    )
    return sample_answers(
        policy.model,
        policy.tokenizer,
        [row["prompt"] for row in rows],
        sampling,
        teacher_digest=policy.digest,
        journal=policy.journal,
        label="prefer",
    )


def gather(
    params: PreferParams, policy: Policy, *, rows: Path | None, given: Path | None
) -> Material:
    """What the chosen method learns from.

    Args:
        params: section ``prefer``.
        policy: the starting checkpoint.
        rows: instruction rows, on policy.
        given: file of pairs or thumbs, otherwise.
    Raises:
        ConfigError: a file is not named, or there are too few rows in it.
        FormatError: a line of the file is malformed.
    """
    kind = params.data.kind
    if kind == "on_policy":
        return _on_policy(params, policy, _named(rows, "rows", kind))
    file = _named(given, "given", kind)
    read = read_pairs(file) if kind == "pairs" else read_thumbs(file)
    split = _split_pairs if kind == "pairs" else _split_thumbs
    train, held_out = split(params, read)
    probe = _distinct_prompts(held_out)
    return Material(train, held_out, kind, probe, sample(params, policy, probe))


def _named(file: Path | None, option: str, kind: str) -> Path:
    if file is None:
        raise ConfigError(
            f"no file is given for data of kind {kind}",
            where="prefer",
            fix=f"add --{option} FILE to the stage's command, and FILE to its deps in dvc.yaml",
        )
    return file


def _on_policy(params: PreferParams, policy: Policy, file: Path) -> Material:
    from forebear.train.distill.run import rows_of_forms
    from forebear.train.sft import read_rows, split_rows

    rows = rows_of_forms(read_rows(file), params.forms, where="prefer")
    n_held_out, n_prompts = params.held_out_pairs, params.grpo.max_prompts or params.max_pairs
    train, held_out = split_rows(
        rows,
        n_train=max(params.max_pairs, n_prompts),
        n_held_out=n_held_out,
        seed=stage_seed(params.seed, "prefer"),
    )
    siblings = sorted({row["answer"] for row in rows})
    # the same prompts whatever the method: else drawn answers differ, and so what is held out
    asked = [*held_out, *train[: params.max_pairs]]
    samples = sample(params, policy, asked)
    made = make_pairs(asked, samples.answers, verifier=params.verifier, siblings=siblings)
    probe = asked[:n_held_out]
    if params.method == "grpo":
        _require_prompts(min(len(train), n_prompts), made, params)
        return Material([], made[:n_held_out], "pairs", probe, samples, train[:n_prompts])
    _require_enough(len(made), params, "pairs could be made")
    return Material(made[n_held_out:], made[:n_held_out], "pairs", probe, samples)


def _require_enough(n_found: int, params: PreferParams, what: str) -> None:
    if n_found <= params.held_out_pairs:
        raise ConfigError(
            f"{n_found} {what}, {params.held_out_pairs} of them are held out",
            where="params.yaml: prefer.held_out_pairs",
            fix="raise prefer.max_pairs or hold out fewer",
        )


def _require_prompts(n_train: int, held_out: Sequence[Pair], params: PreferParams) -> None:
    if not held_out:
        raise ConfigError(
            "no pair could be made",
            where="params.yaml: prefer.held_out_pairs",
            fix="hold out more, or draw more samples of each",
        )
    if n_train < params.batch_pairs:
        raise ConfigError(
            f"{n_train} prompts are left to train on, fewer than one step's {params.batch_pairs}",
            where="params.yaml: prefer.batch_pairs",
            fix="take fewer prompts a step, or hold out fewer",
        )


def read_pairs(file: Path) -> list[Pair]:
    """Pairs in file order.

    Raises:
        FormatError: a line is no object with text ``id``, ``prompt``, ``chosen`` and ``rejected``,
            or both answers are equal, or one is empty.
    """
    pairs = []
    for where, row in _objects(file):
        _require_text(row, ("id", "prompt", "chosen", "rejected"), where)
        if row["chosen"] == row["rejected"]:
            raise FormatError("the chosen answer is the rejected one", where=where)
        known = {key: row[key] for key in ("id", "prompt", "chosen", "rejected")}
        digest = hashlib.sha256(row["rejected"].encode()).hexdigest()
        pairs.append({**known, "rejected_from": "given", "rejected_sha256": digest})
    return pairs


def read_thumbs(file: Path) -> list[Thumb]:
    """Thumbs in file order.

    Raises:
        FormatError: a line is no object with text ``id``, ``prompt`` and ``answer`` and a ``thumb``
            that is ``up`` or ``down``, or the answer is empty.
    """
    thumbs = []
    for where, row in _objects(file):
        _require_text(row, ("id", "prompt", "answer"), where)
        if row.get("thumb") not in ("up", "down"):
            raise FormatError("thumb must be up or down", where=where)
        thumbs.append({key: row[key] for key in ("id", "prompt", "answer", "thumb")})
    return thumbs


def _objects(file: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        where = f"{file}:{number}"
        row = strictjson.parse(line, where=where)
        if not isinstance(row, dict):
            raise FormatError("must be an object", where=where)
        found.append((where, row))
    return found


def _require_text(row: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    wrong = [key for key in keys if not isinstance(row.get(key), str) or not row[key]]
    if wrong:
        raise FormatError(f"needs {', '.join(wrong)} as text that is not empty", where=where)


def _ranked(rows: Sequence[Pair], seed: int) -> list[Pair]:
    """Rows by hash, rows of one prompt together: so a held-out prompt is held out whole."""

    def key(row: Pair) -> tuple[bytes, bytes]:
        prompt = hashlib.sha256(f"{seed}|{row['prompt']}".encode()).digest()
        return prompt, hashlib.sha256(f"{seed}|{row['id']}|{row['prompt']}".encode()).digest()

    return sorted(rows, key=key)


def _split_pairs(params: PreferParams, pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    ranked = _ranked(pairs, stage_seed(params.seed, "prefer"))
    held_out = ranked[: params.held_out_pairs]
    kept = {pair["prompt"] for pair in held_out}
    train = [pair for pair in ranked[params.held_out_pairs :] if pair["prompt"] not in kept]
    if not train:
        _require_enough(len(held_out) + len(train), params, "pairs are given")
    return train[: params.max_pairs], held_out


def _split_thumbs(params: PreferParams, thumbs: Sequence[Thumb]) -> tuple[list[Thumb], list[Thumb]]:
    """As many held out of either kind; what shares a held-out prompt is not trained on."""
    ranked = _ranked(thumbs, stage_seed(params.seed, "prefer"))
    sides = {side: [row for row in ranked if row["thumb"] == side] for side in ("up", "down")}
    held_out = [row for rows in sides.values() for row in rows[: params.held_out_pairs]]
    kept = {row["prompt"] for row in held_out}
    train: list[Thumb] = []
    for side, rows in sides.items():
        left = [row for row in rows[params.held_out_pairs :] if row["prompt"] not in kept]
        if not left:
            _require_enough(
                min(len(rows), params.held_out_pairs), params, f"thumbs {side} are of use"
            )
        train += left[: params.max_pairs]
    return train, held_out


def _distinct_prompts(rows: Sequence[Pair]) -> list[Row]:
    return [
        {"id": row["id"], "prompt": row["prompt"]}
        for row in {r["prompt"]: r for r in rows}.values()
    ]


def as_thumbs(pairs: Sequence[Pair]) -> list[Thumb]:
    """Every pair as a thumb up and a thumb down: all ups first, then all downs."""
    return [
        {"id": pair["id"], "prompt": pair["prompt"], "answer": pair[side], "thumb": thumb}
        for side, thumb in (("chosen", "up"), ("rejected", "down"))
        for pair in pairs
    ]
