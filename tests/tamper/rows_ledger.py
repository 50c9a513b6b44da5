"""Rows 69 to 71: what can be done to the ledger of a release that ships its rows.

``CHANGES`` are made in a packed release. ``LIES`` are made before the stage's link is signed, so
that an honest owner signs over them and only a check that reads the rows can see it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forebear.formats import merkle, strictjson
from forebear.ledger import LedgerRow, descriptor, document_key, parse_intake, parse_kept
from forebear.ledger.build import FIRST_LEAF, LAST_LEAF, leaf_data, render_row
from tests.support.full_release import LEDGER

KEPT, INTAKE, ROOT = (f"{LEDGER}/{name}" for name in ("kept.jsonl", "intake.jsonl", "root.json"))
Change = Callable[[Path], None]


def lines_of(root: Path, path: str) -> list[bytes]:
    """Lines of a rows file below ``root``."""
    return (root / path).read_bytes().splitlines(keepends=True)


def remove_a_document(root: Path) -> None:
    """Row 69, from the ledger."""
    (root / KEPT).write_bytes(b"".join(lines_of(root, KEPT)[1:]))


def remove_a_document_read(root: Path) -> None:
    """Row 69, from the other tree."""
    (root / INTAKE).write_bytes(b"".join(lines_of(root, INTAKE)[:-1]))


def reorder(root: Path) -> None:
    """Row 70."""
    found = lines_of(root, KEPT)
    (root / KEPT).write_bytes(b"".join([found[1], found[0], *found[2:]]))


def duplicate(root: Path) -> None:
    """Row 70."""
    found = lines_of(root, KEPT)
    (root / KEPT).write_bytes(b"".join([found[0], *found]))


def substitute_the_root(root: Path) -> None:
    """Row 71: the root of a ledger that holds one document more, true in itself."""
    row = LedgerRow(document_key(b"planted"), 7, "MIT", "s", "domain")
    kept = parse_kept((root / KEPT).read_bytes(), where=KEPT)
    more = sorted([*kept, row], key=lambda one: one.key)
    intake = parse_intake((root / INTAKE).read_bytes(), where=INTAKE)
    (root / ROOT).write_bytes(strictjson.dumps(descriptor(more, intake)))


def substitute_root_and_rows(root: Path) -> None:
    """Row 71: a whole other ledger, true in itself."""
    substitute_the_root(root)
    row = LedgerRow(document_key(b"planted"), 7, "MIT", "s", "domain")
    more = sorted(
        [*lines_of(root, KEPT), render_row(row)], key=lambda line: line.split(b'"key"')[1]
    )
    (root / KEPT).write_bytes(b"".join(more))


def relicense(root: Path) -> None:
    """A label changed, the document kept."""
    found = lines_of(root, KEPT)
    changed = found[0].replace(b'"license":"', b'"license":"X')
    (root / KEPT).write_bytes(b"".join([changed, *found[1:]]))


def reorder_under_its_own_root(root: Path) -> None:
    """Row 70 as a thorough liar does it: the root is that of the leaves in the wrong order."""
    reorder(root)
    rows = [parse_kept(line, where=KEPT)[0] for line in lines_of(root, KEPT)]
    leaves = [merkle.leaf_hash(one) for one in (FIRST_LEAF, *map(leaf_data, rows), LAST_LEAF)]
    value = strictjson.parse((root / ROOT).read_bytes(), where=ROOT)
    value["kept"]["root"] = merkle.root(leaves).hex()
    (root / ROOT).write_bytes(strictjson.dumps(value))


def miscount(root: Path) -> None:
    """Counts that are not those of the rows."""
    value = strictjson.parse((root / ROOT).read_bytes(), where=ROOT)
    value["intake"]["copies"] += 1
    (root / ROOT).write_bytes(strictjson.dumps(value))


CHANGES: dict[str, Change] = {
    "69a": remove_a_document,
    "69b": remove_a_document_read,
    "70a": reorder,
    "70b": duplicate,
    "71a": substitute_the_root,
    "71b": substitute_root_and_rows,
    "71c": relicense,
}
LIES: dict[str, Change] = {
    "69": remove_a_document,
    "70a": reorder,
    "70b": duplicate,
    "70c": reorder_under_its_own_root,
    "71a": substitute_the_root,
    "71b": relicense,
    "71c": miscount,
}
