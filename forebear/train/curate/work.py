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
    merge_copies,
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
from forebear.train.curate.sources import Draft, Reject, check_source, read_jsonl, read_pydoc
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
    """

    source: SourceParams
    n_read: int
    held: list[Code]
    trained: dict[str, list[Code]]


def build_corpus(
    params: CurateParams,
    *,
    corpus: Path,
    golden: Path,
    ledger: Path,
    dropped: Path,
    metrics: Path,
) -> None:
    """Reads every source and writes the five outs.

    Raises:
        ConfigError: the sources cannot give the golden set or a role stays empty.
        EnvironmentFailure: a package or file is not there.
        FormatError: more rows are malformed than accepted.
        RecordError: a golden item leaked into training.
    """
    for source in params.sources:
        check_source(source)
    classification = _read_classification(params)
    sets, checks = golden_set.build(classification.held, classification.trained, params.seed)
    drafts, rejects = _drafts(params, classification)
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
    described = _write_ledger(ledger, outcomes, classification)
    samples = drop_samples(outcomes, params.drop_samples)
    _write_lines(dropped, {**samples, "rejects": [asdict(reject) for reject in rejects]})
    write_json(
        metrics,
        {
            "read": _per_source(params, drafts),
            "selection": _selection(classification),
            "rows": {role: len(rows[role]) for role in ROLES},
            "bytes": {role: sum(_size(row) for row in rows[role]) for role in ROLES},
            "dropped": counts(outcomes),
            "rejects": len(rejects),
            "golden": {"n": len(classification.held), **checks},
            "ledger": described,
        },
    )


def _read_classification(params: CurateParams) -> Classification:
    source = next((s for s in params.sources if s.package == ICD10CM), None)
    if source is None:
        raise ConfigError(
            f"the golden set is built from {ICD10CM}, which is not among the sources",
            where="params.yaml: curate.sources",
        )
    _say("reading the classification")
    codes = read_codes(source, params.chapters)
    selected = select(codes, params)
    held = golden_set.hold_out(selected, params)
    names = {one.code for one in held}
    trained = {
        category: [one for one in members if one.code not in names]
        for category, members in selected.items()
    }
    return Classification(source, len(codes), held, trained)


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
        yield Draft(listing(members), "domain", source.id, source.licence)


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
    return Draft(f"{prompt}\n{answer}", "instruction", source.id, source.licence, None, fields)


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
    folder: Path, outcomes: Sequence[Any], classification: Classification
) -> dict[str, Any]:
    """Writes both trees' rows and roots; returns the roots' description."""
    kept, intake = [], []
    for outcome in outcomes:
        draft, key = outcome.draft, document_key(outcome.text.encode())
        size = len(outcome.text.encode())
        if outcome.dropped_by is None:
            kept.append(LedgerRow(key, size, draft.licence, draft.source, draft.role))
        if draft.read is not None:
            fate = f"kept:{key}" if outcome.dropped_by is None else f"dropped:{outcome.dropped_by}"
            read = IntakeRow(document_key(draft.read), len(draft.read), fate, draft.source)
            intake.append(read)
    for code in classification.held:
        data = record(code).encode()
        source = classification.source.id
        intake.append(IntakeRow(document_key(data), len(data), "dropped:golden", source))
    kept, intake = merge_copies(kept), merge_copies(intake)
    described = descriptor(kept, intake)
    _replace(folder)
    (folder / "kept.jsonl").write_bytes(render_rows(kept))
    (folder / "intake.jsonl").write_bytes(render_rows(intake))
    (folder / "root.json").write_bytes(strictjson.dumps(described))
    return described


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
