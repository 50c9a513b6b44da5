"""The curate stage: sources in, corpus, golden set and ledger out.

The golden codes are chosen before anything else reads a code; after the filters, every row that
will be written is searched for them once more, and one hit stops the stage.

Source: training page, section curate; evaluation page, section 8; provenance page, section 9.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure, RecordError
from forebear.formats import strictjson
from forebear.ledger import (
    IntakeRow,
    LedgerRow,
    descriptor,
    document_key,
    key_of_digest,
    merge_copies,
    render_derived,
    render_rows,
)
from forebear.train.curate import golden as golden_set
from forebear.train.curate.decontaminate import GoldenIndex, require_no_leak
from forebear.train.curate.icd10cm import MIN_CODES, Code, rank, read_codes, select
from forebear.train.curate.params import ICD10CM, CurateParams, SourceParams
from forebear.train.curate.render import (
    document,
    letter_question,
    listing,
    questions,
    record,
)
from forebear.train.curate.sources import (
    Draft,
    Reject,
    check_source,
    normal_form,
    read_jsonl,
    read_pydoc,
)
from forebear.train.curate.takedown import FILTER, TakedownList
from forebear.train.metrics import write_json
from forebear.train.stage import scratch_dir

ROLES = ("domain", "replay", "instruction")


@dataclass(frozen=True, slots=True)
class Classification:
    """The chosen part of the classification, split.

    Attributes:
        source: where it came from.
        n_read: billable codes read.
        held: the golden codes.
        trained: the other chosen codes by category.
        taken: chosen codes that the takedown list names; used for nothing.
    """

    source: SourceParams
    n_read: int
    held: list[Code]
    trained: dict[str, list[Code]]
    taken: list[Code]


def build_corpus(
    params: CurateParams,
    *,
    corpus: Path,
    golden: Path,
    ledger: Path,
    dropped: Path,
    metrics: Path,
    takedown: TakedownList | None = None,
) -> None:
    """Reads every source and writes the five outs; ``takedown`` names what must not be used.

    Raises:
        ConfigError: the sources cannot give the golden set or a role stays empty.
        EnvironmentFailure: a package or file is not there.
        FormatError: more rows are malformed than accepted.
        RecordError: a golden item leaked into training.
    """
    for source in params.sources:
        check_source(source)
    listed = takedown or TakedownList()
    classification = _read_classification(params, listed)
    sets, checks = golden_set.build(classification.held, classification.trained, params.seed)
    drafts, rejects = _drafts(params, classification)
    drafts, taken = listed.part(drafts)
    _say(f"{len(drafts)} texts through the filters")
    index = GoldenIndex(params.decontamination.ngram, params.decontamination.max_overlap)
    for code in classification.held:
        index.add(code.title, code.code)
    # datatrove only now: it takes a second to import
    from forebear.train.curate.filters import counts, drop_samples, run_filters

    work = scratch_dir("curate") / "filters"
    outcomes = run_filters(drafts, limits=params.quality, index=index, work=work)
    shutil.rmtree(work)
    kept = [outcome for outcome in outcomes if outcome.dropped_by is None]
    rows = {role: [_row(o.draft, o.text) for o in kept if o.draft.role == role] for role in ROLES}
    _require_rows(rows, params)
    require_no_leak(sets["mc4_far"], (row for role in ROLES for row in rows[role]))
    _require_siblings(classification, rows["instruction"])
    _write_lines(corpus, rows)
    _write_lines(golden, sets)
    described = _write_ledger(ledger, outcomes, classification, taken, salt=listed.salt)
    n_taken = len(taken) + len(classification.taken)
    samples = drop_samples(outcomes, params.drop_samples)
    _write_lines(dropped, {**samples, "rejects": [asdict(reject) for reject in rejects]})
    write_json(
        metrics,
        {
            "read": _per_source(params, drafts),
            "selection": _selection(classification),
            "rows": {role: len(rows[role]) for role in ROLES},
            "bytes": {role: sum(_size(row) for row in rows[role]) for role in ROLES},
            "dropped": {**counts(outcomes), FILTER: {"listed": n_taken} if n_taken else {}},
            "takedown": {
                "entries": len(listed),
                "matched": listed.n_matched,
                "documents": n_taken,
                "list_sha256": listed.sha256,
            },
            "rejects": len(rejects),
            "golden": {"n": len(classification.held), **checks},
            "ledger": described,
        },
    )


def _read_classification(params: CurateParams, listed: TakedownList) -> Classification:
    source = next((s for s in params.sources if s.package == ICD10CM), None)
    if source is None:
        raise ConfigError(
            f"the golden set is built from {ICD10CM}, which is not among the sources",
            where="params.yaml: curate.sources",
        )
    _say("reading the classification")
    codes = read_codes(source, params.chapters)
    selected = select(codes, params)
    # before anything is made from them: lists, questions and golden items go with the record
    taken = [
        one for members in selected.values() for one in members if _is_listed(one, listed, params)
    ]
    selected = {
        category: [one for one in members if one not in taken]
        for category, members in selected.items()
    }
    held = golden_set.hold_out(selected, params)
    names = {one.code for one in held}
    trained = {
        category: [one for one in members if one.code not in names]
        for category, members in selected.items()
        if members
    }
    return Classification(source, len(codes), held, trained, taken)


def _is_listed(one: Code, listed: TakedownList, params: CurateParams) -> bool:
    text = normal_form(document(one, params.seed))
    return listed.names(record(one).encode(), text.encode())


def _drafts(
    params: CurateParams, classification: Classification
) -> tuple[list[Draft], list[Reject]]:
    """Every text that goes into the filters, each role in an order fixed by hash."""
    drafts = list(_domain_drafts(classification, params.seed))
    drafts += _question_drafts(classification, params)
    rejects: list[Reject] = []
    for source in params.sources:
        if source.kind == "jsonl":
            found, bad = read_jsonl(source, max_bad_fraction=params.max_bad_fraction)
            drafts += found
            rejects += bad
        elif source.package != ICD10CM:
            drafts += read_pydoc(source)
    drafts.sort(key=lambda draft: (ROLES.index(draft.role), rank(params.seed, draft.text)))
    return drafts, rejects


def _domain_drafts(classification: Classification, seed: int) -> Iterable[Draft]:
    source = classification.source
    for members in classification.trained.values():
        for one in members:
            text = document(one, seed)
            yield Draft(text, "domain", source.id, source.licence, record(one).encode())
        yield Draft(
            listing(members), "domain", source.id, source.licence, made_from=_digests(*members)
        )


def _question_drafts(classification: Classification, params: CurateParams) -> Iterable[Draft]:
    source = classification.source
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


def _row(draft: Draft, text: str) -> dict[str, Any]:
    """A corpus row; its id names the source and the digest of the kept bytes."""
    row: dict[str, Any] = {
        "id": f"{draft.source}:{hashlib.sha256(text.encode()).hexdigest()}",
        "source": draft.source,
        "licence": draft.licence,
    }
    if draft.role == "instruction":
        return row | {
            key: unicodedata.normalize("NFC", value) for key, value in draft.fields.items()
        }
    return row | {"text": text}


def _size(row: Mapping[str, Any]) -> int:
    text = row["text"] if "text" in row else f"{row['prompt']}\n{row['answer']}"
    return len(text.encode())


def _require_rows(rows: Mapping[str, Sequence[object]], params: CurateParams) -> None:
    declared = {source.role for source in params.sources} | {"instruction"}
    for role in ROLES:
        if role in declared and not rows[role]:
            raise ConfigError(
                f"no document of role {role} is left after the filters",
                where="params.yaml: curate",
                fix="see the counts per filter; loosen curate.quality or add a source",
            )


def _require_siblings(classification: Classification, rows: Iterable[Mapping[str, Any]]) -> None:
    """Checks what the golden set promises: trained siblings in every golden category.

    Instruction rows are fewer than codes, so the count is of codes that reach training at all.
    """
    trained = {name: len(members) for name, members in classification.trained.items()}
    asked = Counter(str(row["code"])[:3] for row in rows)
    for one in classification.held:
        if trained[one.category] < MIN_CODES - 1:
            raise RecordError(
                f"category {one.category} keeps fewer than {MIN_CODES - 1} trained codes",
                where="curate: golden",
            )
        if not asked[one.category]:
            raise ConfigError(
                f"no instruction row is left for the golden category {one.category}",
                where="params.yaml: curate.instruction_rows",
                fix="raise it to at least curate.max_categories",
            )


def _write_ledger(
    folder: Path,
    outcomes: Sequence[Any],
    classification: Classification,
    taken: Sequence[Draft],
    *,
    salt: bytes | None,
) -> dict[str, Any]:
    """Writes both trees' rows and roots and what was made from what; returns the roots."""
    kept: list[LedgerRow] = []
    intake: list[IntakeRow] = []
    made_from: dict[str, set[str]] = {}

    def read(data: bytes, source: str, fate: str) -> None:
        intake.append(IntakeRow(document_key(data, salt), len(data), fate, source))

    for outcome in outcomes:
        draft, text = outcome.draft, outcome.text.encode()
        key = document_key(text, salt)
        if outcome.dropped_by is None:
            kept.append(LedgerRow(key, len(text), draft.licence, draft.source, draft.role))
        # a copy's text is in the corpus, too, whoever gave it
        if outcome.dropped_by == "exact_copy" or (draft.made_from and not outcome.dropped_by):
            sources = {key_of_digest(digest, salt) for digest in _origins(draft)}
            made_from.setdefault(key, set()).update(sources - {key})
        if draft.read is not None:
            dropped = f"dropped:{outcome.dropped_by}"
            read(draft.read, draft.source, dropped if outcome.dropped_by else f"kept:{key}")
    for draft in taken:
        if draft.read is not None:
            read(draft.read, draft.source, f"dropped:{FILTER}")
    for codes, name in ((classification.held, "golden"), (classification.taken, FILTER)):
        for code in codes:
            read(record(code).encode(), classification.source.id, f"dropped:{name}")
    kept, intake = merge_copies(kept), merge_copies(intake)
    made_from = {row.key: made_from[row.key] for row in kept if made_from.get(row.key)}
    described = descriptor(kept, intake, salted=salt is not None)
    _replace(folder)
    (folder / "kept.jsonl").write_bytes(render_rows(kept))
    (folder / "intake.jsonl").write_bytes(render_rows(intake))
    (folder / "derived.jsonl").write_bytes(render_derived(made_from))
    (folder / "root.json").write_bytes(strictjson.dumps(described))
    return described


