"""How many tokens a tokenizer needs for the user's own text: the cost of a language, measured."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from forebear.errors import FormatError, MissingExtra
from forebear.planning.facts import ModelFacts, read_bytes


@dataclass(frozen=True, slots=True)
class Fertility:
    """Tokens for each word and for each byte of UTF-8.

    Words are parted at white space, so for scripts that write none compare by bytes.
    """

    tokens: int
    words: int
    size_bytes: int

    @property
    def per_word(self) -> float:
        """Tokens for a word."""
        return self.tokens / max(1, self.words)

    @property
    def per_byte(self) -> float:
        """Tokens for a byte."""
        return self.tokens / max(1, self.size_bytes)


def read_text(file: Path) -> str:
    """The user's text.

    Raises:
        EnvironmentFailure: it cannot be read.
        FormatError: it is no UTF-8, or holds no word.
    """
    try:
        text = read_bytes(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"is no UTF-8 at byte {error.start}", str(file)) from error
    if not text.strip():
        raise FormatError(
            "holds no word", str(file), "give text of the kind that you will train on"
        )
    return text


def measure_fertility(tokenizer: Path, text: str) -> Fertility:
    """Fertility of a ``tokenizer.json`` on ``text``, line by line, without special tokens.

    Raises:
        MissingExtra: the library is not installed.
        FormatError: the file is no tokenizer.
    """
    data = read_bytes(tokenizer)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("train", "measuring fertility") from None
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        loaded = Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # the library raises nothing more exact
        raise FormatError(
            f"is no tokenizer: {str(error)[:120]}", str(tokenizer), "give its tokenizer.json"
        ) from error
    lines = [line for line in text.splitlines() if line.strip()]
    encoded = loaded.encode_batch(lines, add_special_tokens=False)
    return Fertility(
        tokens=sum(len(one.ids) for one in encoded),
        words=sum(len(line.split()) for line in lines),
        size_bytes=sum(len(line.encode()) for line in lines),
    )


def tokenizers_at_hand(table: Iterable[ModelFacts], repository: Path) -> dict[str, Path]:
    """Tokenizer files on this machine, by the model's name: nothing is fetched.

    Looked for in ``repository`` (the base that its pipeline has built) and in the hub's cache.
    """
    cache = _hub_cache()
    built = _built_base(repository)
    found = {}
    for facts in table:
        if facts.repo == built:
            found[facts.name] = repository / "data/base/checkpoint/tokenizer.json"
            continue
        folder = cache / f"models--{facts.repo.replace('/', '--')}" / "snapshots"
        files = sorted(folder.glob("*/tokenizer.json"))
        if files:
            found[facts.name] = files[-1]
    return found


def _hub_cache() -> Path:
    """Where the hub's client keeps what it fetched (its own environment variables)."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def _built_base(repository: Path) -> str | None:
    folder = repository / "data" / "base"
    if not (folder / "checkpoint" / "tokenizer.json").is_file():
        return None
    try:
        facts = json.loads((folder / "base.json").read_bytes())
    except (OSError, ValueError):
        return None
    repo = facts.get("repo") if isinstance(facts, dict) else None
    return repo if isinstance(repo, str) else None
