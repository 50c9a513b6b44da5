"""Decides whether the vocabulary is extended, learns the tokens, and proves what they do.

The first documents of the domain are never learned on: they cover the validation split that will
be packed, so that tokens saved there are tokens saved on held-out text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from forebear.errors import ConfigError, RecordError
from forebear.train.checkpoint import load_tokenizer
from forebear.train.tokenize.corpus import Encoder, Fertility, documents, parse_tokenizer
from forebear.train.tokenize.pack import Encoded
from forebear.train.tokenize.params import TokenizeParams
from forebear.train.tokenize.vocabulary import NewToken, Vocabulary, Words

# Replay text on which the effect of the new tokens is counted, as much as is learned on at most.
_REPLAY_BYTES = 1 << 20


@dataclass(frozen=True)
class Extension:
    """What came of the wish to extend.

    Attributes:
        encoder: the tokenizer to use, the old one where nothing was added.
        tokens: added.
        figures: for the metrics.
    """

    encoder: Encoder
    tokens: tuple[NewToken, ...]
    figures: dict[str, Any]


@dataclass
class _Survey:
    """One pass over the corpus with the old tokenizer."""

    words: Words
    held: Fertility
    learned: Fertility
    replay: Fertility

    def ratios(self) -> dict[str, float]:
        """What domain text costs over replay text, in tokens per word and per byte."""
        return {
            "per_word": self.learned.per_word / max(1e-9, self.replay.per_word),
            "per_byte": self.learned.per_byte / max(1e-9, self.replay.per_byte),
        }


def extend_vocabulary(
    params: TokenizeParams, encoder: Encoder, corpus: Path, held_tokens: int
) -> Extension:
    """Learns new tokens where domain text costs more than ``extend_above`` allows.

    Args:
        params: of the stage.
        encoder: of the base.
        corpus: folder with ``domain.jsonl`` and ``replay.jsonl``.
        held_tokens: size of the domain's validation split, end tokens included.

    Raises:
        ConfigError: the tokenizer cannot be extended, or the corpus ran dry.
        RecordError: the new tokenizer does not keep what it must.
    """
    vocabulary = Vocabulary.read(encoder.data)
    spare = 2 * held_tokens
    while True:
        survey = _survey(params, encoder, corpus, spare, vocabulary)
        ratios = survey.ratios()
        figures: dict[str, Any] = {
            "asked": True,
            "extended": False,
            "domain_to_replay": ratios,
            "extend_above": params.extend_above,
            "learned_on": survey.learned.to_json(),
            "new_tokens": 0,
        }
        if max(ratios.values()) <= params.extend_above:
            _say(f"domain text costs {max(ratios.values()):.2f} of replay: not extended")
            return Extension(encoder, (), figures)
        vocabulary.learn(
            survey.words.counts, limit=params.max_new_tokens, min_saved=params.min_saved_tokens
        )
        if not vocabulary.tokens:
            _say(f"no new token saves {params.min_saved_tokens} tokens: not extended")
            return Extension(encoder, (), figures)
        data = vocabulary.extended()
        new = replace(encoder, tokenizer=parse_tokenizer(data, where="tokenizer.json"), data=data)
        require_superset(encoder, new, vocabulary.tokens)
        held = _compare(encoder, new, corpus, "domain", survey.held.documents)
        if held["tokens_after"] + held["documents"] >= held_tokens:
            break
        # so much was saved that the split will reach into what was learned on: hold out more
        spare *= 2
        vocabulary = Vocabulary.read(encoder.data)
    replay = _compare(encoder, new, corpus, "replay", survey.replay.documents)
    _say(
        f"{len(vocabulary.tokens)} new tokens save {held['saved_share']:.1%} of the tokens of "
        f"held-out domain text, {replay['saved_share']:.1%} of replay text"
    )
    figures |= {
        "extended": True,
        "new_tokens": len(vocabulary.tokens),
        "first_id": vocabulary.first_id,
        "saved": {"held_out_domain": held, "replay": replay},
    }
    return Extension(new, tuple(vocabulary.tokens), figures)


def _survey(
    params: TokenizeParams, encoder: Encoder, corpus: Path, spare: int, vocabulary: Vocabulary
) -> _Survey:
    found = _Survey(Words(vocabulary.starts), Fertility(), Fertility(), Fertility())
    for document in documents(corpus / "domain.jsonl", "domain", encoder.tokenizer):
        if found.held.tokens + found.held.documents < spare:
            found.held.add(document)
        elif found.learned.size_bytes < params.learn_bytes:
            found.learned.add(document)
            found.words.add(document.encoding)
        else:
            break
    if not found.learned.documents:
        raise ConfigError(
            "the domain corpus ran dry: nothing is left to learn tokens on once "
            f"{found.held.documents} documents are held out",
            where="params.yaml: tokenize",
            fix="lower tokenize.validation_tokens, or curate more documents",
        )
    for document in documents(corpus / "replay.jsonl", "replay", encoder.tokenizer):
        if found.replay.size_bytes >= min(_REPLAY_BYTES, params.learn_bytes):
            break
        found.replay.add(document)
    return found


def require_superset(old: Encoder, new: Encoder, tokens: Sequence[NewToken]) -> None:
    """Checks that old ids have not moved, and that each new token is spelled by its own id.

    Raises:
        RecordError: otherwise.
    """
    before = old.tokenizer.get_vocab(with_added_tokens=True)
    after = new.tokenizer.get_vocab(with_added_tokens=True)
    for spelling, number in before.items():
        if after.get(spelling) != number:
            raise RecordError(
                f"the old token {spelling[:40]!r} moved from {number} to {after.get(spelling)}",
                where="tokenize",
            )
    model: Any = new.tokenizer.model
    for token in tokens:
        ids = [piece.id for piece in model.tokenize(token.spelling)]
        if ids != [token.number] or new.tokenizer.id_to_token(token.number) != token.spelling:
            raise RecordError(
                f"the new token {token.spelling[:40]!r} does not round-trip: it is cut into {ids}",
                where="tokenize",
            )


def require_loadable(folder: Path, extension: Extension) -> None:
    """Checks that the later stages' library reads the extended files as the same vocabulary.

    Some of its classes rebuild a tokenizer from parts of the file.

    Raises:
        RecordError: it gives another vocabulary.
    """
    found = load_tokenizer(folder).get_vocab()
    wanted = extension.encoder.tokenizer.get_vocab(with_added_tokens=True)
    for spelling, number in wanted.items():
        if found.get(spelling) != number:
            raise RecordError(
                f"transformers reads token {number} as {found.get(spelling)}",
                where="tokenize",
                fix="set tokenize.extend: false, and report this tokenizer",
            )


def _compare(old: Encoder, new: Encoder, corpus: Path, role: str, n: int) -> dict[str, Any]:
    """Tokens of the first ``n`` documents in both tokenizers; every text must decode alike."""
    file = corpus / f"{role}.jsonl"
    before, after = Fertility(), Fertility()
    pairs = zip(
        islice(documents(file, role, old.tokenizer, before), n),
        islice(documents(file, role, new.tokenizer, after), n),
        strict=True,
    )
    for one, other in pairs:
        _require_same_text(one, other, old, new)
    return {
        "documents": after.documents,
        "tokens_before": before.tokens,
        "tokens_after": after.tokens,
        "saved_share": 1 - after.tokens / max(1, before.tokens),
    }


def _require_same_text(one: Encoded, other: Encoded, old: Encoder, new: Encoder) -> None:
    texts = [
        encoder.tokenizer.decode(list(document.ids), skip_special_tokens=False)
        for document, encoder in ((one, old), (other, new))
    ]
    if texts[0] != texts[1]:
        raise RecordError(
            f"document {one.name[:80]!r} does not decode as before with the new tokens",
            where="tokenize",
            fix="set tokenize.extend: false, and report this tokenizer",
        )


def _say(text: str) -> None:
    sys.stderr.write(f"tokenize: {text}\n")
