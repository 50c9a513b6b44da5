"""From a repository to its documents: checks the evidence, collects, renders, writes.

All bytes are made before the first is written, so a refusal leaves nothing behind. No clock, no
network and no training library is used; the same inputs give the same bytes.

Source: compliance page, sections 1 and 2.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from forebear.documents.declarations import parse_declarations
from forebear.documents.evidence import Evidence, SignedFile, load_keys
from forebear.documents.facts import Sources, collect_facts
from forebear.documents.render import CARD, CARD_JSON, HUB_CARD, Renderer
from forebear.errors import EnvironmentFailure
from forebear.formats import strictjson
from forebear.signing.keys import default_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebear.documents.values import Facts

FACTS = "facts.json"
INDEX = "documents.json"
_AUDIENCE = {CARD: "public", CARD_JSON: "public", HUB_CARD: "public", FACTS: "internal"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the documents are made of; paths relative to ``root``.

    Attributes:
        links: folder of links.
        declarations: the file that people write; it may be missing.
        trust: folder that holds the recorders' public keys, itself or in ``recorders/``; the
            user's own are trusted too.
        base: description of the base model; None where there is none, as with the next two.
        ledger: roots of the ledger.
        verdict: folder of ``gate.json`` and ``comparison.json``.
        stage: name of the stage that writes the documents.
        params: its resolved params.
    """

    root: Path
    links: Path
    declarations: Path
    trust: Path
    base: Path | None
    ledger: Path | None
    verdict: Path | None
    params: Mapping[str, Any]
    stage: str = "document"


def build_documents(inputs: Inputs) -> tuple[Facts, dict[str, bytes]]:
    """The facts, and every file by name.

    Raises:
        SignatureError: a link or a file is not what a trusted recorder signed.
        ConfigError: the declarations do not hold.
        EnvironmentFailure: a file cannot be read.
    """
    trust = inputs.root / inputs.trust
    keys = load_keys([trust, trust / "recorders", default_directory()])
    evidence = Evidence.load(inputs.root, inputs.links, keys)
    facts = collect_facts(
        evidence,
        _sources(evidence, inputs),
        own_stage=inputs.stage,
        params=inputs.params,
        declarations=parse_declarations(
            _read_declarations(inputs), where=inputs.declarations.as_posix()
        ),
    )
    files = {FACTS: facts.to_bytes(), **Renderer(facts).documents()}
    files[INDEX] = _index(facts, files)
    return facts, files


def write_documents(files: Mapping[str, bytes], out: Path) -> None:
    """Writes the files; each is replaced whole, so a link into a cache is never written through."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        descriptor, temporary = tempfile.mkstemp(dir=out, prefix=".forebear-")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(out / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def _sources(evidence: Evidence, inputs: Inputs) -> Sources:
    def named(path: Path | None, name: str = "") -> SignedFile | None:
        if path is None:
            return None
        return evidence.file((PurePosixPath(path.as_posix()) / name).as_posix())

    return Sources(
        base=named(inputs.base),
        ledger=named(inputs.ledger),
        gate=named(inputs.verdict, "gate.json"),
        comparison=named(inputs.verdict, "comparison.json"),
    )


def _read_declarations(inputs: Inputs) -> bytes | None:
    try:
        return (inputs.root / inputs.declarations).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the declarations: {error.strerror}", where=inputs.declarations.as_posix()
        ) from error


def _index(facts: Facts, files: Mapping[str, bytes]) -> bytes:
    entries: Iterable[dict[str, Any]] = (
        {
            "path": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "draft": facts.draft,
            "audience": _AUDIENCE[name],
        }
        for name, data in files.items()
    )
    body = {
        "schema": "forebear.documents/0",
        "draft": facts.draft,
        "facts_sha256": facts.sha256(),
        "documents": sorted(entries, key=lambda entry: str(entry["path"])),
    }
    return strictjson.dumps(body)
