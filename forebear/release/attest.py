"""Signs a release: everything beside the files themselves that a stranger needs to verify it.

Reads every byte again, checks the whole chain and the gate, and only then writes. Refuses, and
writes nothing, when a link does not hold, when the gate did not pass, or when the gate judged
another checkpoint than the one on disk.

Rests on: provenance page, sections 4, 6 and 7.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, GateError
from forebear.formats import strictjson
from forebear.formats.layout import (
    ATTEST,
    LINKS,
    SOURCE,
    SUMS,
    OutLike,
    derive_layout,
    shipped_outs,
)
from forebear.formats.link import TREE
from forebear.formats.statement import Statement
from forebear.hashing.digest import manifest
from forebear.pipeline import Out, Pipeline, Stage, link_path
from forebear.release import statements
from forebear.release.chain import SignedLink, require_chain
from forebear.release.owner import Owner
from forebear.release.sources import (
    compare_with_commit,
    declared_artifacts,
    hash_artifacts,
    load_lock,
    source_link,
    source_paths,
    with_sources,
)
from forebear.signing.keys import PublicKey

LAYOUT = "root.layout"
PIPELINE = "pipeline.json"
OWNER = "owner.pub"
RELEASE_BUNDLE = "release.sigstore.json"
PASSED = ("PASS", "PASS_WITH_WAIVERS")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the owner decides about a release.

    Attributes:
        serial: number of the release, one more than that of the previous one.
        documents: ``draft`` or ``final``.
        expires_days: how long the layout holds.
        allow_smoke: whether a smoke run, whose gate decides nothing, may be signed.
    """

    serial: int = 1
    documents: str = "draft"
    expires_days: int = 365
    allow_smoke: bool = False


def attest(  # noqa: PLR0913  # one argument per input, all but the first three by name
    root: Path,
    pipeline: Pipeline,
    owner: Owner,
    *,
    recorders: Sequence[PublicKey],
    gate: str,
    documents: str,
    release: str,
    terms: Terms,
    cache_dir: Path | None = None,
    now: datetime | None = None,
) -> None:
    """Writes the signed metadata of a release.

    Args:
        root: the DVC root.
        pipeline: as resolved now.
        owner: signs.
        recorders: keys that may have signed links.
        gate: folder of ``gate.json``, relative to the root.
        documents: folder of ``documents.json``, relative to the root.
        release: folder to write, relative to the root; what was there is removed.
        terms: what the owner decides.
        cache_dir: DVC's cache, the only place that symlinks may lead to.
        now: start of the layout's life; the present when left out.

    Raises:
        RecordError: the chain of links does not hold.
        GateError: the gate did not pass, or judged something else; or the documents are drafts.
        ConfigError: the pipeline ships nothing, or more than a layout can express.
        EnvironmentFailure: something is missing or cannot be written.
    """
    pipeline = with_sources(pipeline, root, release=release)
    stages = [stage for stage in pipeline.stages if stage.name != ATTEST]
    sources = hash_artifacts(root, source_paths(pipeline), cache_dir=cache_dir)
    disk = hash_artifacts(root, _present(root, stages), cache_dir=cache_dir)
    links = require_chain(root, pipeline, stages, recorders, source=sources, disk=disk)
    verdict = _require_gate(root, pipeline, links, disk, gate, terms)
    _require_documents(root / documents, terms)
    committed = compare_with_commit(root, sources)
    if committed.differs:
        _LOG.warning("%d source file(s) differ from the commit", len(committed.differs))
    expires = (now or datetime.now(UTC)) + timedelta(days=terms.expires_days)
    layout = derive_layout(
        pipeline, owner=owner.public, recorders=recorders, expires=expires
    )
    work = _Release(root, pipeline, owner, links, disk)
    work.add_signed(LAYOUT, layout)
    products = {**sources, **declared_artifacts(pipeline.stages)}
    work.add_signed(_link_name(SOURCE, owner.public.keyid), source_link(products, committed))
    lock = load_lock(root, without=ATTEST)
    work.files[PIPELINE] = strictjson.dumps({**pipeline.to_json(), "lock": lock})
    work.files[OWNER] = owner.public.pem
    work.add_links()
    work.add_manifests()
    work.add_provenance()
    work.add_bundle("attestations/gate.sigstore.json", verdict.statement)
    work.add_oms()
    work.add_sums_and_release(verdict.gate, terms)
    work.write(root / release)


