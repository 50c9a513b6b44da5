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
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.evidence.names import (
    ATTESTATIONS,
    GATE_BUNDLE,
    LAYOUT,
    OWNER,
    PIPELINE,
    RELEASE_BUNDLE,
    checkpoint_bundle,
    is_ledger_root,
    ledger_bundle,
    stage_bundle,
)
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
from forebear.release.statements import link_name
from forebear.release.terms import (
    Terms,
    read_file,
    require_documents,
    require_gate,
    require_shipped,
    require_waivers,
)
from forebear.signing.keys import PublicKey

__all__ = ["Terms", "attest"]

_LOG = logging.getLogger(__name__)


def attest(  # noqa: PLR0913  # one argument per input, all but the first three by name
    root: Path,
    pipeline: Pipeline,
    owner: Owner,
    *,
    recorders: Sequence[PublicKey],
    gate: str | None,
    documents: str | None,
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
        gate: folder of ``gate.json``, relative to the root; None for a pipeline without a gate.
        documents: folder of ``documents.json``, relative to the root; None when there are none.
        release: folder to write, relative to the root; what was there is removed.
        terms: what the owner decides.
        cache_dir: DVC's cache, the only place that symlinks may lead to.
        now: start of the layout's life, with a time zone; the present when left out.

    Raises:
        RecordError: the chain of links does not hold.
        GateError: the gate did not pass, judged something else, or rests on a waiver that does not
            hold; or the documents are drafts.
        ConfigError: the pipeline ships nothing, or more than a layout can express; or the owner's
            key is also a recorder's.
        EnvironmentFailure: something is missing or cannot be written.
    """
    if owner.public in recorders:
        raise ConfigError(
            "the owner's key is also a recorder's, so one theft would forge everything",
            where=f"key {owner.public.keyid:.8}",
            fix="forebear keys new recorder",
        )
    pipeline = with_sources(pipeline, root, release=release)
    require_shipped(pipeline)
    stages = [stage for stage in pipeline.stages if stage.name != ATTEST]
    sources = hash_artifacts(root, source_paths(pipeline), cache_dir=cache_dir)
    disk = hash_artifacts(root, _present(root, stages), cache_dir=cache_dir)
    links = require_chain(root, pipeline, stages, recorders, source=sources, disk=disk)
    now = now or datetime.now(UTC)
    verdict = None
    if gate is not None:
        verdict = require_gate(root, pipeline, links, disk, gate, terms)
        require_waivers(root / gate, verdict.gate, owner.public, now=now)
    stand = require_documents(root, documents, terms)
    committed = compare_with_commit(root, sources, pipeline.sources)
    if committed.differs:
        _LOG.warning("%d source file(s) differ from the commit", len(committed.differs))
    expires = now + timedelta(days=terms.expires_days)
    layout = derive_layout(pipeline, owner=owner.public, recorders=recorders, expires=expires)
    work = _Release(root, pipeline, owner, links, disk)
    work.add_signed(LAYOUT, layout)
    products = {**sources, **declared_artifacts(pipeline.stages)}
    work.add_signed(
        link_name(SOURCE, owner.public.keyid), source_link(products, committed, pipeline.sources)
    )
    lock = load_lock(root, without=ATTEST)
    work.files[PIPELINE] = strictjson.dumps({**pipeline.to_json(), "lock": lock})
    work.files[OWNER] = owner.public.pem
    work.add_links()
    work.add_manifests()
    work.add_provenance()
    work.add_ledgers()
    if verdict is not None:
        work.add_bundle(GATE_BUNDLE, verdict.statement)
    work.add_oms()
    work.add_sums_and_release(verdict.gate if verdict is not None else None, stand, terms)
    work.write(root / release)


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
            self.files[link_name(signed.stage.name, signed.keyid)] = signed.data

    def add_manifests(self) -> None:
        """The manifest of every folder that is a checkpoint or is shipped."""
        paths = {out.path for _, out in shipped_outs(self._pipeline)}
        paths |= {out.path for _, out in self._models()}
        for signed in self._links:
            for out in signed.stage.outs:
                if out.path in paths and out.is_dir:
                    data = manifest(_files_of(out, signed.link.products))
                    self.files[f"manifests/{out.path}.sha256"] = data

    def add_provenance(self) -> None:
        """SLSA provenance: of every stage, so that statements alone lead to the sources.

        Beside it that of every checkpoint, for those who hold nothing else.
        """
        chain = statements.Chain(self._links)
        for signed in self._links:
            if signed.link.products:
                statement = statements.provenance(signed, None, chain)
                self.add_bundle(stage_bundle(signed.stage.name), statement)
        for signed, out in self._models():
            self.add_bundle(checkpoint_bundle(out.path), statements.provenance(signed, out, chain))

    def add_ledgers(self) -> None:
        """What each document ledger says, as far as its root lies on disk.

        Raises:
            EnvironmentFailure: it cannot be read.
        """
        for signed in self._links:
            for path in filter(is_ledger_root, sorted(signed.link.products)):
                if path in self._disk:
                    data = read_file(self._root, path)
                    self.add_bundle(ledger_bundle(path), statements.ledger(path, data))

    def add_oms(self) -> None:
        """Signatures in the OpenSSF model-signing format of every shipped checkpoint."""
        shipped = {out.path for _, out in shipped_outs(self._pipeline)}
        for _, out in self._models():
            if out.path in shipped:
                self.files[f"{ATTESTATIONS}{out.path}/model.sig"] = self._owner.sign_model(
                    self._root / out.path
                )

    def add_sums_and_release(
        self, gate: Mapping[str, Any] | None, documents: str, terms: Terms
    ) -> None:
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
            if path in {SUMS, LAYOUT, PIPELINE, OWNER} or path.startswith((LINKS, ATTESTATIONS))
        }
        statement = statements.release(
            parts, serial=terms.serial, previous=terms.previous, gate=gate, documents=documents
        )
        self.add_bundle(RELEASE_BUNDLE, statement)

    def write(self, folder: Path) -> None:
        """Writes all files; on failure nothing is left.

        Raises:
            EnvironmentFailure: they cannot be written.
        """
        try:
            # emptied, not replaced: under confinement the folder was opened to us as it is
            folder.mkdir(parents=True, exist_ok=True)
            _empty(folder)
            for path in sorted(self.files):
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.files[path])
        except OSError as error:
            with suppress(OSError):
                _empty(folder)
                folder.rmdir()
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


def _empty(folder: Path) -> None:
    """Removes everything in a folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
