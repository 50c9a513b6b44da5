"""Memory of the tokenize stage by size of its corpus: ``python -m benchmarks.tokenize_memory``.

``[MB…]`` are sizes of the corpus, by default 10, 100 and 1000. Documents are made up and streamed
to disk. Each run is a process of its own, so that its peak memory is its own: one packs as it is,
one extends the vocabulary first, which makes the text so much shorter that more of it is packed.
What memory may not do is grow from size to size. Takes minutes for each 100 MB, and 5 bytes of
disk for a byte of corpus.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.measuring import in_child, load, peak_mib, table
from forebear.formats import strictjson

SIZES_MB = (10, 100, 1000)
_DOCUMENT_WORDS = 60
_WORDS = 20_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_inputs(place: str, n_bytes: int) -> None:
    """A small random base, and a corpus of about so many bytes, a fifth of it replay."""
    from forebear.train.base import BaseParams, build_base

    folder = Path(place)
    section = {
        "source": {"random": {"hidden_size": 16, "layers": 1, "heads": 2, "vocab_size": 2000}},
        "licence": "CC0-1.0",
        "repo": "forebear/random",
    }
    build_base(
        BaseParams.model_validate({"seed": 1, **section}),
        out=folder / "base",
        facts=folder / "base.json",
        metrics=folder / "metrics.json",
    )
    (folder / "corpus").mkdir()
    for role, share in (("domain", 0.8), ("replay", 0.2)):
        _write_role(folder / "corpus" / f"{role}.jsonl", role, round(n_bytes * share))


def _write_role(file: Path, role: str, n_bytes: int) -> None:
    rng = random.Random(role)  # noqa: S311  # made-up text, no secret
    words = ["".join(rng.choices(_LETTERS, k=rng.randint(2, 12))) for _ in range(_WORDS)]
    weights = [1 / (rank + 1) for rank in range(_WORDS)]  # as in real text: few words, often
    written = number = 0
    with file.open("wb") as handle:
        while written < n_bytes:
            text = " ".join(rng.choices(words, weights, k=_DOCUMENT_WORDS))
            written += handle.write(strictjson.dumps({"id": f"{role}:{number}", "text": text}))
            number += 1


def run(place: str, extend: int) -> dict[str, Any]:
    """Packs the corpus at ``place``; figures of this process."""
    from forebear.train.tokenize.params import TokenizeParams
    from forebear.train.tokenize.work import build_shards

    folder = Path(place)
    started, cpu = time.perf_counter(), time.process_time()
    build_shards(
        TokenizeParams(
            seed=1,
            length_tokens=1024,
            replay_share=0.15,
            domain_tokens=_domain_tokens(folder),
            validation_tokens=4096,
            extend=bool(extend),
            extend_above=0.0,
            max_new_tokens=500,
            learn_bytes=4_000_000,
        ),
        base=folder / "base",
        corpus=folder / "corpus",
        shards=folder / f"shards-{extend}",
        metrics=folder / f"metrics-{extend}.json",
        tokenizer=folder / f"tokenizer-{extend}",
    )
    figures = json.loads((folder / f"metrics-{extend}.json").read_bytes())
    n_tokens = sum(sum(one.values()) for one in figures["tokens"].values())
    wall_s = time.perf_counter() - started
    return {
        "packed_tokens": n_tokens,
        "new_tokens": figures["extension"]["new_tokens"],
        "peak_mib": peak_mib(),
        "wall_s": round(wall_s, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "tokens_per_s": round(n_tokens / wall_s),
    }


def _domain_tokens(folder: Path) -> int:
    """Four tenths of the domain corpus in the base's tokens, told from its beginning."""
    from forebear.train.tokenize.corpus import documents, load_encoder

    file = folder / "corpus" / "domain.jsonl"
    first = list(islice(documents(file, "domain", load_encoder(folder / "base").tokenizer), 200))
    size_bytes = sum(len(strictjson.dumps({"id": one.name, "text": one.text})) for one in first)
    n_tokens = sum(len(one.ids) + 1 for one in first)
    return round(0.4 * n_tokens * file.stat().st_size / size_bytes)


def curve(
    sizes_mb: Sequence[float] = SIZES_MB, extend: Sequence[bool] = (False, True)
) -> list[dict[str, Any]]:
    """Figures for each size, plain and with an extended vocabulary."""
    module = "benchmarks.tokenize_memory"
    rows = []
    for size_mb in sizes_mb:
        with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
            # a child too: what this process holds would count as its children's peak
            in_child(module, "write_inputs", scratch, round(size_mb * 1e6))
            rows += [
                {
                    "corpus_mb": size_mb,
                    "extend": wish,
                    **in_child(module, "run", scratch, int(wish)),
                    "load": load(),
                }
                for wish in extend
            ]
    return rows


def main() -> None:
    """Prints the curve and writes it as JSON to the file named by ``--json``."""
    words = sys.argv[1:]
    file = Path(words.pop(words.index("--json") + 1)) if "--json" in words else None
    sizes = [float(word) for word in words if word != "--json"]
    rows = curve(sizes or SIZES_MB)
    print(table(rows))
    if file is not None:
        file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
