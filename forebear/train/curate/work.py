"""The curate stage: sources in, corpus, golden set and ledger out.

The golden codes are chosen before anything else reads a code; after the filters, every row that
will be written is searched for them once more, and one hit stops the stage. Documents stream: what
is held in memory is the chosen part of the classification and the index of the eval sets.

Source: training page, section curate; evaluation page, section 8; provenance page, section 9.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError, RecordError
from forebear.train.curate import cells, ownset
from forebear.train.curate.classification import (
    Classification,
    classification_drafts,
    read_classification,
)
from forebear.train.curate.decontaminate import (
    PASTED,
    GoldenIndex,
    LeakGuard,
    golden_question,
)
from forebear.train.curate.evalonly import refuse_benchmarks
from forebear.train.curate.optout import OptOutList
from forebear.train.curate.params import ICD10CM, CurateParams
from forebear.train.curate.render import record
from forebear.train.curate.sources import Draft, Reject, check_source, read_pydoc, read_source
from forebear.train.curate.takedown import FILTER, TakedownList
from forebear.train.metrics import row_files, write_json
from forebear.train.stage import scratch_dir

if TYPE_CHECKING:
    from forebear.train.curate.gather import Gathered
    from forebear.train.curate.pipeline import Chain, Outcome, Tally
    from forebear.train.curate.writing import CorpusWriter, LedgerMaker

_MIB = 1 << 20
_REPORT_EVERY = 100_000
_ALWAYS = ("domain", "replay", "instruction")


@dataclass(frozen=True, slots=True)
class EvalDocument:
    """What is known of a document of an eval set: read, and used for nothing but the index."""

    digest: bytes
    n_bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Intake:
    """All that is decided before the filters run.

    Attributes:
        sets: rows of the golden set, by stratum.
        evals: documents of the declared eval sets.
    """

    params: CurateParams
    classification: Classification
    sets: Mapping[str, list[dict[str, Any]]]
    evals: Sequence[EvalDocument]
    takedown: TakedownList
    opt_out: OptOutList


def build_corpus(
    params: CurateParams,
    *,
    corpus: Path,
    golden: Path,
    ledger: Path,
    dropped: Path,
    metrics: Path,
    takedown: TakedownList | None = None,
    opt_out: OptOutList | None = None,
    evaluation_only: Mapping[str, str] | None = None,
) -> None:
    """Reads every source and writes the five outs; the three lists name what must not be used.

    Raises:
        ConfigError: the sources cannot give the golden set, one is a benchmark's file, or a role
            stays empty.
        EnvironmentFailure: a package or file is not there, or a cluster refuses.
        FormatError: more rows are malformed than accepted, or a file is broken.
        RecordError: a golden item leaked into training, or was pasted into a source.
    """
    # datatrove only now: it takes a second to import; of its parts one shows a progress bar
    os.environ.setdefault("TQDM_DISABLE", "1")
    from forebear.train.curate.executors import end_workers, require_executor
    from forebear.train.curate.gather import gather
    from forebear.train.curate.pipeline import Chain
    from forebear.train.curate.writing import publish, write_lines

    for source in params.sources:
        check_source(source)
    refuse_benchmarks(params.sources, evaluation_only or {})
    require_executor(params.executor)
    _say("reading the classification")
    listed = takedown or TakedownList()
    classification = read_classification(params, listed)
    sets, checks = classification.golden_sets(params)
    owned = ownset.read_own(params.golden.own, say=_say)
    sets |= owned
    index, evals = _index(params, classification, sets, owned)
    intake = Intake(params, classification, sets, evals, listed, opt_out or OptOutList())
    work = scratch_dir("curate") / "work"
    work.mkdir(parents=True, exist_ok=True)
    gathered = gather(
        lambda reject: _drafts(params, classification, reject),
        seed=params.seed,
        listed=listed,
        shard_bytes=int(params.executor.shard_mib * _MIB),
        work=work,
    )
    _say(f"{gathered.n_documents} texts through the filters, in {gathered.n_shards} shard(s)")
    chain = Chain(params, index, intake.opt_out, work)
    chain.run(gathered.n_shards)
    end_workers()
    made = _emptied(work)
    figures = _write(made, intake, chain, gathered)
    write_lines(made / "golden", sets)
    for name, described in row_files(*sorted((made / "golden").iterdir())).items():
        figures["files"][f"golden/{name}"] = described
    for source in params.sources:
        if source.role == "eval" and source.path is not None and source.path.endswith(".jsonl"):
            figures["files"][f"source:{source.id}"] = row_files(Path(source.path)).popitem()[1]
    publish(made / "corpus", corpus)
    publish(made / "golden", golden)
    publish(work / "ledger", ledger)
    publish(made / "dropped", dropped)
    own = {name: len(rows) for name, rows in owned.items()}
    golden_figures = {"n": len(classification.held), **checks, **({"own": own} if own else {})}
    write_json(metrics, {**figures, "golden": golden_figures})
    shutil.rmtree(work)


def _emptied(work: Path) -> Path:
    """The folder where outs are made, without what a run that was cut off left."""
    leftovers = ("outs", "ledger", "made-from", "details")
    for stale in (*work.glob(".ledger-*"), *(work / name for name in leftovers)):
        shutil.rmtree(stale, ignore_errors=True)
    return work / "outs"


def _index(
    params: CurateParams,
    classification: Classification,
    sets: Mapping[str, list[dict[str, Any]]],
    owned: Mapping[str, list[dict[str, Any]]],
) -> tuple[GoldenIndex, list[EvalDocument]]:
    """Index of the golden sets and of every declared eval set, and the latter's documents."""
    index = GoldenIndex(params.decontamination.ngram, params.decontamination.max_overlap)
    for code in (*classification.held, *classification.unseen):
        index.add(code.title, code.code)
    for name, rows in sets.items():
        for row in rows:
            index.forbid(row["id"], row.get("prompt") or golden_question(row["description"]))
            if name in owned:
                index.add_text(f"{row['prompt']} {ownset.answer_of(row)}", name)
    evals = []
    for source in params.sources:
        if source.role != "eval":
            continue
        # what cannot be read cannot be kept out of training
        for draft in read_source(source, max_bad_fraction=0.0, reject=lambda _: None):
            index.add_text(draft.text, source.id)
            data = draft.text.encode() if draft.read is None else draft.read
            evals.append(EvalDocument(hashlib.sha256(data).digest(), len(data), source.id))
    return index, evals


