"""The chosen part of ICD-10-CM, split into golden and trained codes, and what is written of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from forebear.errors import ConfigError, RecordError
from forebear.train.curate import cells, golden
from forebear.train.curate.golden import Item
from forebear.train.curate.icd10cm import MIN_CODES, Code, read_codes, select
from forebear.train.curate.params import ICD10CM, CurateParams, SourceParams
from forebear.train.curate.render import (
    document,
    letter_question,
    listing,
    questions,
    record,
)
from forebear.train.curate.sources import Draft, normal_form
from forebear.train.curate.takedown import TakedownList


@dataclass(frozen=True, slots=True)
class Classification:
    """The chosen part of the classification, split.

    Attributes:
        source: where it came from.
        n_read: billable codes read.
        held: the golden codes.
        trained: the other chosen codes by category.
        taken: chosen codes that the takedown list names; used for nothing.
        unseen: a code each of categories that no training text is about.
    """

    source: SourceParams
    n_read: int
    held: list[Code]
    trained: dict[str, list[Code]]
    taken: list[Code]
    unseen: tuple[Code, ...] = ()

    def golden_sets(self, params: CurateParams) -> tuple[dict[str, list[Item]], dict[str, Any]]:
        """Rows of every golden file by name, and what shortcuts score on them.

        Raises:
            ConfigError: the codes cannot give the sets, or a shortcut scores on ``mc4``.
        """
        sets, checks = golden.build(self.held, self.trained, params.seed)
        seen = cells.seen(self.trained, params)
        further = cells.build(self.held, self.unseen, seen, params.seed)
        sizes = {"golden": len(self.held), "unseen": len(self.unseen), "seen": len(seen)}
        return {**sets, **further}, {**checks, "cells": sizes}

    def selection(self) -> dict[str, int]:
        """How much of the classification this run is about."""
        trained = [one for members in self.trained.values() for one in members]
        return {
            "codes_read": self.n_read,
            "categories": len(self.trained),
            "chapters": len({one.chapter for one in trained}),
            "trained_codes": len(trained),
            "golden_codes": len(self.held),
            "unseen_codes": len(self.unseen),
        }

    def require_siblings(self, asked: Mapping[str, int]) -> None:
        """Checks what the golden set promises: trained siblings in every golden category.

        Instruction rows are fewer than codes, so the count is of codes that reach training at all.

        Args:
            asked: instruction rows written, by category.
        Raises:
            ConfigError: a golden category is not asked for at all.
            RecordError: one keeps too few trained codes.
        """
        for one in self.held:
            if len(self.trained[one.category]) < MIN_CODES - 1:
                raise RecordError(
                    f"category {one.category} keeps fewer than {MIN_CODES - 1} trained codes",
                    where="curate: golden",
                )
            if not asked.get(one.category):
                raise ConfigError(
                    f"no instruction row is left for the golden category {one.category}",
                    where="params.yaml: curate.instruction_rows",
                    fix="raise it to at least curate.max_categories",
                )


def read_classification(params: CurateParams, listed: TakedownList) -> Classification:
    """Chooses the codes and holds the golden ones out.

    Raises:
        ConfigError: the classification is no source, or cannot give the golden set.
        EnvironmentFailure: its package is not there.
    """
    source = next((s for s in params.sources if s.package == ICD10CM), None)
    if source is None:
        raise ConfigError(
            f"the golden set is built from {ICD10CM}, which is not among the sources",
            where="params.yaml: curate.sources",
        )
    codes = read_codes(source, params.chapters)
    chosen = select(codes, params)
    selected = chosen.trained
    # before anything is made from them: lists, questions and golden items go with the record
    taken = [
        one for members in selected.values() for one in members if _is_listed(one, listed, params)
    ]
    selected = {
        category: [one for one in members if one not in taken]
        for category, members in selected.items()
    }
    held = golden.hold_out(selected, params)
    names = {one.code for one in held}
    trained = {
        category: [one for one in members if one.code not in names]
        for category, members in selected.items()
        if members
    }
    split = Classification(source, len(codes), held, trained, taken)
    texts = [draft.text for draft in classification_drafts(split, params)]
    return replace(split, unseen=cells.unseen(chosen.unseen, texts, params))


def _is_listed(one: Code, listed: TakedownList, params: CurateParams) -> bool:
    text = normal_form(document(one, params.seed))
    return listed.names(record(one).encode(), text.encode())


def classification_drafts(classification: Classification, params: CurateParams) -> Iterator[Draft]:
    """Documents and questions of the trained codes."""
    source = classification.source
    for members in classification.trained.values():
        for one in members:
            text = document(one, params.seed)
            yield Draft(text, "domain", source.id, source.licence, record(one).encode())
        yield Draft(
            listing(members), "domain", source.id, source.licence, made_from=_digests(*members)
        )
    for number, (prompt, one) in enumerate(questions(classification.trained, params.seed)):
        if number == params.instruction_rows:
            return
        yield _question_draft(source, one, "code", prompt, one.code)
        if number < params.letter_rows:
            yield _question_draft(source, one, "letter", *letter_question(one))


def _question_draft(source: SourceParams, one: Code, form: str, prompt: str, answer: str) -> Draft:
    fields = {
        "prompt": prompt,
        "answer": answer,
        "code": one.code,
        "title": one.title,
        "form": form,
    }
    text = f"{prompt}\n{answer}"
    return Draft(
        text, "instruction", source.id, source.licence, None, fields, made_from=_digests(one)
    )


def _digests(*codes: Code) -> tuple[bytes, ...]:
    """Digests of the codes' records, which are what was read of them."""
    return tuple(hashlib.sha256(record(one).encode()).digest() for one in codes)
