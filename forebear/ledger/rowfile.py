"""One tree's rows on disk (``kept.jsonl``, ``intake.jsonl``): streamed once, then read in places.

A scan reads every line, holds the order, and keeps one hash and one offset for each 512 leaves;
with that index a row or a proof costs one block of the file, however long it is. An index may be
kept beside the rows (``kept.index``); it is a shortcut, never evidence: who uses one compares the
root that it gives. Refuses a line that is not what ``render_rows`` writes, rows out of order, and
anything that is no regular file.

Rests on: provenance page, section 9.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from array import array
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import merkle, strictjson
from forebear.ledger.build import (
    FIRST_LEAF,
    LAST_LEAF,
    VERSION,
    IntakeRow,
    LedgerRow,
    Row,
    leaf_data,
    parse_row,
)

Tree = Literal["kept", "intake"]
TREES: tuple[Tree, ...] = ("intake", "kept")
ROOT_FILE = "root.json"

INDEX_SCHEMA = "forebear.ledger-index/v1"
_MAX_LINE_BYTES = 1 << 20
_ROW_TAG = b"\x00" + VERSION.encode() + b"\x00"

# One line, cut where the digest of its metadata wants it cut; what is left open is checked once
# per different text. Five times faster than a parser, and as strict.
_NUMBERS = rb'(\{"bytes":(?:0|[1-9]\d{0,15})(?:,"copies":(?:[2-9]|[1-9]\d{1,15}))?)'
_KEY = rb',"key":"([0-9a-f]{64})"'
_TEXT = rb'"(?:[^"\\\x00-\x1f]|\\.)+"'
_FATE = rb'(,"fate":"(?:kept:[0-9a-f]{64}|dropped:(?:[^"\\\x00-\x1f]|\\.)+)")'
_LINES: dict[Tree, re.Pattern[bytes]] = {
    "kept": re.compile(
        _NUMBERS + b"()" + _KEY + b'(,"license":' + _TEXT + b',"source":' + _TEXT
        + b',"split":' + _TEXT + rb"\})\n"
    ),
    "intake": re.compile(_NUMBERS + _FATE + _KEY + b'(,"source":' + _TEXT + rb"\})\n"),
}  # fmt: skip
# A line with larger numbers takes the slow way, which looks at their size.
_SHORT_NUMBERS = 24


@dataclass(frozen=True)
class Index:
    """What one pass over the rows leaves.

    Attributes:
        leaves: rows and the two fixed leaves.
        copies: of all documents.
        rows_bytes: length of the file.
        offsets: for each block of leaves, where the file has the first row of it.
        hashes: for each block of leaves, its root.
        digest: SHA-256 of the file; empty when the index was read from disk.
    """

    leaves: int
    copies: int
    rows_bytes: int
    offsets: array[int]
    hashes: tuple[bytes, ...]
    digest: str = ""

    @cached_property
    def levels(self) -> list[list[bytes]]:
        """Levels of the tree from the blocks' roots upwards."""
        return merkle.levels(self.hashes)

    @property
    def root(self) -> str:
        """Root of the tree, hex."""
        return self.levels[-1][0].hex()

    def describe(self) -> dict[str, int | str]:
        """What ``root.json`` says of the tree."""
        return {
            "copies": self.copies,
            "documents": self.leaves - 2,
            "leaves": self.leaves,
            "root": self.root,
        }

    def to_bytes(self) -> bytes:
        """The index as a file: one line of JSON, the offsets, the hashes."""
        head = {
            "schema": INDEX_SCHEMA,
            "leaves": self.leaves,
            "copies": self.copies,
            "rows_bytes": self.rows_bytes,
        }
        offsets = array("Q", self.offsets)
        if sys.byteorder == "big":
            offsets.byteswap()
        return strictjson.dumps(head) + offsets.tobytes() + b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Index:
        """The index that :meth:`to_bytes` wrote.

        Raises:
            FormatError: it is any other file.
        """
        head, _, body = data.partition(b"\n")
        value = strictjson.parse_canonical(head + b"\n", where=where)
        if not isinstance(value, dict) or value.get("schema") != INDEX_SCHEMA:
            raise FormatError("is no ledger index", where, "delete it; it is made anew")
        leaves, copies, rows_bytes = (
            value.get(name) for name in ("leaves", "copies", "rows_bytes")
        )
        if type(leaves) is not int or type(copies) is not int or type(rows_bytes) is not int:
            raise FormatError("is no ledger index", where, "delete it; it is made anew")
        n_blocks = -(-leaves // merkle.BLOCK)
        if leaves < 2 or len(body) != 40 * n_blocks:  # an offset and a hash
            raise FormatError("is cut short", where, "delete it; it is made anew")
        offsets = array("Q", body[: 8 * n_blocks])
        if sys.byteorder == "big":
            offsets.byteswap()
        rest = body[8 * n_blocks :]
        hashes = tuple(rest[place : place + 32] for place in range(0, len(rest), 32))
        return cls(leaves, copies, rows_bytes, offsets, hashes)


class Line(NamedTuple):  # a frozen dataclass costs a microsecond more, a million times
    """One line of a rows file.

    Attributes:
        key: hex, as bytes.
        leaf: its leaf hash.
        copies: how often the document occurs.
        raw: the whole line.
    """

    key: bytes
    leaf: bytes
    copies: int
    raw: bytes


def scan(file: Path, tree: Tree, *, where: str = "") -> Index:
    """Index of a rows file, every line read, its order held.

    Raises:
        FormatError: a line is not what ``render_rows`` writes, or stands out of order.
        EnvironmentFailure: the file cannot be read, or is no regular file.
    """
    with open_regular(file) as stream:
        raws = iter(partial(stream.readline, _MAX_LINE_BYTES), b"")
        return index_lines(raws, tree, where=where or str(file))


def index_lines(raws: Iterable[bytes], tree: Tree, *, where: str) -> Index:
    """As :func:`scan`, for lines that come one by one. Raises FormatError."""
    digest = sha256()
    leaves = [merkle.leaf_hash(FIRST_LEAF)]
    hashes: list[bytes] = []
    offsets = array("Q", [0])
    copies = size_bytes = 0
    for line in read_lines(raws, tree, where=where):
        if len(leaves) == merkle.BLOCK:
            hashes.append(merkle.root(leaves))
            offsets.append(size_bytes)
            leaves.clear()
        leaves.append(line.leaf)
        copies += line.copies
        size_bytes += len(line.raw)
        digest.update(line.raw)
    if len(leaves) == merkle.BLOCK:
        hashes.append(merkle.root(leaves))
        offsets.append(size_bytes)
        leaves.clear()
    leaves.append(merkle.leaf_hash(LAST_LEAF))
    n_leaves = len(hashes) * merkle.BLOCK + len(leaves)
    hashes.append(merkle.root(leaves))
    return Index(n_leaves, copies, size_bytes, offsets, tuple(hashes), digest.hexdigest())


def read_lines(raws: Iterable[bytes], tree: Tree, *, where: str) -> Iterator[Line]:
    """Lines of a rows file, strictly ascending by key.

    Raises:
        FormatError: a line is not what ``render_rows`` writes, or stands out of order.
    """
    last = b""
    for number, raw in enumerate(raws, 1):
        line = parse_line(raw, tree, where=where, number=number)
        if line.key <= last:
            raise FormatError("rows must be strictly ascending by key", f"{where}: line {number}")
        last = line.key
        yield line


def parse_line(raw: bytes, tree: Tree, *, where: str, number: int = 0) -> Line:
    """One line of a rows file.

    Raises:
        FormatError: it is not what ``render_rows`` writes.
    """
    match = _LINES[tree].fullmatch(raw)
    if match is not None:
        numbers, fate, key, rest = match.groups()
        if len(numbers) <= _SHORT_NUMBERS and _is_sound(rest) and _is_fate(fate):
            leaf = sha256(_ROW_TAG + unhexlify(key) + sha256(numbers + fate + rest).digest())
            copies = int(numbers.rpartition(b":")[2]) if b"c" in numbers else 1
            return Line(key, leaf.digest(), copies, raw)
    # slow, exact, and the one that knows what to say
    row = row_of(raw, tree, where=f"{where}: line {number}")
    return Line(row.key.encode(), merkle.leaf_hash(leaf_data(row)), row.copies, raw)


def row_of(raw: bytes, tree: Tree, *, where: str) -> Row:
    """The row that a line holds. Raises FormatError."""
    if tree == "kept":
        return parse_row(raw, LedgerRow, where=where)
    return parse_row(raw, IntakeRow, where=where)


def _is_fate(fate: bytes) -> bool:
    return not fate or fate.startswith(b',"fate":"kept:') or _is_sound_fate(fate)


@lru_cache(maxsize=4096)
def _is_sound_fate(fate: bytes) -> bool:
    return _passes(b'{"bytes":0%b,"key":"%b","source":"s"}\n' % (fate, b"0" * 64), "intake")


@lru_cache(maxsize=4096)
def _is_sound(rest: bytes) -> bool:
    """Whether the texts after the key are canonical and of the right kind."""
    if rest.startswith(b',"license"'):
        return _passes(b'{"bytes":0,"key":"%b"%b\n' % (b"0" * 64, rest), "kept")
    return _passes(b'{"bytes":0,"fate":"dropped:x","key":"%b"%b\n' % (b"0" * 64, rest), "intake")


def _passes(line: bytes, tree: Tree) -> bool:
    try:
        row_of(line, tree, where="")
    except FormatError:
        return False
    return True


def open_regular(file: Path, *, buffer_bytes: int = 1 << 18) -> BinaryIO:
    """The regular file, opened without following a link and without blocking on a FIFO.

    Raises:
        EnvironmentFailure: it cannot be opened, or is something else.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be read: {(error.strerror or 'failed').lower()}", str(file)
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise EnvironmentFailure("is no regular file", str(file))
    return os.fdopen(handle, "rb", buffering=buffer_bytes)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a tree with its proof.

    Attributes:
        row: the document's row; None for the two fixed leaves at the ends.
        index: place among the leaves.
        hashes: sibling hashes upwards, hex.
    """

    row: Row | None
    index: int
    hashes: tuple[str, ...]


class RowFile:
    """A rows file opened with its index; answers by key.

    Attributes:
        tree: which of the two trees.
        index: of the file.
    Raises:
        FormatError: the index is of another file.
        EnvironmentFailure: the file cannot be read.
    """

    def __init__(self, file: Path, tree: Tree, index: Index) -> None:
        self.tree, self.index = tree, index
        self._where = str(file)
        self._stream = open_regular(file, buffer_bytes=1 << 12)  # every search jumps
        self._block: tuple[int, list[Line]] = (-1, [])
        if os.fstat(self._stream.fileno()).st_size != index.rows_bytes:
            self.close()
            raise FormatError("the index is of other rows", str(file), "delete the .index file")

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def find(self, key: str) -> tuple[int, bool]:
        """Leaf index of the row with ``key``, and True; else that of the leaf right of it."""
        wanted = key.encode()
        low, high = 0, len(self.index.hashes) - 1
        while low < high:  # the last block whose first row is not right of the key
            middle = (low + high + 1) // 2
            first = self._first_key(middle)
            if first is not None and first <= wanted:
                low = middle
            else:
                high = middle - 1
        lines = self._lines(low)
        place = next((n for n, line in enumerate(lines) if line.key >= wanted), len(lines))
        index = max(1, low * merkle.BLOCK) + place
        return index, place < len(lines) and lines[place].key == wanted

    def leaf(self, index: int) -> Leaf:
        """The leaf at ``index`` with its proof."""
        block, place = divmod(index, merkle.BLOCK)
        below = merkle.inclusion_proof(self._leaves(block), place)
        above = merkle.path(self.index.levels, block)
        hashes = tuple(node.hex() for node in (*below, *above))
        if index in {0, self.index.leaves - 1}:
            return Leaf(None, index, hashes)
        line = self._lines(block)[place - (block == 0)]
        return Leaf(row_of(line.raw, self.tree, where=self._where), index, hashes)

    def _leaves(self, block: int) -> list[bytes]:
        leaves = [line.leaf for line in self._lines(block)]
        if block == 0:
            leaves.insert(0, merkle.leaf_hash(FIRST_LEAF))
        if block == len(self.index.hashes) - 1:
            leaves.append(merkle.leaf_hash(LAST_LEAF))
        return leaves

    def _first_key(self, block: int) -> bytes | None:
        """Key of the first row of a block; None when it holds the last leaf alone."""
        self._stream.seek(self.index.offsets[block])
        raw = self._stream.readline(_MAX_LINE_BYTES)
        return parse_line(raw, self.tree, where=self._where).key if raw else None

    def _lines(self, block: int) -> list[Line]:
        if self._block[0] != block:
            last = block == len(self.index.hashes) - 1
            end = self.index.rows_bytes if last else self.index.offsets[block + 1]
            start = self.index.offsets[block]
            if not 0 <= start <= end <= self.index.rows_bytes:
                raise FormatError("the index is of other rows", self._where)
            self._stream.seek(start)
            raw = self._stream.read(end - start).splitlines(keepends=True)
            lines = [parse_line(one, self.tree, where=self._where) for one in raw]
            self._block = (block, lines)
        return self._block[1]
