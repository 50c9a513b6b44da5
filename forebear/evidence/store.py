"""Evidence: a packed release, an archive of one, or a repository, opened for reading only.

Bytes of metadata are read once and kept, so that what was verified is what is used. Nothing is
trusted: accessors parse strictly and raise, and what a check makes of that is the check's affair.
An archive is unpacked into a private folder that :meth:`Evidence.close` removes.

Rests on: provenance page, sections 6, 7 and 11.
"""

from __future__ import annotations

import configparser
import hashlib
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from forebear.errors import EnvironmentFailure, FormatError, PathError, UsageError
from forebear.evidence import disk
from forebear.evidence.archive import top_folder, unpack
from forebear.evidence.graph import Graph
from forebear.evidence.names import (
    ATTESTATIONS,
    BUNDLE_SUFFIX,
    LAYOUT,
    PIPELINE,
    RELEASE_BUNDLE,
    is_later,
)
from forebear.evidence.sums import parse_sums
from forebear.formats import strictjson
from forebear.formats.dsse import Envelope, parse_envelope
from forebear.formats.layout import ATTEST, SUMS, LayoutView, parse_layout, shipped_outs
from forebear.formats.link import Link, parse_link
from forebear.formats.pathrule import require_path
from forebear.formats.statement import Statement, parse_bundle, parse_statement
from forebear.pipeline import Out, Pipeline, Stage

Kind = Literal["release", "repository"]

__all__ = [
    "LAYOUT",
    "PIPELINE",
    "RELEASE_BUNDLE",
    "Evidence",
    "Fault",
    "SignedLink",
    "open_evidence",
]

RELEASE_FOLDER = "release"
OWN_LINK = f"links/{ATTEST}.link"
MAX_METADATA_BYTES = strictjson.MAX_BYTES
# of payloads whose parsed form is kept, which takes about five times that
_MAX_KEPT_BYTES = 64 * 1024 * 1024

_LINK_NAME = re.compile(r"links/([^/]+)\.([0-9a-f]{8})\.link")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that made it impossible to open a part of the evidence."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class SignedLink:
    """A link with its envelope, unverified.

    Attributes:
        stage: stage name, as the file name says.
        path: of the file inside the metadata.
        digest: SHA-256 of the file.
        envelope: as parsed.
        link: as parsed.
    """

    stage: str
    path: str
    digest: str
    envelope: Envelope
    link: Link


