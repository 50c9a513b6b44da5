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
from pydantic import ValidationError

from forebear.documents.approvals import (
    approver_keys,
    copies,
    judge_approvals,
    read_approvals,
)
from forebear.documents.declarations import declared_in, parse_declarations
from forebear.documents.evidence import Evidence, SignedFile, load_keys
from forebear.documents.facts import Sources, collect_facts
from forebear.documents.generator import generator_sha256
from forebear.documents.locale import ENGLISH
from forebear.documents.registry import PREVIOUS, entry, render_all
from forebear.documents.values import Facts
from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.signing.keys import default_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from forebear.formats.link import Link

FACTS = "facts.json"
INDEX = "documents.json"
INDEX_SCHEMA = "forebear.documents/1"


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
        previous: ``facts.json`` of the release before this one; None for a first release.
        approvals: folder of people's signed approvals; it may be missing.
        language: of the labels.
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
    previous: Path | None = None
    approvals: Path | None = None
    language: str = ENGLISH


@dataclass(frozen=True, slots=True)
class Collected:
    """What the documents are rendered from.

    Attributes:
        previous: facts of the release before.
        approvals: bytes of each approval, of which copies go beside the documents.
    """

    facts: Facts
    previous: Facts | None
    approvals: tuple[bytes, ...]

    def render(self, language: str = ENGLISH) -> dict[str, bytes]:
        """Every file by name, as :func:`render_documents`."""
        return render_documents(
            self.facts, previous=self.previous, approvals=self.approvals, language=language
        )


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
        previous=options.get("previous"),
        approvals=options.get("approvals"),
    )


def build_documents(inputs: Inputs) -> tuple[Facts, dict[str, bytes]]:
    """The facts, and every file by name; as :func:`collect` and :func:`render_documents`."""
    collected = collect(inputs)
    return collected.facts, collected.render(inputs.language)


def collect(inputs: Inputs) -> Collected:
    """The facts, those of the release before, and people's approvals.

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
    signed = () if inputs.approvals is None else read_approvals(inputs.root / inputs.approvals)
    judged = judge_approvals(facts, signed, keys=approver_keys(trust), recorders=keys)
    return Collected(
        facts.model_copy(update={"approvals": judged}),
        None if inputs.previous is None else read_facts(inputs.root / inputs.previous),
        tuple(signed),
    )


def read_facts(file: Path) -> Facts:
    """The facts in a ``facts.json``.

    Raises:
        EnvironmentFailure: it cannot be read.
        FormatError: it holds no facts.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"cannot be read: {error.strerror}", str(file)) from error
    strictjson.parse_canonical(data, where=str(file))
    try:
        return Facts.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"]))
        raise FormatError(f"holds no facts: {place}: {first['msg']}", str(file)) from error


def render_documents(
    facts: Facts,
    *,
    previous: Facts | None = None,
    approvals: Sequence[bytes] = (),
    language: str = ENGLISH,
) -> dict[str, bytes]:
    """Every file by name: facts, those of the release before, documents, approvals, index.

    Raises:
        UsageError: the language has no complete catalogue.
        FormatError: the facts lack what a document shows; :func:`build_documents` gives all.
    """
    try:
        rendered = render_all(facts, language=language, previous=previous)
    except (KeyError, TypeError, ValueError, AttributeError, jinja2.TemplateError) as error:
        raise FormatError(f"cannot be shown: {error}", FACTS) from error
    files = {FACTS: facts.to_bytes(), **rendered, **copies(approvals)}
    if previous is not None:
        files[PREVIOUS] = previous.to_bytes()
    files[INDEX] = render_index(facts, files, language)
    return files


def write_documents(files: Mapping[str, bytes], out: Path) -> None:
    """Writes the files; each is replaced whole, so a link into a cache is never written through."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".forebear-")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def rebuild_facts(
    links: Mapping[str, tuple[SignedFile, Link]],
    read: Callable[[str], bytes],
    inputs: Inputs,
    declared: Facts | None = None,
) -> Facts:
    """The facts once more, from verified links and the files they sign.

    Args:
        links: by stage, as a file and as an object; only those of stages that read no link.
        read: bytes of a file by its path; what it raises passes through.
        inputs: as the stage that wrote the documents had them.
        declared: facts whose statements by people are taken over; nothing is declared without.

    Raises:
        SignatureError: a file is not what a link signs.
    """
    evidence = Evidence(inputs.root, links, read)
    facts = collect_facts(
        evidence,
        _sources(evidence, inputs),
        own_stage=inputs.stage,
        params=inputs.params,
        declarations=parse_declarations(None, where=inputs.declarations.as_posix())
        if declared is None
        else declared_in(declared),
    )
    return facts if declared is None else facts.model_copy(update={"approvals": declared.approvals})


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


def render_index(facts: Facts, files: Mapping[str, bytes], language: str) -> bytes:
    """The index: path, digest, schema, audience and draft flag of each file."""
    entries: Iterable[dict[str, Any]] = (
        {
            "path": name,
            "id": entry(name).id,
            "sha256": hashlib.sha256(data).hexdigest(),
            "schema": entry(name).schema,
            "draft": facts.draft,
            "audience": entry(name).audience,
        }
        for name, data in files.items()
    )
    body = {
        "schema": INDEX_SCHEMA,
        "draft": facts.draft,
        "language": language,
        "facts_sha256": facts.sha256(),
        "generator_sha256": generator_sha256(),
        "documents": sorted(entries, key=lambda one: str(one["path"])),
    }
    return strictjson.dumps(body)
