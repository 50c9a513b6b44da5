"""Packs token ids into fixed-length sequences and says which document lies where.

Every document ends with the end token, also where it is cut, so the end token alone marks
boundaries. One sequence is held in memory at a time.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError
from forebear.formats import strictjson

if TYPE_CHECKING:
    from tokenizers import Encoding

# Type codes of ``array`` for the two token types.
_CODES = {"uint16": "H", "uint32": "I"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """One document as token ids, without its end token.

    Attributes:
        name: document id in the corpus.
        size_bytes: of its text in UTF-8.
        n_words: parts of its text between white space.
        encoding: the same ids with their places in ``text``.
    """

    name: str
    role: str
    ids: Sequence[int]
    size_bytes: int
    n_words: int
    text: str
    encoding: Encoding

    def bytes_before(self, n_tokens: int) -> int:
        """Bytes of text under the first ``n_tokens`` tokens; a character begun counts whole."""
        if n_tokens <= 0:
            return 0
        if n_tokens >= len(self.ids):
            return self.size_bytes
        return len(self.text[: self.encoding.offsets[n_tokens - 1][1]].encode())


def smallest_dtype(vocabulary: int) -> str:
    """Name of the smallest unsigned type that holds every id below ``vocabulary``."""
    return "uint16" if vocabulary <= 1 << 16 else "uint32"


@dataclass
class Packer:
    """Writes one split's sequences and their index rows.

    Attributes:
        split: name in the index.
        shard: open binary file.
        index: open binary file, shared by the splits.
        tokens: tokens written per role, end tokens included.
        documents: documents begun per role.
        size_bytes: bytes of text packed.
        label_bytes: those of them under tokens that training predicts: neither the first of a
            document nor the first of a sequence. Counted for held-out splits only.
    """

    split: str
    shard: BufferedWriter
    index: BufferedWriter
    length: int
    dtype: str
    eos_id: int
    held_out: bool = False
    tokens: dict[str, int] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    n_sequences: int = 0
    size_bytes: int = 0
    label_bytes: int = 0
    _ids: list[int] = field(default_factory=list)
    _pieces: list[dict[str, Any]] = field(default_factory=list)

    def add(self, document: Encoded, limit: int) -> int:
        """Packs a document and its end token, cut so that at most ``limit`` tokens are written.

        Returns the number of tokens written.
        """
        ids = [*document.ids[: limit - 1], self.eos_id]
        self.documents[document.role] = self.documents.get(document.role, 0) + 1
        self.tokens[document.role] = self.tokens.get(document.role, 0) + len(ids)
        self.size_bytes += document.bytes_before(len(ids) - 1)
        offset = 0
        while offset < len(ids):
            part = ids[offset : offset + self.length - len(self._ids)]
            self._pieces.append(
                {
                    "id": document.name,
                    "start": len(self._ids),
                    "length": len(part),
                    "offset": offset,
                }
            )
            self._ids += part
            if self.held_out:
                end = min(offset + len(part), len(ids) - 1)
                known = document.bytes_before(min(offset + 1, end))
                self.label_bytes += document.bytes_before(end) - known
            offset += len(part)
            if len(self._ids) == self.length:
                self._flush()
        return len(ids)

    def _flush(self) -> None:
        self.shard.write(_little_endian(self._ids, self.dtype))
        row = {"split": self.split, "sequence": self.n_sequences, "documents": self._pieces}
        self.index.write(strictjson.dumps(row))
        self.n_sequences += 1
        self._ids, self._pieces = [], []

    def close(self) -> None:
        """Flushes the shard to disk; every sequence must be whole by now."""
        if self._ids:
            raise ValueError(f"{len(self._ids)} tokens do not fill a sequence")
        self.shard.flush()
        os.fsync(self.shard.fileno())
        self.shard.close()


def _little_endian(ids: Sequence[int], dtype: str) -> bytes:
    import sys

    packed = array(_CODES[dtype], ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def fill(packer: Packer, streams: dict[str, Iterator[Encoded]], budgets: dict[str, int]) -> None:
    """Packs documents until each role's budget of tokens is met exactly.

    The role that is furthest behind its budget comes next, so the mix is even along the way.

    Args:
        packer: of the split.
        streams: documents per role; what is left in them afterwards has not been used.
        budgets: tokens per role, end tokens included.

    Raises:
        ConfigError: a role's documents run out first.
    """
    done = dict.fromkeys(budgets, 0)
    while True:
        open_roles = [role for role in sorted(budgets) if done[role] < budgets[role]]
        if not open_roles:
            return
        role = min(open_roles, key=lambda name: done[name] / budgets[name])
        document = next(streams[role], None)
        if document is None:
            raise ConfigError(
                f"the {role} corpus ran dry: {done[role]} of {budgets[role]} tokens for the "
                f"{packer.split} split",
                where="params.yaml: tokenize",
                fix="lower tokenize.domain_tokens or validation_tokens, or curate more documents",
            )
        done[role] += packer.add(document, budgets[role] - done[role])


def mapped_path(folder: Path, split: str) -> Path:
    """Shard file of a split."""
    return folder / f"{split}.bin"
