"""The tokenize stage: corpus in, packed shards out, fertility and mix measured on the way.

Documents stream from the corpus in its order, which curate fixed by hash: first those held out
for validation, then those to train on. Nothing is kept in memory but a batch and a sequence.

Source: training page, section tokenize.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from forebear.formats import strictjson
from forebear.train.checkpoint import flush_tree
from forebear.train.metrics import write_json
from forebear.train.tokenize.corpus import ROLES, Encoder, Fertility, documents, load_encoder
from forebear.train.tokenize.extend import Extension, extend_vocabulary, require_loadable
from forebear.train.tokenize.extension import copy_tokenizer, write_rows
from forebear.train.tokenize.pack import Encoded, Packer, fill, mapped_path, smallest_dtype
from forebear.train.tokenize.params import REPLAY_RANGE, TokenizeParams

SPLITS = ("train", "validation_domain", "validation_replay")


def budgets(params: TokenizeParams) -> dict[str, int]:
    """Training tokens per role: whole sequences in all, the share as asked to half a token."""
    wanted = params.domain_tokens / (1 - params.replay_share)
    total = max(1, round(wanted / params.length_tokens)) * params.length_tokens
    replay = round(total * params.replay_share)
    return {"domain": total - replay, "replay": replay}


def build_shards(
    params: TokenizeParams,
    *,
    base: Path,
    corpus: Path,
    shards: Path,
    metrics: Path,
    tokenizer: Path | None = None,
) -> None:
    """Encodes, mixes and packs the corpus, and writes shards, tokenizer and figures.

    Args:
        params: section of the stage.
        base: checkpoint whose tokenizer is used, and extended where the params say so.
        corpus: folder with ``domain.jsonl`` and ``replay.jsonl``.
        shards: folder of the packed sequences.
        metrics: figures.
        tokenizer: folder of the tokenizer that the shards are made with; ``tokenizer`` beside
            the shards when left out.

    Raises:
        ConfigError: the share is outside its range, a role has too few tokens, or the tokenizer
            cannot be extended.
        EnvironmentFailure: corpus or tokenizer is missing.
        FormatError: a row or the tokenizer is malformed.
        RecordError: the extended tokenizer does not keep what it must.
    """
    params.require_range("tokenize.replay_share", params.replay_share, *REPLAY_RANGE)
    started = time.monotonic()
    tokenizer = tokenizer or shards.with_name("tokenizer")
    extension = _extension(params, base, corpus)
    encoder = extension.encoder
    fertility = {role: Fertility() for role in ROLES}
    streams = {
        role: documents(corpus / f"{role}.jsonl", role, encoder.tokenizer, fertility[role])
        for role in ROLES
    }
    with _whole(shards) as packed, _whole(tokenizer) as files:
        _write_tokenizer(extension, base, files)
        packers = _pack(params, packed, streams, encoder)
        (packed / "meta.json").write_bytes(strictjson.dumps(_meta(params, encoder, packers)))
    figures = _figures(params, packers, fertility)
    write_json(metrics, {**figures, "extension": extension.figures})
    n_tokens = sum(one.tokens for one in fertility.values())
    rate = n_tokens / max(1e-9, time.monotonic() - started)
    sys.stderr.write(f"tokenize: {n_tokens} tokens encoded, {rate:.0f} tokens/s\n")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside its final name, flushed and renamed when all has gone well."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        flush_tree(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extension(params: TokenizeParams, base: Path, corpus: Path) -> Extension:
    encoder = load_encoder(base)
    if not params.extend:
        return Extension(encoder, (), {"asked": False, "extended": False, "new_tokens": 0})
    return extend_vocabulary(params, encoder, corpus, _held_tokens(params))


def _write_tokenizer(extension: Extension, base: Path, folder: Path) -> None:
    if not extension.tokens:
        copy_tokenizer(base, folder)
        return
    copy_tokenizer(base, folder, extended=extension.encoder.data)
    require_loadable(folder, extension)
    parts = [(token.number, token.spelling, token.parts) for token in extension.tokens]
    write_rows(base, folder, parts)


def _held_tokens(params: TokenizeParams) -> int:
    return math.ceil(params.validation_tokens / params.length_tokens) * params.length_tokens


def _meta(params: TokenizeParams, encoder: Encoder, packers: dict[str, Packer]) -> dict[str, Any]:
    held = {split.removeprefix("validation_"): packers[split] for split in SPLITS[1:]}
    return {
        "dtype": smallest_dtype(encoder.n_ids),
        "length_tokens": params.length_tokens,
        "vocab_size": encoder.n_ids,
        "eos_id": encoder.eos_id,
        "tokenizer_sha256": encoder.sha256,
        "n_sequences": {split: packers[split].n_sequences for split in SPLITS},
        "train_bytes": packers["train"].size_bytes,
        # with these, losses of two vocabularies compare: nats over labels to bits per byte
        "validation_bytes": {role: packer.size_bytes for role, packer in held.items()},
        "validation_label_bytes": {role: packer.label_bytes for role, packer in held.items()},
    }


def _pack(
    params: TokenizeParams,
    folder: Path,
    streams: dict[str, Iterator[Encoded]],
    encoder: Encoder,
) -> dict[str, Packer]:
    """Fills the three splits, validation first, so that no document is in two of them."""
    held = _held_tokens(params)
    dtype = smallest_dtype(encoder.n_ids)
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
                split, shard, index, params.length_tokens, dtype, encoder.eos_id, split != "train"
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