@dataclass(frozen=True, slots=True)
class _Verdict:
    gate: Mapping[str, Any]
    statement: Statement


class _Release:
    """The files of ``release/``, kept in memory until all of them are made."""

    def __init__(
        self,
        root: Path,
        pipeline: Pipeline,
        owner: Owner,
        links: Sequence[SignedLink],
        disk: Mapping[str, str],
    ) -> None:
        self._root = root
        self._pipeline = pipeline
        self._owner = owner
        self._links = links
        self._disk = disk
        self.files: dict[str, bytes] = {}

    def add_signed(self, path: str, payload: bytes) -> None:
        """An in-toto layout or link in an envelope of the owner."""
        self.files[path] = self._owner.sign_envelope(payload)

    def add_bundle(self, path: str, statement: Statement) -> None:
        """A statement in a bundle of the owner."""
        self.files[path] = self._owner.sign_bundle(statement, where=path)

    def add_links(self) -> None:
        """Every stage link under the name that stock in-toto looks for."""
        for signed in self._links:
            self.files[_link_name(signed.stage.name, signed.keyid)] = signed.data

    def add_manifests(self) -> None:
        """The manifest of every checkpoint and of everything shipped."""
        paths = {out.path for _, out in shipped_outs(self._pipeline)}
        paths |= {out.path for _, out in self._models()}
        for signed in self._links:
            for out in signed.stage.outs:
                if out.path in paths:
                    data = manifest(_files_of(out, signed.link.products))
                    self.files[f"manifests/{out.path}.sha256"] = data

    def add_provenance(self) -> None:
        """SLSA provenance of every checkpoint."""
        for signed, out in self._models():
            name = _link_name(signed.stage.name, signed.keyid)
            self.add_bundle(
                f"attestations/{out.path}/provenance.sigstore.json",
                statements.provenance(signed, out, name),
            )

    def add_oms(self) -> None:
        """Signatures in the OpenSSF model-signing format of every shipped checkpoint."""
        shipped = {out.path for _, out in shipped_outs(self._pipeline)}
        for _, out in self._models():
            if out.path in shipped:
                self.files[f"attestations/{out.path}/model.sig"] = self._owner.sign_model(
                    self._root / out.path
                )

    def add_sums_and_release(self, gate: Mapping[str, Any], terms: Terms) -> None:
        """The list of all digests, and the statement over it and everything signed."""
        sums: dict[PurePosixPath, str] = {
            PurePosixPath(path): hashlib.sha256(data).hexdigest()
            for path, data in self.files.items()
        }
        for _, out in shipped_outs(self._pipeline):
            sums.update(_files_of(out, self._disk, relative=False))
        self.files[SUMS] = manifest(sums)
        parts = {
            path: data
            for path, data in self.files.items()
            if path in {SUMS, LAYOUT, PIPELINE} or path.startswith((LINKS, "attestations/"))
        }
        statement = statements.release(
            parts, serial=terms.serial, gate=gate, documents=terms.documents
        )
        self.add_bundle(RELEASE_BUNDLE, statement)

    def write(self, folder: Path) -> None:
        """Writes all files; on failure nothing is left.

        Raises:
            EnvironmentFailure: they cannot be written.
        """
        try:
            if folder.is_dir():
                shutil.rmtree(folder)
            for path in sorted(self.files):
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.files[path])
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise EnvironmentFailure(
                f"cannot be written: {error.strerror}", where=str(error.filename)
            ) from error

    def _models(self) -> list[tuple[SignedLink, Out]]:
        return [
            (signed, out)
            for signed in self._links
            for out in signed.stage.outs
            if out.kind == "model"
        ]


def _link_name(stage: str, keyid: str) -> str:
    return f"{LINKS}{stage}.{keyid:.8}.link"


