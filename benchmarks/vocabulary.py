"""What an extended vocabulary gains: ``python -m benchmarks.vocabulary``, after ``dvc repro``.

Two or more runs on the embedded model and corpus: one with the base's vocabulary, one for each
``--min-saved`` with new tokens. All train on the same documents with the same params, so on equal
bytes; an extended run takes fewer steps, since its text is shorter. Shown are the tokens saved on
held-out domain text, and bits per byte of held-out documents before and after training. The same
bytes are predicted from the same context in every run: the first token of the extended run, which
nothing predicts, is left out everywhere. About 3 minutes a run on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.measuring import REPOSITORY, load, table
from forebear.train.cpt_params import CptParams
from forebear.train.tokenize.params import TokenizeParams

MIN_SAVED = (20, 5)
_BATCH_ROWS = 8
_SHARE = {
    "rule": "tokenize.replay_share",
    "reason": "the same replay text beside the same domain text in fewer tokens",
    "by": "the benchmark",
}
_UNWATCHED = {"checkpoint_every_tokens": 10**12, "max_forgetting": 99.0}


@dataclass(frozen=True, slots=True)
class Document:
    """A held-out document in both vocabularies.

    Attributes:
        old: ids of the base's vocabulary, end token included.
        new: ids of the extended one.
        skip: old tokens that the first new one stands for.
        label_bytes: bytes of text after those.
    """

    old: list[int]
    new: list[int]
    skip: int
    label_bytes: int


@dataclass(frozen=True, slots=True)
class Given:
    """What is compared on.

    Attributes:
        base: checkpoint.
        corpus: folder with ``domain.jsonl`` and ``replay.jsonl``.
        scratch: for shards and checkpoints.
        tokenize: section of the params, without ``extend``.
        cpt: section of the params.
    """

    base: Path
    corpus: Path
    scratch: Path
    tokenize: Mapping[str, Any]
    cpt: Mapping[str, Any]


def compare(given: Given, min_saved: Sequence[int] = MIN_SAVED) -> list[dict[str, Any]]:
    """Two rows for each value of ``min_saved_tokens``: the base's vocabulary, and the new one."""
    plain = given.scratch / "plain"
    _shards(given, given.tokenize, plain)
    runs = {value: _fitted(given, value, plain) for value in min_saved}
    seconds = {folder: _train(given, folder) for folder in (plain, *runs.values())}
    rows = []
    for value, folder in runs.items():
        held = {role: _held_out(given, folder, plain, role) for role in ("domain", "replay")}
        # the base is measured on the bytes that each run can be held to, so once a run
        old = _row(given, plain, held, extended=False)
        new = _row(given, folder, held, extended=True)
        for role in held:
            change = new[f"{role}_bpb_after"] / old[f"{role}_bpb_after"] - 1
            new[f"{role}_bpb_change_percent"] = round(100 * change, 2)
        rows += [
            {"vocabulary": "base", **old, "cpt_s": seconds[plain]},
            {"vocabulary": f"saving {value}", **new, "cpt_s": seconds[folder]},
        ]
    return rows


