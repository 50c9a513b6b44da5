"""The documents: model card and hub card, every figure bound to its signed evidence.

Reads links and public keys, which no other stage but ``attest`` may; it never meets a private
key. What only an authority may read goes to an out of its own, which is not shipped; the index
among the public documents names its files by digest. Besides the files named as options it reads
each stage's ``metrics.json``, which the stage's link names and ``dvc.yaml`` lists under deps.
"""

from __future__ import annotations

import logging
from pathlib import Path

from forebear.documents.build import Inputs, build_documents, write_documents
from forebear.documents.facts import ReleaseParams
from forebear.documents.registry import RESTRICTED
from forebear.train.stage import StageParams, read_params, stage

_LOG = logging.getLogger(__name__)


class DocumentParams(ReleaseParams, StageParams):
    """Section ``document`` of the params. The seed is unused: nothing is drawn."""


@stage("document")
def main(
    params: DocumentParams,
    *,
    links: Path,
    base: Path,
    ledger: Path,
    verdict: Path,
    declarations: Path,
    trust: Path,
    out: Path,
    restricted: Path,
    approvals: Path | None = None,
    previous: Path | None = None,
) -> None:
    """Writes the documents of the release; drafts where people still owe a statement."""
    del params  # validated; the documents show the params as the recorder will sign them
    values, _ = read_params()
    facts, files = build_documents(
        Inputs(
            root=Path(),
            links=links,
            declarations=declarations,
            trust=trust,
            base=base,
            ledger=ledger,
            verdict=verdict,
            params={name: values[name] for name in ("seed", "document")},
            previous=previous,
            approvals=approvals,
        )
    )
    public = {name: data for name, data in files.items() if not name.startswith(RESTRICTED)}
    write_documents(public, out)
    write_documents(
        {name.removeprefix(RESTRICTED): files[name] for name in files.keys() - public.keys()},
        restricted,
    )
    if facts.draft:
        _LOG.warning("drafts: %d required declarations are missing", len(facts.missing))


if __name__ == "__main__":
    main()
