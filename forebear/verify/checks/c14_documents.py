"""C14: every figure in the documents equals the evidence that it cites.

Follows each computed value of ``facts.json`` to the file that a stage's link signs, and renders all
documents again from the facts. Human statements are claims: they are tied to the declarations by
digest, and to their words where the declarations lie here. Evidence that is not shipped leaves the
check unchecked, with the count of what was and was not compared.

Rests on: compliance page, sections 1 and 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError, FormatError, SignatureError
from forebear.evidence.names import RELEASE_BUNDLE
from forebear.evidence.store import Evidence, SignedLink
from forebear.formats import strictjson
from forebear.formats.layout import LINKS, SOURCE
from forebear.formats.link import PARAMS, Link, is_virtual, params_digest
from forebear.signing.policy import TrustPolicy
from forebear.verify.documents import check_approvals, check_texts, index_digests
from forebear.verify.products import Absent, find_product, read_product, signed_params
from forebear.verify.result import Failed, Finding, Passed, Unchecked, Verdict, counted

if TYPE_CHECKING:
    from forebear.documents.evidence import SignedFile
    from forebear.documents.values import EvidenceFile, EvidenceRef, Facts, Value

_INDEX = "documents.json"
_RESTRICTED = "restricted/"
_SHOWN = 3


@dataclass
class _Count:
    """What was looked at, and what could not be."""

    equal: int = 0
    declared: int = 0
    absent: dict[str, int] = field(default_factory=dict)
    withheld: int = 0
    foreign: bool = False


def check_documents(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Index, figures and texts of every folder of documents."""
    del policy
    indexes = sorted(
        (path, signed)
        for signed in evidence.links.values()
        for path in signed.link.products
        if path.endswith(f"/{_INDEX}") and not is_virtual(path) and not path.startswith("release/")
    )
    if not indexes:
        return Unchecked("this release has no documents")
    verdicts = [_Documents(evidence, path, signed).check() for path, signed in indexes]
    for kind in (Failed, Unchecked):
        for verdict in verdicts:
            if isinstance(verdict, kind):
                return verdict
    return verdicts[0]