def _shards(given: Given, tokenize: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    from forebear.train.tokenize.work import build_shards

    build_shards(
        TokenizeParams.model_validate(tokenize),
        base=given.base,
        corpus=given.corpus,
        shards=folder / "shards",
        tokenizer=folder / "tokenizer",
        metrics=folder / "metrics.json",
    )
    return _meta(folder)


def _fitted(given: Given, min_saved: int, plain: Path) -> Path:
    """Shards in an extended vocabulary that hold the bytes of the plain ones to a sequence."""
    folder = given.scratch / f"saving-{min_saved}"
    wanted = _meta(plain)["train_bytes"]
    plain_tokens = _figures(plain)["tokens"]["train"]
    domain, replay = float(plain_tokens["domain"]), plain_tokens["replay"]
    for _ in range(3):
        # replay text hardly gets shorter: its tokens stay, so its share rises
        changed = {
            "extend": True,
            "extend_above": 0.0,
            "min_saved_tokens": min_saved,
            "domain_tokens": round(domain),
            "replay_share": replay / (replay + domain),
            "allow": [_SHARE],
        }
        meta = _shards(given, {**given.tokenize, **changed}, folder)
        bytes_per_token = meta["train_bytes"] / (domain + replay)
        missing_tokens = (wanted - meta["train_bytes"]) / bytes_per_token
        if abs(missing_tokens) <= meta["length_tokens"] / 2:
            break
        domain += missing_tokens
    return folder


def _train(given: Given, folder: Path) -> float:
    """Trains the base on the folder's shards; gives the seconds it took."""
    from forebear.train.cpt import train_cpt

    started = time.perf_counter()
    train_cpt(
        CptParams.model_validate({**given.cpt, **_UNWATCHED}),
        base=given.base,
        shards=folder / "shards",
        tokenizer=folder / "tokenizer",
        out=folder / "checkpoint",
        intermediate=folder / "intermediate",
        log=folder / "log.jsonl",
        metrics=folder / "cpt.json",
        curves=folder / "curves.csv",
    )
    return round(time.perf_counter() - started, 1)


def _held_out(given: Given, folder: Path, plain: Path, role: str) -> list[Document]:
    """The documents that neither run trains on, cut to the length of a sequence."""
    from forebear.train.tokenize.corpus import documents, load_encoder

    split = f"validation_{role}"
    n = min(_figures(one)["documents"][split][role] for one in (folder, plain))
    described = folder / "tokenizer" / "extension.json"
    tokens = json.loads(described.read_bytes())["tokens"] if described.exists() else []
    parts = {one["id"]: one["parts"] for one in tokens}
    encoder = load_encoder(folder / "tokenizer")
    length = _meta(folder)["length_tokens"]
    found = []
    for one in islice(documents(given.corpus / f"{role}.jsonl", role, encoder.tokenizer), n):
        new = list(one.ids[: length - 1])
        old = [part for token in new for part in parts.get(token, [token])]
        n_bytes = one.bytes_before(len(new)) - one.bytes_before(1)
        if n_bytes > 0:
            skip = len(parts.get(new[0], [new[0]]))
            end = encoder.eos_id
            found.append(Document([*old, end], [*new, end], skip, n_bytes))
    return found


def _row(
    given: Given, folder: Path, held: Mapping[str, Sequence[Document]], *, extended: bool
) -> dict[str, Any]:
    from forebear.train.checkpoint import load_model
    from forebear.train.tokenize.extension import apply_extension

    figures, meta = _figures(folder), _meta(folder)
    before = load_model(given.base)
    apply_extension(before, folder / "tokenizer")
    models = {"before": before, "after": load_model(folder / "checkpoint")}
    saved = figures["extension"].get("saved", {}).get("held_out_domain", {})
    row: dict[str, Any] = {
        "new_tokens": figures["extension"]["new_tokens"],
        "saved_percent": round(100 * saved.get("saved_share", 0.0), 2),
        "train_bytes": meta["train_bytes"],
        "sequences": meta["n_sequences"]["train"],
    }
    for role, documents in held.items():
        for when, model in models.items():
            bits = _bits_per_byte(model, documents, extended=extended)
            row[f"{role}_bpb_{when}"] = round(bits, 4)
    return {**row, "load": load()}


def _bits_per_byte(model: Any, documents: Sequence[Document], *, extended: bool) -> float:
    """Bits that the model needs for a byte of the documents' text, end tokens included."""
    import torch

    nats = 0.0
    with torch.no_grad():
        for rows in _batches(documents, extended=extended):
            width = max(len(one) for one, _ in rows)
            ids = torch.zeros(len(rows), width, dtype=torch.long)
            mask = torch.zeros_like(ids)
            labels = torch.full_like(ids, -100)
            for at, (one, skip) in enumerate(rows):
                ids[at, : len(one)] = torch.tensor(one)
                mask[at, : len(one)] = 1
                labels[at, skip : len(one)] = torch.tensor(one[skip:])
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            nats += float(
                torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1).float(),
                    labels[:, 1:].flatten(),
                    reduction="sum",
                )
            )
    return nats / math.log(2) / sum(one.label_bytes for one in documents)


def _batches(
    documents: Sequence[Document], *, extended: bool
) -> Iterator[list[tuple[list[int], int]]]:
    """Ids and number of unpredicted tokens, a few documents of like length at a time."""
    rows = sorted(
        ((one.new, 1) if extended else (one.old, one.skip) for one in documents),
        key=lambda row: len(row[0]),
    )
    return (rows[at : at + _BATCH_ROWS] for at in range(0, len(rows), _BATCH_ROWS))


def _meta(folder: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((folder / "shards" / "meta.json").read_bytes())
    return meta


def _figures(folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((folder / "metrics.json").read_bytes())
    return figures


def _sections(domain_tokens: int, validation_tokens: int) -> tuple[dict[str, Any], dict[str, Any]]:
    from ruamel.yaml import YAML

    values = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    sizes = {"domain_tokens": domain_tokens, "validation_tokens": validation_tokens}
    seed = {"seed": values["seed"]}
    return {**seed, **values["tokenize"], **sizes}, {**seed, **values["cpt"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compares on the checkpoint and corpus of the last ``dvc repro``, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vocabulary", description=__doc__)
    parser.add_argument("--base", type=Path, default=REPOSITORY / "data/base/checkpoint")
    parser.add_argument("--corpus", type=Path, default=REPOSITORY / "data/curate/corpus")
    parser.add_argument("--domain-tokens", type=int, default=40_000)
    parser.add_argument("--validation-tokens", type=int, default=6_144)
    parser.add_argument("--min-saved", type=int, nargs="+", default=list(MIN_SAVED))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    asked = parser.parse_args(arguments)
    for folder in (asked.base, asked.corpus):
        if not folder.is_dir():
            parser.error(f"{folder} is not here: run `dvc repro curate base` first")
    tokenize, cpt = _sections(asked.domain_tokens, asked.validation_tokens)
    with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
        given = Given(asked.base, asked.corpus, Path(scratch), tokenize, cpt)
        rows = compare(given, asked.min_saved)
    sys.stdout.write(table([{**rows[-1], **row} for row in rows]) + "\n")
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
