"""Packs a release: one folder, or one archive, with all that a stranger needs to verify it.

Reads every byte before it copies, so that what was changed since ``attest`` is never packed.
Refuses a folder that holds something other than an earlier release of ours.

Rests on: provenance page, sections 3 and 6.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from forebear.errors import EnvironmentFailure, RecordError, UsageError
from forebear.evidence.names import (
    LATER,
    LAYOUT,
    PIPELINE,
    RELEASE_BUNDLE,
    is_attest_link,
    is_later,
)
from forebear.evidence.store import dvc_cache
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.layout import ATTEST, LINKS, SUMS, shipped_outs
from forebear.formats.link import TREE, parse_link
from forebear.hashing.digest import hash_files, hash_tree
from forebear.pipeline import Pipeline, link_path

_MARKS = (SUMS, LAYOUT, RELEASE_BUNDLE)
_FIX = "dvc repro attest"
_INDEX = "documents.json"
_RESTRICTED = "restricted/"


def pack(root: Path, out: Path, *, release: str = "release") -> Path:
    """The folder ``out``, filled with the release that ``attest`` signed.

    Args:
        root: the DVC root.
        out: new, empty, or an earlier release, which is replaced.
        release: the out of ``attest``, relative to the root.

    Raises:
        UsageError: ``out`` holds something else, or lies where the release is read from, or holds
            later statements about another release, which would be lost.
        RecordError: the files on disk are not those that were signed.
        EnvironmentFailure: there is no signed release, or the disk refuses.
    """
    root, out = root.absolute(), out.absolute()
    metadata = root / release
    if not (metadata / PIPELINE).is_file():
        raise EnvironmentFailure("there is no signed release", where=release, fix=_FIX)
    value = strictjson.parse_canonical((metadata / PIPELINE).read_bytes(), where=PIPELINE)
    shipped = [path.path for _, path in shipped_outs(Pipeline.from_json(value))]
    _require_free(out, [metadata, *(root / path for path in shipped)])
    link_name, link = _require_signed(root, metadata, release)
    plan = {PurePosixPath(inner): metadata / inner for inner in _files(metadata)}
    plan[PurePosixPath(link_name)] = link
    for path in shipped:
        place = root / path
        if place.is_dir():
            plan.update({PurePosixPath(path, inner): place / inner for inner in _files(place)})
        else:
            plan[PurePosixPath(path)] = place
    _require_sums(metadata, plan)
    plan.update(_kept(out, metadata))
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for inner in sorted(plan):
            _place(plan[inner], partial / inner)
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise EnvironmentFailure(
            f"cannot be packed: {error.strerror}", where=str(error.filename or out)
        ) from error
    return out


def pack_restricted(root: Path, release: Path, out: Path) -> None:
    """Copies the documents that only an authority may read to ``out``, each checked first.

    Args:
        root: the DVC root.
        release: the packed release, whose index of documents names them by digest.
        out: folder to write to; files in the way are replaced.

    Raises:
        EnvironmentFailure: the release has no such documents, or one cannot be read or written.
        RecordError: a document is not the one that the index names.
    """
    indexes = sorted(release.rglob(_INDEX))
    listed: dict[str, str] = {}
    for index in indexes:
        value = strictjson.parse(index.read_bytes(), where=str(index))
        listed |= {
            str(entry["path"]).removeprefix(_RESTRICTED): str(entry["sha256"])
            for entry in value["documents"]
            if str(entry["path"]).startswith(_RESTRICTED)
        }
    if not listed:
        raise EnvironmentFailure(
            "the release names no document for authorities", where=str(release), fix=_FIX
        )
    source = root / "cards" / "restricted"
    try:
        for name, digest in sorted(listed.items()):
            data = (source / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != digest:
                raise RecordError("is not what the index names", where=f"{source / name}", fix=_FIX)
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be copied: {error.strerror}", where=str(error.filename), fix=_FIX
        ) from error


def write_archive(folder: Path, archive: Path) -> Path:
    """A tar of a packed release; its bytes follow from the release's bytes alone.

    Raises:
        EnvironmentFailure: it cannot be written.
    """
    try:
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            for inner in sorted(_files(folder), key=str.encode):
                entry = tarfile.TarInfo(inner)
                entry.size = (folder / inner).stat().st_size
                entry.mode = 0o644
                with (folder / inner).open("rb") as stream:
                    tar.addfile(entry, stream)
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be written: {error.strerror}", where=str(archive)
        ) from error
    return archive


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name).relative_to(folder).as_posix()


def _require_free(out: Path, read_from: list[Path]) -> None:
    for place in read_from:
        if out == place or out in place.parents or place in out.parents:
            raise UsageError("would write over what it reads", where=str(out), fix="choose another")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError("is no folder", where=str(out), fix="choose another")
    if out.is_dir() and any(out.iterdir()) and not all((out / mark).is_file() for mark in _MARKS):
        raise UsageError(
            "is not empty and is no earlier release", where=str(out), fix="choose another"
        )


def _kept(out: Path, metadata: Path) -> dict[PurePosixPath, Path]:
    """Later statements of an earlier packing of the same release, which stay.

    Raises:
        UsageError: they are about another release.
    """
    if not (out / LATER).is_dir():
        return {}
    found = [f"{LATER}{inner}" for inner in _files(out / LATER)]
    same = (out / RELEASE_BUNDLE).read_bytes() == (metadata / RELEASE_BUNDLE).read_bytes()
    odd = [path for path in found if not same or not is_later(path) or (out / path).is_symlink()]
    if odd:
        raise UsageError(
            "holds statements that were attached to another release and would be lost",
            where=f"{out}: {odd[0]}",
            fix="pack into another folder, or move them away",
        )
    return {PurePosixPath(path): out / path for path in found}


def _require_signed(root: Path, metadata: Path, release: str) -> tuple[str, Path]:
    """Name and file of ``attest``'s own link, when it describes the metadata on disk."""
    path = link_path(ATTEST)
    file = root / path
    if not file.is_file():
        raise EnvironmentFailure("there is no link of attest", where=path, fix=_FIX)
    envelope = parse_envelope(file.read_bytes(), where=path)
    link = parse_link(envelope.payload, where=path)
    tree = hash_tree(metadata, allow_symlinks_into=dvc_cache(root))
    if link.products.get(f"{TREE}{release}") != tree.digest:
        raise RecordError("is not what attest wrote", where=release, fix=_FIX)
    return f"{LINKS}{ATTEST}.{envelope.keyid:.8}.link", file


def _require_sums(metadata: Path, plan: dict[PurePosixPath, Path]) -> None:
    """Every planned file has the digest that the release lists for it."""
    listed = {}
    for line in (metadata / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, path = line.partition("  ")
        listed[PurePosixPath(path)] = digest
    missing = sorted(str(path) for path in listed.keys() - plan.keys())
    known = sorted(listed.keys() & plan.keys())
    found = hash_files([plan[path].resolve() for path in known])
    wrong = [str(path) for path, digest in zip(known, found, strict=True) if listed[path] != digest]
    own = {PurePosixPath(SUMS), PurePosixPath(RELEASE_BUNDLE)}
    extra = sorted(
        str(path) for path in plan.keys() - listed.keys() - own if not is_attest_link(str(path))
    )
    if missing or wrong or extra:
        raise RecordError(
            "the files on disk are not those that were signed",
            where=", ".join([*wrong, *missing, *extra][:5]),
            fix=_FIX,
        )


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # a copy, not a hard link: whoever edits a release must not edit the workspace with it
    shutil.copyfile(source.resolve(), target)
