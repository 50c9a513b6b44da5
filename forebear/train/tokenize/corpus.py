"""Reads the corpus as token ids, a batch at a time, and counts how many tokens its text costs.

Nothing here grows with the corpus: a batch of documents is in memory, and running totals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.tokenize.pack import Encoded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ROLES = ("domain", "replay")

_BATCH_DOCUMENTS = 64
_BATCH_BYTES = 1 << 20


@dataclass
class Fertility:
    """Running totals over the documents of one role that were encoded."""

    documents: int = 0
    tokens: int = 0
    words: int = 0
    size_bytes: int = 0

    def add(self, document: Encoded) -> None:
        """Counts one document, its end token not included."""
        self.documents += 1
        self.tokens += len(document.ids)
        self.words += document.n_words
        self.size_bytes += document.size_bytes

    @property
    def per_word(self) -> float:
        """Tokens for a part between white space."""
        return self.tokens / max(1, self.words)

    @property
    def per_byte(self) -> float:
        """Tokens for a byte of UTF-8."""
        return self.tokens / max(1, self.size_bytes)

    def to_json(self) -> dict[str, float]:
        """Tokens per word (white space) and per byte (UTF-8), and what they were measured on."""
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "tokens_per_word": self.per_word,
            "tokens_per_byte": self.per_byte,
        }


@dataclass(frozen=True, slots=True)
class Encoder:
    """A tokenizer as the shards use it.

    Attributes:
        tokenizer: special tokens that stand in a document's text are encoded as plain text, so
            that no document can end itself.
        eos_id: of the token that ends a document.
        data: bytes of ``tokenizer.json``.
    """

    tokenizer: Tokenizer
    eos_id: int
    data: bytes

    @property
    def sha256(self) -> str:
        """Digest of ``tokenizer.json``."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def n_ids(self) -> int:
        """One more than the largest id of any token."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def load_encoder(folder: Path) -> Encoder:
    """The tokenizer of a checkpoint.

    Raises:
        EnvironmentFailure: there is no ``tokenizer.json``.
        FormatError: it does not load, or names no end token.
    """
    file = folder / "tokenizer.json"
    try:
        data = file.read_bytes()
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the tokenizer: {error.strerror}", where=str(file), fix="run base first"
        ) from error
    except ValueError as error:
        raise FormatError(f"is no JSON: {error}", where="tokenizer_config.json") from error
    tokenizer = parse_tokenizer(data, where=str(file))
    end = config.get("eos_token")
    name = end.get("content") if isinstance(end, dict) else end
    eos_id = tokenizer.token_to_id(name) if isinstance(name, str) else None
    if eos_id is None:
        raise FormatError("the tokenizer names no end token (eos_token)", where=str(file))
    return Encoder(tokenizer, eos_id, data)


def parse_tokenizer(data: bytes, *, where: str) -> Tokenizer:
    """The tokenizer in the bytes of a ``tokenizer.json``. Raises FormatError."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises bare Exception for every fault
        raise FormatError(f"cannot load the tokenizer: {error}", where=where) from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def documents(
    file: Path, role: str, tokenizer: Tokenizer, fertility: Fertility | None = None
) -> Iterator[Encoded]:
    """The documents of one corpus file as token ids, in file order, a batch at a time.

    Args:
        file: JSON lines with ``id`` and ``text``.
        role: of its documents.
        tokenizer: encodes the text alone, no special token added.
        fertility: counts each document that is taken.

    Raises:
        EnvironmentFailure: the file cannot be read.
        FormatError: a row has no ``id`` and ``text``.
    """
    for batch in _batches(file):
        encodings = tokenizer.encode_batch([text for _, text in batch], add_special_tokens=False)
        for (name, text), encoding in zip(batch, encodings, strict=True):
            document = Encoded(
                name, role, encoding.ids, len(text.encode()), len(text.split()), text, encoding
            )
            if fertility is not None:
                fertility.add(document)
            yield document


def _batches(file: Path) -> Iterator[list[tuple[str, str]]]:
    """Documents by the handful: at most 64, fewer when they are long."""
    try:
        handle = file.open("rb")
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the corpus: {error.strerror}", where=str(file), fix="run curate first"
        ) from error
    batch: list[tuple[str, str]] = []
    size_bytes = 0
    with handle:
        for number, line in enumerate(handle, 1):
            batch.append(_row(line, f"{file}:{number}"))
            size_bytes += len(line)
            if len(batch) == _BATCH_DOCUMENTS or size_bytes >= _BATCH_BYTES:
                yield batch
                batch, size_bytes = [], 0
    if batch:
        yield batch


def _row(line: bytes, where: str) -> tuple[str, str]:
    row: Any = strictjson.parse(line, where=where)
    name, text = (row.get("id"), row.get("text")) if isinstance(row, dict) else (0, 0)
    if not isinstance(name, str) or not isinstance(text, str):
        raise FormatError("needs id and text", where=where)
    return name, text
