"""The chain of stage links, checked before the owner signs anything.

Each link must be signed by a known recorder, describe the command and params as resolved now, read
what its producers wrote, and have written what lies on disk. Every fault is gathered; the answer to
nearly all of them is ``dvc repro``.

Rests on: provenance page, sections 3, 4 and 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from forebear.errors import ForebearError, RecordError
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.layout import LINKS
from forebear.formats.link import (
    CMD,
    PARAMS,
    PAYLOAD_TYPE,
    TREE,
    Link,
    command_digest,
    params_digest,
    parse_link,
)
from forebear.hashing.digest import tree_digest
from forebear.pipeline import Pipeline, Stage, inner_argv, link_path
from forebear.signing.keyring import load_recorders
from forebear.signing.keys import PublicKey
from forebear.signing.signer import verify_envelope

__all__ = ["SignedLink", "load_recorders", "require_chain"]

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class SignedLink:
    """One stage's link, its signature verified.

    Attributes:
        stage: of the pipeline as resolved now.
        data: the file, as it is shipped.
        link: what it says.
        keyid: of the recorder that signed it.
    """

    stage: Stage
    data: bytes
    link: Link
    keyid: str

    @property
    def record(self) -> Mapping[str, Any]:
        """``byproducts.forebear``; empty when the link has none."""
        found = self.link.byproducts.get("forebear")
        return found if isinstance(found, dict) else {}


def require_chain(  # noqa: PLR0913  # what a chain is judged by
    root: Path,
    pipeline: Pipeline,
    stages: Sequence[Stage],
    recorders: Sequence[PublicKey],
    *,
    source: Mapping[str, str],
    disk: Mapping[str, str],
) -> tuple[SignedLink, ...]:
    """The links of ``stages``, in their order, when the chain holds.

    Args:
        root: the DVC root.
        pipeline: completed by ``with_sources``.
        stages: every stage but ``attest``, producers first.
        recorders: keys that may have signed.
        source: digests of the source artifacts.
        disk: digests of the outs that lie on disk.

    Raises:
        RecordError: it does not; stage and file of each fault, and how to mend it.
    """
    faults: list[str] = []
    links = []
    for stage in stages:
        try:
            links.append(_load(root, stage, recorders))
        except ForebearError as error:
            faults.append(f"{stage.name}: {link_path(stage)}: {error.what}")
    if not faults:
        known = dict(source)
        for signed in links:
            known.update(signed.link.products)
        for signed in links:
            faults += _faults(signed, pipeline, known, disk)
    if faults:
        shown = [*faults[:_SHOWN], *([f"and {len(faults) - _SHOWN} more"] * (len(faults) > _SHOWN))]
        raise RecordError(
            "the chain does not hold, so nothing was signed\n"
            + "\n".join(f"  {fault}" for fault in shown),
            where="attest",
            fix="dvc repro, which runs again what changed; after `dvc commit -f` or a hand edit, "
            "dvc repro --force --single-item STAGE",
        )
    return tuple(links)


def _load(root: Path, stage: Stage, recorders: Sequence[PublicKey]) -> SignedLink:
    path = link_path(stage)
    try:
        data = (root / path).read_bytes()
    except OSError as error:
        raise RecordError(f"there is no link: {error.strerror}", where=path) from error
    envelope = parse_envelope(data, where=path)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise RecordError("the payload is no link", where=path)
    key = next((key for key in recorders if key.keyid == envelope.keyid), None)
    if key is None:
        raise RecordError(
            f"is signed by key {envelope.keyid:.8}, which is no known recorder "
            "(trust/recorders/*.pub)",
            where=path,
        )
    verify_envelope(envelope, key)
    return SignedLink(stage, data, parse_link(envelope.payload, where=path), key.keyid)


def _faults(
    signed: SignedLink, pipeline: Pipeline, known: Mapping[str, str], disk: Mapping[str, str]
) -> Iterator[str]:
    stage, link = signed.stage, signed.link
    for fault in _own_faults(signed):
        yield f"{stage.name}: {fault}"
    expected = {
        f"{CMD}{stage.name}": command_digest(inner_argv(stage)),
        f"{PARAMS}{stage.name}": params_digest(stage.params),
    }
    for dep in stage.deps:
        if not dep.startswith(LINKS):
            expected.update(_below(dep, known))
        elif dep not in link.materials:
            yield f"{stage.name}: {dep} is a dep that the link does not name"
    read = {name: digest for name, digest in link.materials.items() if not name.startswith(LINKS)}
    for name in _differing(read, expected):
        producer = pipeline.producer(name.removeprefix(TREE))
        wrote = f"'{producer.name}' wrote" if producer else "is in the working tree"
        yield f"{stage.name}: {name} is not what {wrote}"
    for fault in _product_faults(signed, disk):
        yield f"{stage.name}: {fault}"


def _product_faults(signed: SignedLink, disk: Mapping[str, str]) -> Iterator[str]:
    products = signed.link.products
    declared: set[str] = set()
    for out in signed.stage.outs:
        if out.path == link_path(signed.stage):
            continue
        written = _below(out.path, products)
        if not written:
            yield f"{out.path} is an out that the link does not name"
        declared.update(written)
        on_disk = _below(out.path, disk)
        for name in _differing(on_disk, written) if on_disk else ():
            yield f"{name} on disk is not what the stage wrote"
    for name in sorted(products.keys() - declared):
        yield f"{name} is a product that dvc.yaml does not declare"


def _own_faults(signed: SignedLink) -> Iterator[str]:
    stage, link = signed.stage, signed.link
    if link.name != stage.name:
        yield f"the link is that of stage {link.name!r}"
    if link.byproducts.get("return-value") != 0:
        yield f"the command returned {link.byproducts.get('return-value')!r}"
    if link.command != inner_argv(stage):
        yield "the command is not the one that dvc.yaml declares now"
    text = signed.record.get("params_json")
    if text != strictjson.canonical(dict(stage.params)).decode():
        yield "the params are not the ones that params.yaml holds now"


def _below(path: str, digests: Mapping[str, str]) -> dict[str, str]:
    """Artifacts of a declared file or folder; a folder that spans several outs gets its tree."""
    if path in digests:
        return {path: digests[path]}
    files = {name: digest for name, digest in digests.items() if name.startswith(f"{path}/")}
    tree = digests.get(f"{TREE}{path}")
    if tree is None and files:
        tree = tree_digest(
            {PurePosixPath(name[len(path) + 1 :]): digest for name, digest in files.items()}
        )
    return files if tree is None else {f"{TREE}{path}": tree, **files}


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Names with different digests, or that only one side has; files before their trees."""
    names: Iterable[str] = (
        name for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    )
    return sorted(names, key=lambda name: (name.startswith(TREE), name))
