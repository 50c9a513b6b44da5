"""The tokenize stage: corpus in, packed shards out, fertility and mix measured on the way.

Documents stream from the corpus in its order, which curate fixed by hash: first those held out
for validation, then those to train on. Nothing is kept in memory but a batch and a sequence.

Source: training page, section tokenize.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.metrics import write_json
from forebear.train.tokenize.pack import Encoded, Packer, fill, mapped_path, smallest_dtype
from forebear.train.tokenize.params import REPLAY_RANGE, TokenizeParams

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ROLES = ("domain", "replay")
SPLITS = ("train", "validation_domain", "validation_replay")

_BATCH = 64


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

    def to_json(self) -> dict[str, float]:
        """Tokens per word (white space) and per byte (UTF-8), and what they were measured on."""
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "tokens_per_word": self.tokens / max(1, self.words),
            "tokens_per_byte": self.tokens / max(1, self.size_bytes),
        }


def load_encoder(checkpoint: Path) -> tuple[Tokenizer, int, str]:
    """The checkpoint's tokenizer, the id of its end token, and the SHA-256 of its file.

    Special tokens that stand in a document's text are encoded as plain text, so that no document
    can end itself.

    Raises:
        EnvironmentFailure: there is no ``tokenizer.json``.
        FormatError: it does not load, or names no end token.
    """
    from tokenizers import Tokenizer

    file = checkpoint / "tokenizer.json"
    try:
        data = file.read_bytes()
        config = json.loads((checkpoint / "tokenizer_config.json").read_bytes())
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the tokenizer: {error.strerror}", where=str(file), fix="run base first"
        ) from error
    except ValueError as error:
        raise FormatError(f"is no JSON: {error}", where="tokenizer_config.json") from error
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises bare Exception for every fault
        raise FormatError(f"cannot load the tokenizer: {error}", where=str(file)) from error
    end = config.get("eos_token")
    name = end.get("content") if isinstance(end, dict) else end
    eos_id = tokenizer.token_to_id(name) if isinstance(name, str) else None
    if eos_id is None:
        raise FormatError("the tokenizer names no end token (eos_token)", where=str(file))
    tokenizer.encode_special_tokens = True
    return tokenizer, eos_id, hashlib.sha256(data).hexdigest()


def documents(
    file: Path, role: str, tokenizer: Tokenizer, fertility: Fertility
) -> Iterator[Encoded]:
    """The documents of one corpus file as token ids, in file order, a batch at a time.

    Raises:
        EnvironmentFailure: the file cannot be read.
        FormatError: a row has no ``id`` and ``text``.
    """
    for batch in _batches(file):
        encodings = tokenizer.encode_batch([text for _, text in batch], add_special_tokens=False)
        for (name, text), encoding in zip(batch, encodings, strict=True):
            document = Encoded(name, role, encoding.ids, len(text.encode()), len(text.split()))
            fertility.add(document)
            yield document


def _batches(file: Path) -> Iterator[list[tuple[str, str]]]:
    try:
        handle = file.open("rb")
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the corpus: {error.strerror}", where=str(file), fix="run curate first"
        ) from error
    with handle:
        number = 0
        while lines := list(islice(handle, _BATCH)):
            batch = []
            for line in lines:
                number += 1
                row = strictjson.parse(line, where=f"{file}:{number}")
                name, text = (row.get("id"), row.get("text")) if isinstance(row, dict) else (0, 0)
                if not isinstance(name, str) or not isinstance(text, str):
                    raise FormatError("needs id and text", where=f"{file}:{number}")
                batch.append((name, text))
            yield batch


def budgets(params: TokenizeParams) -> dict[str, int]:
    """Training tokens per role: whole sequences in all, the share as asked to half a token."""
    wanted = params.domain_tokens / (1 - params.replay_share)
    total = max(1, round(wanted / params.length_tokens)) * params.length_tokens
    replay = round(total * params.replay_share)
    return {"domain": total - replay, "replay": replay}


def build_shards(
    params: TokenizeParams, *, base: Path, corpus: Path, shards: Path, metrics: Path
) -> None:
    """Encodes, mixes and packs the corpus, and writes shards and figures.

    Raises:
        ConfigError: the share is outside its range, or a role has too few tokens.
        EnvironmentFailure: corpus or tokenizer is missing.
        FormatError: a row or the tokenizer is malformed.
    """
    params.require_range("tokenize.replay_share", params.replay_share, *REPLAY_RANGE)
    started = time.monotonic()
    tokenizer, eos_id, digest = load_encoder(base)
    vocabulary = tokenizer.get_vocab_size(with_added_tokens=True)
    fertility = {role: Fertility() for role in ROLES}
    streams = {
        role: documents(corpus / f"{role}.jsonl", role, tokenizer, fertility[role])
        for role in ROLES
    }
    partial = shards.with_name(shards.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    meta: dict[str, Any] = {
        "dtype": smallest_dtype(vocabulary),
        "length_tokens": params.length_tokens,
        "vocab_size": vocabulary,
        "eos_id": eos_id,
        "tokenizer_sha256": digest,
    }
    try:
        packers = _pack(params, partial, streams, meta)
        meta["n_sequences"] = {split: packers[split].n_sequences for split in SPLITS}
        (partial / "meta.json").write_bytes(strictjson.dumps(meta))
        shutil.rmtree(shards, ignore_errors=True)
        partial.rename(shards)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    write_json(metrics, _figures(params, packers, fertility))
    n_tokens = sum(one.tokens for one in fertility.values())
    rate = n_tokens / max(1e-9, time.monotonic() - started)
    sys.stderr.write(f"tokenize: {n_tokens} tokens encoded, {rate:.0f} tokens/s\n")


def _pack(
    params: TokenizeParams,
    folder: Path,
    streams: dict[str, Iterator[Encoded]],
    meta: dict[str, Any],
) -> dict[str, Packer]:
    """Fills the three splits, validation first, so that no document is in two of them."""
    held = math.ceil(params.validation_tokens / params.length_tokens) * params.length_tokens
    wanted = {
        "validation_domain": {"domain": held},
        "validation_replay": {"replay": held},
        "train": {role: n for role, n in budgets(params).items() if n},
    }
    packers = {}
    with ExitStack() as stack:
        index = stack.enter_context((folder / "index.jsonl").open("wb"))
        for split, budget in wanted.items():
            shard = stack.enter_context(mapped_path(folder, split).open("wb"))
            packer = Packer(
                split, shard, index, params.length_tokens, meta["dtype"], meta["eos_id"]
            )
            fill(packer, streams, budget)
            packer.close()
            packers[split] = packer
    return packers


def _figures(
    params: TokenizeParams, packers: dict[str, Packer], fertility: dict[str, Fertility]
) -> dict[str, Any]:
    train = packers["train"].tokens
    total = sum(train.values())
    measured = {role: one.to_json() for role, one in fertility.items()}
    ratio = measured["domain"]["tokens_per_word"] / max(1e-9, measured["replay"]["tokens_per_word"])
    return {
        "fertility": {**measured, "domain_to_replay": ratio},
        "replay_share": {
            "asked": params.replay_share,
            "realised": train.get("replay", 0) / total,
        },
        "tokens": {split: packers[split].tokens for split in SPLITS},
        "documents": {split: packers[split].documents for split in SPLITS},
        "sequences": {split: packers[split].n_sequences for split in SPLITS},
    }
