"""Signed evidence: files whose bytes are what a trusted link says they are.

A file enters only if its SHA-256, or that of the directory out around it, stands among the
products of a link whose signature a trusted key confirms. Anything else is refused by name:
unsigned evidence is not evidence. Whether the links fit each other is the verifier's question.

Source: compliance page, sections 1 and 3; provenance page, section 3.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from forebear.documents.values import EvidenceFile, EvidenceRef, Value, unknown
from forebear.errors import EnvironmentFailure, ForebearError, FormatError, SignatureError
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.layout import ATTEST
from forebear.formats.link import PAYLOAD_TYPE, TREE, Link, parse_link
from forebear.hashing.digest import Tree, hash_tree
from forebear.hashing.paths import check_relative_path
from forebear.signing.keys import PublicKey, load_public
from forebear.signing.signer import verify_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

RUN = ("byproducts", "forebear")  # where a link keeps what the recorder measured

ABSENT = object()


class MissingEvidence(EnvironmentFailure):
    """A file that a link signs is not there to be read."""


@dataclass(frozen=True, slots=True)
class SignedFile:
    """One file as parsed JSON, with the link that signs it.

    Attributes:
        path: relative to the repository.
        content: the parsed JSON; for a link its signed payload.
        link: path of the link; ``path`` itself for a link.
        tree: directory out around the file, when the link signs that.
    """

    path: str
    sha256: str
    content: Any
    link: str
    link_sha256: str | None
    tree: str | None = None

    def get(self, *pointers: str) -> Any:
        """What the first pointer that leads somewhere leads to; None when none does."""
        found = self._first(pointers)
        return None if found is None else found[1]

    def ref(self, pointer: str) -> EvidenceRef:
        """The place as it stands in ``facts.json``."""
        return EvidenceRef(
            path=self.path,
            sha256=self.sha256,
            pointer=pointer,
            link=self.link,
            link_sha256=self.link_sha256,
            tree=self.tree,
        )

    def value(
        self,
        *pointers: str,
        reason: str = "not recorded by the stage",
        unit: str | None = None,
        method: str | None = None,
        estimate: bool = False,
    ) -> Value:
        """The value at the first pointer that leads to one, bound; unknown when none does."""
        found = self._first(pointers)
        if found is None:
            return unknown(reason)
        pointer, value = found
        return Value(
            kind="computed",
            value=value,
            unit=unit,
            method=method,
            estimate=estimate,
            evidence=(self.ref(pointer),),
        )

    def file(self) -> EvidenceFile:
        """The file's line in the evidence list."""
        return EvidenceFile(
            path=self.path,
            sha256=self.sha256,
            link=self.link,
            link_sha256=self.link_sha256,
            tree=self.tree,
        )

    def _first(self, pointers: Sequence[str]) -> tuple[str, Any] | None:
        for pointer in pointers:
            value = follow(self.content, pointer)
            if value is not ABSENT and value is not None:
                return pointer, value
        return None


def follow(content: Any, pointer: str) -> Any:
    """What an RFC 6901 pointer leads to; :data:`ABSENT` when it leads nowhere."""
    here = content
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict) and name in here:
            here = here[name]
        elif isinstance(here, list) and name.isdecimal() and int(name) < len(here):
            here = here[int(name)]
        else:
            return ABSENT
    return here