def _origins(draft: Draft) -> tuple[bytes, ...]:
    """Digests of the documents that a text is or was made from."""
    return draft.made_from if draft.read is None else (hashlib.sha256(draft.read).digest(),)


def _per_source(params: CurateParams, drafts: Iterable[Draft]) -> dict[str, Any]:
    n_read = Counter(draft.source for draft in drafts if draft.read is not None)
    n_derived = Counter(draft.source for draft in drafts if draft.read is None)
    return {
        source.id: {"documents": n_read[source.id], "derived": n_derived[source.id]}
        for source in params.sources
    }


def _selection(classification: Classification) -> dict[str, int]:
    trained = [one for members in classification.trained.values() for one in members]
    return {
        "codes_read": classification.n_read,
        "categories": len(classification.trained),
        "chapters": len({one.chapter for one in trained}),
        "trained_codes": len(trained),
        "golden_codes": len(classification.held),
    }


def _write_lines(folder: Path, files: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    _replace(folder)
    for name, rows in files.items():
        data = b"".join(strictjson.dumps(dict(row)) for row in rows)
        (folder / f"{name}.jsonl").write_bytes(data)


def _replace(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise EnvironmentFailure(f"cannot write: {error.strerror}", where=str(folder)) from error


def _say(text: str) -> None:
    sys.stderr.write(f"curate: {text}\n")