def _present(root: Path, stages: Sequence[Stage]) -> list[str]:
    """Outs that lie on disk; shipped ones are required later, by what reads them."""
    return [
        out.path
        for stage in stages
        for out in stage.outs
        if out.path != link_path(stage) and (root / out.path).exists()
    ]


def _files_of(
    out: OutLike, digests: Mapping[str, str], *, relative: bool = True
) -> dict[PurePosixPath, str]:
    """Digests of an out's files, by path in the out or in the repository.

    Raises:
        EnvironmentFailure: there are none: the out is not on disk.
    """
    if not out.is_dir:
        names = [out.path] if out.path in digests else []
        found = {PurePosixPath(Path(name).name if relative else name): digests[name]
                 for name in names}  # fmt: skip
    else:
        start = len(out.path) + 1 if relative else 0
        found = {
            PurePosixPath(name[start:]): digest
            for name, digest in digests.items()
            if name.startswith(f"{out.path}/")
        }
    if not found and f"{TREE}{out.path}" not in digests:
        raise EnvironmentFailure(
            "is shipped, but does not lie on disk", where=out.path, fix="dvc checkout or dvc repro"
        )
    return found


def _require_gate(  # noqa: PLR0913, PLR0917  # all that the verdict is judged by
    root: Path,
    pipeline: Pipeline,
    links: Sequence[SignedLink],
    disk: Mapping[str, str],
    gate: str,
    terms: Terms,
) -> _Verdict:
    """The gate's verdict, when it passed and is about the checkpoint that is shipped."""
    path = f"{gate}/gate.json"
    try:
        data = (root / path).read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be read: {error.strerror}", where=path, fix="dvc repro"
        ) from error
    value = strictjson.parse_canonical(data, where=path)
    if not isinstance(value, dict):
        raise FormatError("must be a JSON object", where=path)
    if disk.get(path) != hashlib.sha256(data).hexdigest():
        raise GateError("is no product of a recorded stage", where=path, fix="dvc repro")
    verdict = str(value.get("verdict"))
    if verdict not in PASSED and not (verdict == "SMOKE" and terms.allow_smoke):
        raise GateError(
            f"the verdict is {verdict}, so no release is signed",
            where=path,
            fix="see `dvc metrics show` and the pairs in the file"
            if verdict != "SMOKE"
            else "a smoke run decides nothing; to rehearse a release, set attest.allow_smoke",
        )
    out, recorded = _candidate(pipeline, links)
    name = f"{TREE}{out.path}"
    tree = value.get("candidate_tree")
    if not isinstance(tree, str) or tree != recorded or tree != disk.get(name):
        raise GateError(
            "judged another checkpoint than the one that is shipped",
            where=f"{path}: candidate_tree, {out.path}",
            fix="dvc repro",
        )
    return _Verdict(value, statements.gate_result(path, data, (name, tree)))


def _candidate(pipeline: Pipeline, links: Sequence[SignedLink]) -> tuple[Out, str]:
    """The shipped checkpoint furthest down the pipeline, and its tree in its stage's link."""
    shipped = {out.path for _, out in shipped_outs(pipeline)}
    for signed in reversed(links):
        for out in signed.stage.outs:
            if out.path in shipped and out.kind == "model" and out.is_dir:
                return out, signed.link.products[f"{TREE}{out.path}"]
    raise ConfigError(
        "ships no checkpoint",
        where="dvc.yaml",
        fix="mark the final checkpoint with `type: model`, or list it under meta.forebear.ship",
    )


def _require_documents(folder: Path, terms: Terms) -> None:
    """Refuses to call drafts final."""
    file = folder / "documents.json"
    if terms.documents != "final":
        return
    try:
        value = strictjson.parse(file.read_bytes(), where=file.name)
    except OSError as error:
        raise EnvironmentFailure(f"cannot be read: {error.strerror}", where=str(file)) from error
    if not isinstance(value, dict) or value.get("draft") is not False:
        raise GateError(
            "the documents are drafts, so they cannot be released as final",
            where=file.name,
            fix="forebear document --check shows what is missing; or set attest.documents: draft",
        )