class _Documents:
    """One folder of documents, as one stage wrote it."""

    def __init__(self, evidence: Evidence, index: str, signed: SignedLink) -> None:
        self._evidence = evidence
        self._folder = index.removesuffix(_INDEX)
        self._index = index
        self._signed = signed
        self._contents: dict[tuple[str, str], Any] = {}

    def check(self) -> Verdict:
        """The verdict on this folder."""
        from forebear.documents.generator import generator_sha256

        count = _Count()
        try:
            index, facts, files = self._load()
            count.withheld = sum(name not in files for name in index_digests(index))
            findings = list(self._check_index(index, files))
            findings += self._check_facts(facts, count)
            findings += check_approvals(self._folder, facts, files)
            findings += self._check_previous(files)
            ours = index.get("generator_sha256") == generator_sha256()
            if ours and not findings:
                findings += self._check_rebuilt(facts, count)
            if ours:
                findings += check_texts(self._folder, index, facts, files)
        except Absent as absent:
            return Unchecked(f"the documents cannot be read: {absent}")
        except (FormatError, SignatureError) as error:
            findings = [Finding(error.where or self._index, error.what)]
            return Failed(tuple(findings))
        if findings:
            return Failed(tuple(findings))
        return _judge(count, facts, n_files=len(files), ours=ours)

    def _load(self) -> tuple[dict[str, Any], Facts, dict[str, bytes]]:
        """Index, facts, and the bytes of every file in the folder by name."""
        from pydantic import ValidationError

        from forebear.documents.build import FACTS, INDEX_SCHEMA
        from forebear.documents.values import Facts

        products = self._signed.link.products
        paths = [path for path in sorted(products) if path.startswith(self._folder)]
        files: dict[str, bytes] = {}
        for path in paths:
            name = path.removeprefix(self._folder)
            try:
                files[name] = read_product(self._evidence, path)
            except Absent:
                # left out of the release; its digest is compared all the same
                if not name.startswith(_RESTRICTED):
                    raise
        index = strictjson.parse_canonical(files[_INDEX], where=self._index)
        if not isinstance(index, dict) or index.get("schema") != INDEX_SCHEMA:
            raise FormatError(f"is no index of schema {INDEX_SCHEMA}", self._index)
        where = f"{self._folder}{FACTS}"
        if FACTS not in files:
            raise FormatError("is missing", where)
        strictjson.parse_canonical(files[FACTS], where=where)
        try:
            facts = Facts.model_validate_json(files[FACTS])
        except ValidationError as error:
            first = error.errors()[0]
            place = "/".join(map(str, first["loc"]))
            raise FormatError(f"holds no facts: {place}: {first['msg']}", where) from error
        return index, facts, files

    def _check_index(
        self, index: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> Iterator[Finding]:
        digests = index_digests(index)
        products = self._signed.link.products
        written = {path.removeprefix(self._folder) for path in products
                   if path.startswith(self._folder) and not is_virtual(path)}  # fmt: skip
        for name in sorted((digests.keys() | files.keys() | written) - {_INDEX}):
            if digests.get(name) not in self._signed_digests(name):
                yield Finding(f"{self._folder}{name}", "is not the file that the index lists")
        if index.get("draft") is not False and self._released_as() == "final":
            yield Finding(self._index, "calls the documents drafts, the release calls them final")

    def _signed_digests(self, name: str) -> set[str]:
        """Digests that the stage's link gives a document.

        One for authorities lies in a folder of its own, so that a release can do without it.
        """
        products = self._signed.link.products
        path = f"{self._folder}{name}"
        if path in products or not name.startswith(_RESTRICTED):
            return {products[path]} if path in products else set()
        ending = f"/{name.removeprefix(_RESTRICTED)}"
        return {
            digest
            for path, digest in products.items()
            if path.endswith(ending) and not path.startswith(self._folder)
        }

    def _released_as(self) -> object:
        return self._evidence.statement(RELEASE_BUNDLE).predicate.get("documents")

    # ── figures ────────────────────────────────────────────────────────────────────────────────

    def _check_facts(self, facts: Facts, count: _Count) -> Iterator[Finding]:
        from forebear.documents.build import FACTS
        from forebear.documents.facts import evidence_root

        where = f"{self._folder}{FACTS}"
        for file in facts.evidence:
            text = self._fault_of_file(file)
            if text:
                yield Finding(where, f"evidence {file.path}: {text}")
        if facts.evidence_root != evidence_root(facts.evidence, facts.declarations_sha256):
            yield Finding(where, "the evidence root is not that of the evidence listed")
        leaves = dict(facts.leaves())
        for name, value in leaves.items():
            if value.kind == "declared":
                count.declared += 1
                if value.declarations_sha256 != facts.declarations_sha256:
                    yield Finding(where, f"{name}: was declared in another file of declarations")
            elif value.kind == "computed":
                text = self._fault_of_figure(value, leaves, count)
                if text:
                    yield Finding(where, f"{name}: {text}")
        yield from self._check_declarations(facts, where)

    def _fault_of_figure(self, value: Value, leaves: Mapping[str, Value], count: _Count) -> str:
        """What is wrong with a computed value; one whose evidence is not here is counted."""
        from forebear.documents.resolve import fault

        try:
            text = fault(value, leaves, self._content)
        except Absent as absent:
            count.absent[absent.path] = count.absent.get(absent.path, 0) + 1
            return ""
        except (FormatError, SignatureError) as error:
            return error.what
        count.equal += not text
        return text

    def _check_previous(self, files: Mapping[str, bytes]) -> Iterator[Finding]:
        """What this release was compared with is what its stage read."""
        from forebear.documents.registry import PREVIOUS

        if PREVIOUS not in files:
            return
        digest = hashlib.sha256(files[PREVIOUS]).hexdigest()
        if digest not in self._signed.link.materials.values():
            where = f"{self._folder}{PREVIOUS}"
            yield Finding(where, f"is no file that stage {self._signed.stage!r} read")

    def _check_declarations(self, facts: Facts, where: str) -> Iterator[Finding]:
        """Declared words, as far as the declarations lie here; else their digest alone."""
        digest = facts.declarations_sha256
        if digest is None:
            return
        materials = self._signed.link.materials
        paths = [path for path, found in materials.items() if found == digest]
        if not paths:
            yield Finding(
                where, f"rests on declarations that stage {self._signed.stage!r} never read"
            )
            return
        try:
            data = read_product(self._evidence, paths[0])
        except Absent:
            return
        from forebear.documents.declarations import parse_declarations

        try:
            declared = parse_declarations(data, where=paths[0])
        except (ConfigError, FormatError) as error:
            yield Finding(paths[0], error.what)
            return
        for name, value in facts.values.items():
            if value.kind == "declared" and declared.values.get(name) != value:
                yield Finding(where, f"{name}: is not what {paths[0]} declares")
        for name, rows in facts.tables.items():
            if name in declared.tables and declared.tables[name] != rows:
                yield Finding(where, f"{name}: is not what {paths[0]} declares")

    def _check_rebuilt(self, facts: Facts, count: _Count) -> Iterator[Finding]:
        """Each fact once more, so that none is left out or cites the place of another."""
        from forebear.documents.build import FACTS, inputs_of, rebuild_facts

        if count.absent:
            return
        where = f"{self._folder}{FACTS}"
        params = signed_params(self._signed)
        command = self._signed.link.command
        try:
            inputs = replace(
                inputs_of(command, self._evidence.root, params), stage=self._signed.stage
            )
            again = rebuild_facts(
                self._links(),
                lambda path: read_product(self._evidence, path),
                inputs,
                declared=facts,
            )
        except Absent as absent:
            count.absent[absent.path] = 0
            return
        except ConfigError:
            count.foreign = True
            return
        if (facts.document_time, facts.evidence) != (again.document_time, again.evidence):
            yield Finding(where, "lists other evidence than the signed links give")
        said, given = dict(facts.leaves()), dict(again.leaves())
        for name in sorted(said.keys() | given.keys()):
            if name not in said:
                yield Finding(where, f"{name}: is left out, though it is known")
            elif name not in given:
                yield Finding(where, f"{name}: is no figure that the evidence gives")
            elif said[name] != given[name]:
                yield Finding(where, f"{name}: {_fault_of_binding(said[name], given[name])}")

    def _links(self) -> dict[str, tuple[SignedFile, Link]]:
        """The links that documents describe, as evidence of theirs."""
        from forebear.documents.evidence import SignedFile

        found = {}
        for stage, signed in self._evidence.links.items():
            link = signed.link
            if stage == SOURCE or any(name.endswith(".link") for name in link.materials):
                continue
            path = f"{LINKS}{stage}.link"
            content = strictjson.parse(signed.envelope.payload, where=path)
            found[stage] = SignedFile(path, signed.digest, content, path, signed.digest), link
        return found

    def _content(self, ref: EvidenceRef) -> Any:
        """The parsed file of a place, after everything about it has been compared."""
        key = (ref.path, ref.sha256)
        if key not in self._contents:
            text = self._fault_of_file(ref)
            if text:
                raise SignatureError(f"cites {ref.path}, which {text}", ref.path)
            self._contents[key] = self._read(ref)
        return self._contents[key]

    def _fault_of_file(self, ref: EvidenceRef | EvidenceFile) -> str:
        """Why the cited file is not the one that a link of this release signs."""
        if ref.path.startswith(PARAMS):
            if ref.sha256 != self._signed.link.materials.get(ref.path):
                return "is not what the stage that wrote the documents ran with"
            return ""
        signed = self._evidence.links.get(_stage_of(ref.link))
        if signed is None or ref.link_sha256 != signed.digest:
            return f"is signed by another link than the {ref.link} of this release"
        digest = signed.digest if ref.path == ref.link else signed.link.products.get(ref.path)
        return "" if ref.sha256 == digest else f"is not what stage {signed.stage!r} wrote"

    def _read(self, ref: EvidenceRef) -> Any:
        if ref.path.startswith(PARAMS):
            params = signed_params(self._signed)
            if params_digest(params) != ref.sha256:
                raise SignatureError(
                    "shows other params than those that it signs", self._signed.path
                )
            return params
        if ref.path == ref.link:
            signed = self._evidence.links[_stage_of(ref.link)]
            return strictjson.parse(signed.envelope.payload, where=signed.path)
        if find_product(self._evidence, ref.path).digest != ref.sha256:
            raise SignatureError("two stages wrote it", ref.path)
        return strictjson.parse(read_product(self._evidence, ref.path), where=ref.path)


def _fault_of_binding(said: Value, given: Value) -> str:
    if given.kind == "computed" != said.kind:
        return "is left out, though it is measured"
    if said.kind == given.kind == "computed":
        return "is not bound to the evidence that it is about"
    return "is not what the evidence and the declarations give"


def _stage_of(link: str) -> str:
    return link.removeprefix(LINKS).removesuffix(".link")


def _judge(count: _Count, facts: Facts, *, n_files: int, ours: bool) -> Verdict:
    said = f"{counted(count.equal, 'figure')} equal the evidence they cite"
    if count.declared:
        said += f"; {counted(count.declared, 'statement')} by people tied to the declarations"
    if count.absent:
        paths = sorted(count.absent)
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        total = counted(sum(count.absent.values()), "figure")
        return Unchecked(
            f"{said}; {total} by digest only, for their evidence is not shipped: "
            f"{', '.join(paths[:_SHOWN])}{more}"
        )
    if not ours:
        return Unchecked(f"{said}; other code than this version's wrote the documents, so they "
                         "were not made again")  # fmt: skip
    if count.foreign:
        return Unchecked(f"{said}; the command of their stage does not say what they were made of")
    draft = " (drafts)" if facts.draft else ""
    if count.withheld:
        said += f"; {counted(count.withheld, 'file')} for authorities by digest, not shipped"
    return Passed(f"{said}; {counted(n_files, 'file')}{draft} as the facts give them")
