"""Files that stages wrote, read for a check that looks into them.

A file counts only as the product of a stage whose link names its digest. One that does not lie
here (a release carries what it ships, no more) is absent, which is no fault: the check that wanted
it is unchecked and says so.

Rests on: provenance page, sections 3 and 6.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from forebear.errors import FormatError, SignatureError
from forebear.evidence.disk import FILE, read_regular
from forebear.evidence.store import MAX_METADATA_BYTES, Evidence, SignedLink
from forebear.formats import strictjson
from forebear.formats.layout import SOURCE
from forebear.formats.link import TREE


class Absent(Exception):  # noqa: N818  # no error: nothing is wrong, something is not here
    """A signed file that does not lie here.

    Args:
        path: the file.
        digest: what its stage's link says about it.
    """

    def __init__(self, path: str, digest: str) -> None:
        super().__init__(path)
        self.path = path
        self.digest = digest

    def __str__(self) -> str:
        return f"{self.path} (sha256 {self.digest:.12}…) is not here: it is not shipped"


@dataclass(frozen=True, slots=True)
class Product:
    """A file as its stage's link names it."""

    path: str
    digest: str
    signed: SignedLink


def find_product(evidence: Evidence, path: str) -> Product:
    """The product ``path``, of a stage or of the owner's ``source``.

    Raises:
        SignatureError: no stage's link names it.
    """
    stage = evidence.pipeline.producer(path)
    signed = evidence.links.get(SOURCE if stage is None else stage.name)
    digest = signed.link.products.get(path) if signed is not None else None
    if signed is None or digest is None:
        raise SignatureError("no stage's link names this file, so it is no evidence", path)
    return Product(path, digest, signed)


def read_product(evidence: Evidence, path: str) -> bytes:
    """Bytes of the product ``path``, as its stage's link signs them.

    Raises:
        Absent: it does not lie here.
        SignatureError: no stage's link names it, or its bytes are others.
        FormatError: it is longer than what is read.
    """
    product = find_product(evidence, path)
    entries = evidence.out_entries(path) or {}
    if entries.get(path) != FILE:
        raise Absent(path, product.digest)
    data = read_regular(evidence.place(path), where=path, max_bytes=MAX_METADATA_BYTES)
    if hashlib.sha256(data).hexdigest() != product.digest:
        raise SignatureError(
            f"is not the file that stage {product.signed.stage!r} wrote", where=path
        )
    return data


def tree_digest(evidence: Evidence, name: str) -> str | None:
    """Digest of ``tree:<out>`` as the link of the stage that wrote the out has it."""
    stage = evidence.pipeline.producer(name.removeprefix(TREE))
    signed = evidence.links.get(stage.name) if stage is not None else None
    return None if signed is None else signed.link.products.get(name)


def signed_params(signed: SignedLink) -> dict[str, object]:
    """The params that a stage ran with, as its link shows them (C6 holds them to their digest).

    Raises:
        FormatError: the link shows none.
    """
    record = signed.link.byproducts.get("forebear")
    text = record.get("params_json") if isinstance(record, dict) else None
    value = strictjson.parse(text.encode(), where=signed.path) if isinstance(text, str) else None
    if not isinstance(value, dict):
        raise FormatError("shows no params", signed.path)
    return value