def pointer(*parts: str | int) -> str:
    """The RFC 6901 pointer through these names."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def value_of(file: SignedFile | None, reason: str) -> Callable[..., Value]:
    """``file.value``, or a function that gives unknown where there is no such file."""
    if file is None:
        return lambda *_pointers, **_options: unknown(reason)
    return file.value


def load_keys(folders: Iterable[Path]) -> dict[str, PublicKey]:
    """Every recorder's public key (``*.pub``) in the folders, by key id.

    Folders may be missing. An owner's key is passed over: owners sign releases, not stages.
    """
    keys: dict[str, PublicKey] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.pub")) if folder.is_dir() else ():
            key = load_public(file)
            if key.role == "recorder":
                keys[key.keyid] = key
    return keys


class Evidence:
    """The links of a repository and the files that they sign.

    Args:
        root: folder that the paths in the links are relative to.
        links: by stage name, the link as a file and as an object.
        read: bytes of a file by its path; from ``root`` when left out.
    """

    def __init__(
        self,
        root: Path,
        links: Mapping[str, tuple[SignedFile, Link]],
        read: Callable[[str], bytes] | None = None,
    ) -> None:
        self._root = root
        self._bytes = read or self._from_disk
        self._links = dict(links)
        self._files: dict[str, SignedFile] = {}
        self._trees: dict[str, Tree] = {}

    @classmethod
    def load(cls, root: Path, links: Path, keys: Mapping[str, PublicKey]) -> Evidence:
        """Every link in the folder ``links``, each signature checked.

        Links that have links among their materials are left out: they belong to the stages that
        write documents and attestations, so they come after what is described here.

        Raises:
            SignatureError: a link that is malformed, unsigned or signed by another key.
            EnvironmentFailure: there is no link.
        """
        loaded: dict[str, tuple[SignedFile, Link]] = {}
        for file in sorted((root / links).glob("*.link")):
            if file.name == f"{ATTEST}.link":  # of an earlier run: no dep, so closed to the stage
                continue
            path = file.relative_to(root).as_posix()
            signed, link = _load_link(file, path, keys)
            if not any(name.endswith(".link") for name in link.materials):
                loaded[link.name] = signed, link
        if not loaded:
            raise EnvironmentFailure(
                "there is no signed link, so there is nothing to document",
                where=links.as_posix(),
                fix="run `dvc repro`, or `dvc pull` in a fresh clone",
            )
        return cls(root, loaded)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names in the order in which the stages started."""
        return tuple(sorted(self._links, key=lambda name: (self._time(name, "started"), name)))

    @property
    def newest(self) -> str:
        """End time of the newest link, ISO 8601; empty when no link says."""
        return max(self._time(name, "ended") for name in self._links)

    def link(self, stage: str) -> SignedFile:
        """The link of a stage as evidence."""
        signed = self._links[stage][0]
        self._files[signed.path] = signed
        return signed

    def product(self, stage: str, name: str) -> str | None:
        """Path of the stage's product whose last segment is ``name``; None when there is none."""
        found = sorted(p for p in self._links[stage][1].products if p.rpartition("/")[2] == name)
        return found[0] if found else None

    def products(self, stage: str) -> list[str]:
        """Paths of the files that the stage wrote, sorted."""
        return sorted(p for p in self._links[stage][1].products if not p.startswith(TREE))

    def links(self) -> dict[str, Link]:
        """Every link by its stage."""
        return {stage: link for stage, (_, link) in self._links.items()}

    def lists(self, stage: str, tree: str, name: str) -> bool:
        """Whether a directory product of the stage holds a file of this name at its top."""
        return f"{tree.removeprefix(TREE)}/{name}" in self._links[stage][1].products

    def inside(self, stage: str, tree: str, name: str) -> SignedFile | None:
        """The JSON file ``name`` of a directory product; None when the link lists none."""
        path = f"{tree.removeprefix(TREE)}/{name}"
        return self.file(path) if self.lists(stage, tree, name) else None

    def tree_producer(self, digest: str) -> tuple[str, str] | None:
        """Stage and name of the directory product with this digest; the first to have made it."""
        for stage in self.stages:
            for name, found in sorted(self._links[stage][1].products.items()):
                if name.startswith(TREE) and found == digest:
                    return stage, name
        return None

    def trees(self, stage: str) -> list[str]:
        """Names of the stage's directory products, sorted."""
        return sorted(n for n in self._links[stage][1].products if n.startswith(TREE))

    def file(self, path: str) -> SignedFile:
        """A product of some stage, read, hashed and compared with the link.

        Raises:
            SignatureError: no link signs the file, or its bytes are others than those signed.
            EnvironmentFailure: it cannot be read.
        """
        if path not in self._files:
            check_relative_path(path)
            self._files[path] = self._read(path)
        return self._files[path]

    def metrics(self, stage: str) -> SignedFile | None:
        """The figures that the stage wrote; None when it wrote none."""
        path = self.product(stage, "metrics.json")
        return None if path is None else self.file(path)

    def named(self, stage: str, name: str) -> SignedFile | None:
        """The stage's product whose last segment is ``name``; None when there is none."""
        path = self.product(stage, name)
        return None if path is None else self.file(path)

    def search(self, pointer: str) -> Value:
        """The value at the pointer in the figures of the first stage that has one there."""
        for stage in self.stages:
            figures = self.metrics(stage)
            if figures is not None and figures.get(pointer) is not None:
                return figures.value(pointer)
        return unknown("no stage records it")

    def used(self) -> list[SignedFile]:
        """Every file that was asked for, sorted by path."""
        return [self._files[path] for path in sorted(self._files)]

    def _time(self, stage: str, name: str) -> str:
        found = self._links[stage][0].get(pointer(*RUN, name))
        return str(found or "")

    def _read(self, path: str) -> SignedFile:
        data = self._bytes(path)
        sha256 = hashlib.sha256(data).hexdigest()
        stage, tree = self._signer_of(path, sha256)
        signed = self.link(stage)
        try:
            content = strictjson.parse(data, where=path)
        except FormatError as error:
            raise SignatureError(error.what, where=path, fix=error.fix) from error
        return SignedFile(path, sha256, content, signed.path, signed.sha256, tree)

    def _from_disk(self, path: str) -> bytes:
        try:
            return (self._root / path).read_bytes()
        except OSError as error:
            raise MissingEvidence(
                f"cannot read the evidence: {error.strerror}",
                where=path,
                fix="run `dvc pull`, or `dvc repro` to make it again",
            ) from error

    def _signer_of(self, path: str, sha256: str) -> tuple[str, str | None]:
        """The stage whose link signs these bytes under this path, and the tree they lie in."""
        listed = False
        for stage in self.stages:
            products = self._links[stage][1].products
            listed = listed or path in products
            if products.get(path) == sha256:
                return stage, None
            for name, digest in products.items():
                folder = name.removeprefix(TREE)
                if not name.startswith(TREE) or not path.startswith(folder + "/"):
                    continue
                listed = True
                files = self._tree_files(folder, digest)
                if files.get(PurePosixPath(path[len(folder) + 1 :])) == sha256:
                    return stage, folder
        if listed:
            raise SignatureError(
                "the file is not the one that its stage's link signs",
                where=path,
                fix="run `dvc checkout --force` to restore it, or `dvc repro` to make it again",
            )
        raise SignatureError(
            "no signed link names this file, so it is not evidence",
            where=path,
            fix="run the stage that makes it under `forebear record`",
        )

    def _tree_files(self, folder: str, digest: str) -> Mapping[PurePosixPath, str]:
        """Files of a directory out that is as signed; empty when it is not."""
        if folder not in self._trees:
            self._trees[folder] = hash_tree(self._root / folder)
        tree = self._trees[folder]
        return tree.files if tree.digest == digest else {}


def _load_link(file: Path, path: str, keys: Mapping[str, PublicKey]) -> tuple[SignedFile, Link]:
    try:
        data = file.read_bytes()
        envelope = parse_envelope(data, where=path)
        link = parse_link(envelope.payload, where=path)
        content = strictjson.parse(envelope.payload, where=path)
    except OSError as error:
        raise EnvironmentFailure(f"cannot read the link: {error.strerror}", where=path) from error
    except FormatError as error:
        raise SignatureError(error.what, where=path, fix=error.fix) from error
    key = keys.get(envelope.keyid)
    if key is None:
        raise SignatureError(
            f"is signed by the key {envelope.keyid[:8]!r}, which is not trusted",
            where=path,
            fix="put the recorder's public key into trust/recorders/ if you trust it",
        )
    try:
        verify_envelope(envelope, key)
    except ForebearError as error:
        raise SignatureError(error.what, where=path, fix=error.fix) from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureError("its payload is no in-toto link", where=path)
    if file.name != f"{link.name}.link":
        raise SignatureError(f"is the link of stage {link.name[:60]!r}", where=path)
    sha256 = hashlib.sha256(data).hexdigest()
    return SignedFile(path, sha256, content, path, sha256), link