@dataclass
class Evidence:
    """What there is to verify; use as a context manager.

    Attributes:
        kind: ``release`` (packed folder or archive) or ``repository``.
        root: where outs lie, by their repository paths.
        folder: where the metadata lie: the root of a packed release, ``release/`` in a repository.
        entries: kind of every entry below ``folder``, by its path relative to it.
        faults: members of an archive for which it was not unpacked.
        cache: of DVC, in a repository: symbolic links into it are what DVC keeps there for files.
    """

    kind: Kind
    root: Path
    folder: Path
    entries: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    cache: Path | None = None
    _bytes: dict[str, bytes] = field(default_factory=dict, repr=False)
    _outs: dict[str, dict[str, str] | None] = field(default_factory=dict, repr=False)
    _links: dict[str, SignedLink] = field(default_factory=dict, repr=False)
    _statements: dict[str, Statement] = field(default_factory=dict, repr=False)
    _n_kept_bytes: int = field(default=0, repr=False)
    _temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    # ── files ──────────────────────────────────────────────────────────────────────────────────

    def file(self, path: str) -> Path:
        """Where the bytes of a metadata file lie."""
        own = self.kind == "repository" and path == OWN_LINK
        place = (self.root if own else self.folder) / path
        return disk.cached_object(place, self.cache) or place

    def place(self, path: str) -> Path:
        """Where the bytes of a file lie that :meth:`out_entries` or a source link names."""
        place = self.root / path
        return disk.cached_object(place, self.cache) or place

    def has(self, path: str) -> bool:
        """Whether there is a regular metadata file of that name."""
        return self.entries.get(path) == disk.FILE

    def read(self, path: str) -> bytes:
        """Bytes of a metadata file, the same at every call.

        Raises:
            FormatError: there is no such regular file, or it is longer than 64 MiB.
        """
        if path not in self._bytes:
            if not self.has(path):
                raise FormatError("is missing", path)
            self._bytes[path] = disk.read_regular(
                self.file(path), where=path, max_bytes=MAX_METADATA_BYTES
            )
        return self._bytes[path]

    def digest(self, path: str) -> str:
        """SHA-256 of a metadata file. Raises as :meth:`read`."""
        return hashlib.sha256(self.read(path)).hexdigest()

    def out_entries(self, path: str) -> Mapping[str, str] | None:
        """Entries of an out, itself included, by repository paths; None when it is not there.

        Raises:
            PathError: the path breaks the path rules; it could lead anywhere.
        """
        if path not in self._outs:
            require_path(path)
            self._outs[path] = disk.scan_path(self.root, path, cache=self.cache)
        return self._outs[path]

    # ── documents ──────────────────────────────────────────────────────────────────────────────

    @cached_property
    def pipeline_value(self) -> dict[str, Any]:
        """The whole of ``pipeline.json``. Raises FormatError."""
        value = strictjson.parse_canonical(self.read(PIPELINE), where=PIPELINE)
        if not isinstance(value, dict):
            raise FormatError("must be an object", PIPELINE)
        return value

    @cached_property
    def pipeline(self) -> Pipeline:
        """The declared pipeline. Raises FormatError."""
        return Pipeline.from_json(self.pipeline_value, where=PIPELINE)

    @cached_property
    def layout_envelope(self) -> Envelope:
        """The layout as signed, unverified. Raises FormatError."""
        return parse_envelope(self.read(LAYOUT), where=LAYOUT)

    @cached_property
    def layout(self) -> LayoutView:
        """The layout's content, unverified. Raises FormatError."""
        return parse_layout(self.layout_envelope.payload, where=LAYOUT)

    @cached_property
    def sums(self) -> dict[str, str]:
        """Digest by path, as ``SHA256SUMS`` says. Raises FormatError."""
        return parse_sums(self.read(SUMS), where=SUMS)

    @cached_property
    def link_files(self) -> dict[str, list[str]]:
        """Link files by stage; more than one for a stage is C1's finding."""
        found: dict[str, list[str]] = {}
        for path in self.entries:
            match = _LINK_NAME.fullmatch(path)
            if match:
                found.setdefault(match[1], []).append(path)
        if self.kind == "repository" and self.has(OWN_LINK):
            found.setdefault(ATTEST, []).append(OWN_LINK)
        return found

    def signed_link(self, stage: str) -> SignedLink:
        """The stage's link, unverified.

        Raises:
            FormatError: there is none or more than one, or it breaks the format.
        """
        if stage not in self._links:
            paths = self.link_files.get(stage, [])
            if len(paths) != 1:
                what = "is missing" if not paths else "stands here more than once"
                raise FormatError(f"the link of stage {stage!r} {what}", f"links/{stage}.*.link")
            envelope = parse_envelope(self.read(paths[0]), where=paths[0])
            link = parse_link(envelope.payload, where=paths[0])
            self._links[stage] = SignedLink(stage, paths[0], self.digest(paths[0]), envelope, link)
        return self._links[stage]

    def statement(self, path: str) -> Statement:
        """What a bundle says, unverified; kept as long as all that is kept stays small.

        Raises:
            FormatError: there is no such file, or it breaks the format.
        """
        statement = self._statements.get(path)
        if statement is None:
            payload = parse_bundle(self.read(path), where=path).envelope.payload
            statement = parse_statement(payload, where=path)
            self._n_kept_bytes += len(payload)
            if self._n_kept_bytes <= _MAX_KEPT_BYTES:
                self._statements[path] = statement
        return statement

    @cached_property
    def links(self) -> dict[str, SignedLink]:
        """Every link that can be parsed, by stage."""
        found: dict[str, SignedLink] = {}
        for stage in sorted(self.link_files):
            with suppress(FormatError, PathError):
                found[stage] = self.signed_link(stage)
        return found

    @cached_property
    def shipped(self) -> tuple[tuple[Stage, Out], ...]:
        """Outs that a release carries, with their stages. Raises FormatError, ConfigError."""
        wanted = {(stage.name, out.path) for stage, out in shipped_outs(self.pipeline)}
        return tuple(
            (stage, out)
            for stage in self.pipeline.stages
            for out in stage.outs
            if (stage.name, out.path) in wanted
        )

    @property
    def bundles(self) -> tuple[str, ...]:
        """Paths of the release's own Sigstore bundles that are regular files, sorted."""
        return tuple(
            path
            for path in sorted(self.entries)
            if path.endswith(BUNDLE_SUFFIX)
            and (path.startswith(ATTESTATIONS) or path == RELEASE_BUNDLE)
            and self.has(path)
        )

    @cached_property
    def later(self) -> tuple[str, ...]:
        """Paths of the statements that were added to a packed release after it was signed."""
        if self.kind != "release":
            return ()
        return tuple(path for path in sorted(self.entries) if is_later(path) and self.has(path))

    @cached_property
    def graph(self) -> Graph:
        """Who made what, by every link that can be parsed; indexed once."""
        return Graph({name: signed.link for name, signed in self.links.items()})

    def names(self, name: str, digest: str) -> bool:
        """Whether a file of the release or an artifact of a link has this name and digest."""
        if self.has(name) and self.digest(name) == digest:
            return True
        graph = self.graph
        return bool(graph.producers(name, digest) or graph.consumers(name, digest))

    # ── life ───────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Removes what was unpacked."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_evidence(place: Path) -> Evidence:
    """Evidence at ``place``: a packed release, a tar archive of one, or a repository.

    Raises:
        EnvironmentFailure: nothing is there, or it cannot be read.
        UsageError: a folder that is neither a release nor a repository.
    """
    place = place.absolute()
    kind = disk.kind_of(place.resolve())
    if kind is None:
        raise EnvironmentFailure("there is nothing here", str(place))
    if kind != disk.FOLDER:
        return _open_archive(place)
    # its own layout decides: a release that carries a .dvc folder is still held to be a release
    if any((place / name).is_file() for name in (LAYOUT, PIPELINE, SUMS)):
        return Evidence("release", place, place, disk.scan(place))
    if (place / ".dvc").is_dir() and (place / RELEASE_FOLDER).is_dir():
        return _open_repository(place)
    raise UsageError(
        "is neither a packed release nor a repository with a release/ folder",
        str(place),
        "run `dvc repro` in a repository first, or give the folder that `forebear pack` wrote",
    )