def _drafts(
    params: CurateParams, classification: Classification, reject: Callable[[Reject], object]
) -> Iterator[Draft]:
    """Every text that goes into the filters."""
    yield from classification_drafts(classification, params)
    for source in params.sources:
        if source.role == "eval" or source.package == ICD10CM:
            continue
        if source.kind == "package":
            yield from read_pydoc(source)
            continue
        _say(f"reading {source.id}")
        yield from read_source(source, max_bad_fraction=params.max_bad_fraction, reject=reject)


def _write(made: Path, intake: Intake, chain: Chain, gathered: Gathered) -> dict[str, Any]:
    """Goes through the outcomes once and writes corpus, ledger and samples; gives the figures."""
    from forebear.train.curate.filters import read_lines
    from forebear.train.curate.pipeline import Tally
    from forebear.train.curate.writing import CorpusWriter, LedgerMaker, write_lines

    params, classification = intake.params, intake.classification
    tally = Tally(chain.filters, params.drop_samples)
    declared = {source.role for source in params.sources} - {"eval"}
    roles = {*_ALWAYS, *declared}
    with (
        CorpusWriter(made / "corpus", roles) as rows,
        LedgerMaker(chain.work, intake.takedown.salt) as maker,
    ):
        _note_unused(intake, chain.work, maker)
        n_late, asked = _sift(intake, chain, tally, rows, maker, expected=gathered.n_documents)
        described = maker.finish()
    _require_rows(rows.n_rows, {*declared, "instruction"})
    classification.require_siblings(asked)
    rejects = read_lines(chain.work / "rejects.jsonl")
    write_lines(made / "dropped", {**tally.samples(), "rejects": rejects})
    written = (*_ALWAYS, *sorted(roles - {*_ALWAYS}))
    n_taken = gathered.n_taken + n_late + len(classification.taken)
    return {
        "read": _read_counts(intake, gathered),
        "selection": classification.selection(),
        "rows": {role: rows.n_rows[role] for role in written},
        "bytes": {role: rows.n_bytes[role] for role in written},
        "kept": rows.kept(),
        "files": rows.files(),
        "dropped": {**tally.counts(), FILTER: {"listed": n_taken} if n_taken else {}},
        "takedown": {
            "entries": len(intake.takedown),
            "matched": intake.takedown.n_matched,
            "documents": n_taken,
            "list_sha256": intake.takedown.sha256,
        },
        **_further_figures(intake, tally),
        "rejects": gathered.n_rejects,
        "ledger": described,
    }


