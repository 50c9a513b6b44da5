"""From a repository to its documents: checks the evidence, collects, renders, writes.

All bytes are made before the first is written, so a refusal leaves nothing behind. No clock, no
network and no training library is used; the same inputs give the same bytes.

Source: compliance page, sections 1 and 2.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import jinja2

from forebear.documents.declarations import parse_declarations
from forebear.documents.evidence import Evidence, SignedFile, load_keys
from forebear.documents.facts import Sources, collect_facts
from forebear.documents.generator import generator_sha256
from forebear.documents.render import CARD, CARD_JSON, HUB_CARD, Renderer
from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.signing.keys import default_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from forebear.documents.values import Facts
    from forebear.formats.link import Link

FACTS = "facts.json"
INDEX = "documents.json"
INDEX_SCHEMA = "forebear.documents/0"
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


def inputs_of(argv: Sequence[str], root: Path, params: Mapping[str, Any]) -> Inputs:
    """What a stage that runs ``stages.document`` reads, by the options of its command.

    Raises:
        ConfigError: the command lacks an option.
    """
    options = {
        word.removeprefix("--"): Path(value)
        for word, value in itertools.pairwise(argv)
        if word.startswith("--")
    }
    lacking = [name for name in ("links", "declarations", "trust") if name not in options]
    if lacking:
        raise ConfigError(f"the command lacks --{', --'.join(lacking)}", where="dvc.yaml: document")
    return Inputs(
        root=root,
        links=options["links"],
        declarations=options["declarations"],
        trust=options["trust"],
        base=options.get("base"),
        ledger=options.get("ledger"),
        verdict=options.get("verdict"),
        params=params,
    )


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
    return facts, render_documents(facts)


def render_documents(facts: Facts) -> dict[str, bytes]:
    """Every file by name: the facts, the documents, the index.

    Raises:
        FormatError: the facts lack what a document shows; :func:`build_documents` gives all.
    """
    try:
        files = {FACTS: facts.to_bytes(), **Renderer(facts).documents()}
    except (KeyError, TypeError, ValueError, AttributeError, jinja2.TemplateError) as error:
        raise FormatError(f"cannot be shown: {error}", FACTS) from error
    files[INDEX] = _index(facts, files)
    return files


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


def rebuild_facts(
    links: Mapping[str, tuple[SignedFile, Link]], read: Callable[[str], bytes], inputs: Inputs
) -> Facts:
    """The facts once more, from verified links and the files they sign; nothing is declared.

    Args:
        links: by stage, as a file and as an object; only those of stages that read no link.
        read: bytes of a file by its path; what it raises passes through.
        inputs: as the stage that wrote the documents had them.

    Raises:
        SignatureError: a file is not what a link signs.
    """
    evidence = Evidence(inputs.root, links, read)
    return collect_facts(
        evidence,
        _sources(evidence, inputs),
        own_stage=inputs.stage,
        params=inputs.params,
        declarations=parse_declarations(None, where=inputs.declarations.as_posix()),
    )


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
        "schema": INDEX_SCHEMA,
        "draft": facts.draft,
        "facts_sha256": facts.sha256(),
        "generator_sha256": generator_sha256(),
        "documents": sorted(entries, key=lambda entry: str(entry["path"])),
    }
    return strictjson.dumps(body)