def _open_repository(root: Path) -> Evidence:
    folder = root / RELEASE_FOLDER
    cache = dvc_cache(root)
    entries = disk.scan(folder, cache=cache)
    own = disk.scan_path(root, OWN_LINK, cache=cache) or {}
    entries.update({path: kind for path, kind in own.items() if path == OWN_LINK})
    return Evidence("repository", root, folder, entries, cache=cache)


def dvc_cache(root: Path) -> Path:
    """DVC's object cache of a repository, as its settings say; DVC itself is not needed.

    Read too narrowly, links into it count as links, which is a finding; never the other way round,
    since bytes are compared whatever the way to them.
    """
    place = ".dvc/cache"
    for name in ("config", "config.local"):
        settings = configparser.ConfigParser(interpolation=None, strict=False)
        with suppress(OSError, configparser.Error, UnicodeDecodeError):
            settings.read_string((root / ".dvc" / name).read_text(encoding="utf-8"))
            place = str(root / ".dvc" / settings.get("cache", "dir"))
    return root / place / "files"


def _open_archive(archive: Path) -> Evidence:
    temporary = tempfile.TemporaryDirectory(prefix="forebear-")
    try:
        target = Path(temporary.name)
        faults = tuple(Fault(path, what) for path, what in unpack(archive, target))
        folder = target if faults else top_folder(target)
        entries = {} if faults else disk.scan(folder)
    except BaseException:
        temporary.cleanup()
        raise
    return Evidence("release", folder, folder, entries, faults, _temporary=temporary)