def _note_unused(intake: Intake, work: Path, maker: LedgerMaker) -> None:
    """Notes what was read and went no further than the intake."""
    from forebear.train.curate.gather import taken_documents

    for metadata in taken_documents(work):
        if "read" in metadata:
            digest, n_bytes = metadata["read"]
            maker.read(bytes.fromhex(digest), n_bytes, metadata["source"], f"dropped:{FILTER}")
    for one in intake.evals:
        maker.read(one.digest, one.n_bytes, one.source, "dropped:eval")
    classification = intake.classification
    held = (*classification.held, *classification.unseen)
    for codes, name in ((held, "golden"), (classification.taken, FILTER)):
        for code in codes:
            data = record(code).encode()
            source = classification.source.id
            maker.read(hashlib.sha256(data).digest(), len(data), source, f"dropped:{name}")


def _sift(
    intake: Intake,
    chain: Chain,
    tally: Tally,
    rows: CorpusWriter,
    maker: LedgerMaker,
    *,
    expected: int,
) -> tuple[int, Counter[str]]:
    """Writes every outcome where it belongs.

    Returns:
        Documents that the takedown list names by their kept form alone (a page's text, a text
        without its personal data), and instruction rows by category.
    Raises:
        RecordError: a golden item leaked or was pasted, or a document was lost on the way.
    """
    from forebear.train.curate.writing import corpus_row

    guard = LeakGuard(cells.holdout(intake.sets))
    number, n_late, asked = 0, 0, Counter[str]()
    for number, outcome in enumerate(chain.outcomes(), start=1):
        if number % _REPORT_EVERY == 0:
            _say(f"{number} of {expected} documents written ({number / expected:.0%})")
        if outcome.dropped_by is None and intake.takedown.names(outcome.text.encode()):
            n_late += 1
            maker.add(outcome, FILTER)
            continue
        if outcome.reason in PASTED:
            raise _pasted(outcome)
        tally.add(outcome)
        maker.add(outcome, outcome.dropped_by)
        if outcome.dropped_by is None:
            row = corpus_row(outcome)
            guard.check(row)
            rows.add(outcome.metadata["role"], row)
            if "code" in row:
                asked[row["code"][:3]] += 1
    if number != expected:
        raise RecordError(
            f"{number} documents came out of the filters, {expected} went in",
            where="curate",
            fix="report this, with the logs in the stage's scratch folder",
        )
    return n_late, asked


def _pasted(outcome: Outcome) -> RecordError:
    """A golden question or id stands in a source: no accident, so it is not simply dropped."""
    what = {"golden_id": "the id", "golden_question": "the exact question"}[outcome.reason]
    digest = hashlib.sha256(outcome.text.encode()).hexdigest()
    return RecordError(
        f"{what} of a golden item stands in a document of role {outcome.metadata['role']}: "
        f"{outcome.text[:120]!a}",
        where=f"curate: {outcome.metadata['source']}:{digest}",
        fix="take the document out of the source; the golden set measures what was not taught",
    )


def _require_rows(n_rows: Mapping[str, int], roles: Iterable[str]) -> None:
    for role in sorted(roles):
        if not n_rows[role]:
            raise ConfigError(
                f"no document of role {role} is left after the filters",
                where="params.yaml: curate",
                fix="see the counts per filter; loosen curate.quality or add a source",
            )


def _read_counts(intake: Intake, gathered: Gathered) -> dict[str, dict[str, int]]:
    n_evals = Counter(one.source for one in intake.evals)
    return {
        source.id: {"documents": n_evals[source.id], "derived": 0}
        | gathered.read.get(source.id, {})
        for source in intake.params.sources
    }


def _further_figures(intake: Intake, tally: Tally) -> dict[str, Any]:
    """Figures of what only some runs have."""
    found: dict[str, Any] = {}
    if len(intake.opt_out):
        found["opt_out"] = {"entries": len(intake.opt_out), "list_sha256": intake.opt_out.sha256}
    if intake.params.pii is not None:
        found["pii"] = {kind: tally.pii[kind] for kind in intake.params.pii.kinds}
    if intake.params.language is not None:
        found["languages"] = dict(sorted(tally.languages.items()))
    if intake.evals:
        found["decontaminated_against"] = dict(Counter(one.source for one in intake.evals))
    return found


def _say(text: str) -> None:
    sys.stderr.write(f"curate: {text}\n")
