"""Sends texts through the filter chain without the classification, for tests of single filters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.train.curate.decontaminate import GoldenIndex
from forebear.train.curate.gather import Gathered, gather
from forebear.train.curate.optout import OptOutList
from forebear.train.curate.params import CurateParams
from forebear.train.curate.pipeline import Chain, Outcome
from forebear.train.curate.sources import Draft, Reject, read_source
from forebear.train.curate.takedown import TakedownList
from forebear.train.stage import validate_section

COMMON = {
    "licence": "MIT",
    "modality": "text",
    "publisher": "the tests",
    "collected_from": "2025-10",
    "collected_to": "2026-04",
}


def source(place: Path | str, kind: str = "jsonl", **more: object) -> dict[str, object]:
    where = {} if kind == "hub" else {"path": str(place)}
    return {"id": "given", "kind": kind, "role": "replay", **where, **COMMON, **more}


def section(*sources: Mapping[str, object], **more: object) -> CurateParams:
    """Params with every filter off but those named."""
    values = {"sources": list(sources), "golden": {"n": 4}, "quality": None, **more}
    checked = validate_section(CurateParams, "curate", {"seed": 7, "curate": values})
    assert isinstance(checked, CurateParams)
    return checked


def write_rows(file: Path, texts: Sequence[str | Mapping[str, Any]]) -> Path:
    rows = [{"text": one} if isinstance(one, str) else one for one in texts]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def gathered(params: CurateParams, work: Path, listed: TakedownList | None = None) -> Gathered:
    def drafts(reject: Any) -> Iterator[Draft]:
        for one in params.sources:
            yield from read_source(one, max_bad_fraction=params.max_bad_fraction, reject=reject)

    return gather(
        drafts,
        seed=params.seed,
        listed=listed or TakedownList(),
        shard_bytes=int(params.executor.shard_mib * 2**20),
        work=work,
    )


def sift(
    params: CurateParams,
    work: Path,
    *,
    index: GoldenIndex | None = None,
    reserved: OptOutList | None = None,
) -> list[Outcome]:
    """What becomes of every row of the sources."""
    chain = Chain(params, index or GoldenIndex(), reserved or OptOutList(), work)
    chain.run(gathered(params, work).n_shards)
    return list(chain.outcomes())


def kept(outcomes: Sequence[Outcome]) -> set[str]:
    return {one.text for one in outcomes if one.dropped_by is None}


def dropped(outcomes: Sequence[Outcome]) -> dict[str, tuple[str, str]]:
    """Filter and reason by text."""
    return {one.text: (one.dropped_by, one.reason) for one in outcomes if one.dropped_by}


def rejects(work: Path) -> list[Reject]:
    lines = (work / "rejects.jsonl").read_bytes().splitlines()
    return [Reject(**json.loads(line)) for line in lines]
