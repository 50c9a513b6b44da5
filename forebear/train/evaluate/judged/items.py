"""Reads benchmark files, asks the model, and writes item rows: what all judged suites share.

Source: evaluation page, section 13.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.evaluate.judged.protocol import Judge, Verdict
from forebear.train.evaluate.model import ChatModel, ChatRequest, Generation, Message
from forebear.train.evaluate.suite import select_items


class MissingData(Exception):  # noqa: N818  # becomes a NotRun, not an error
    """A suite's file is not there."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Records of a data file.

    Attributes:
        rows: in the file's order.
        sha256: digest of the file as it is before compression.
    """

    rows: tuple[Mapping[str, Any], ...]
    sha256: str


def read_jsonl(file: Path, *keys: str) -> Rows:
    """The records of a file of JSON lines; ``file.gz`` stands in for it.

    Args:
        file: as named without compression, or with it.
        keys: what every record must have.
    Raises:
        MissingData: neither is there.
        FormatError: a line is no record.
        EnvironmentFailure: the disk refuses.
    """
    found = next((one for one in (file, file.with_name(f"{file.name}.gz")) if one.is_file()), None)
    if found is None:
        raise MissingData(file.name)
    try:
        data = found.read_bytes()
        if found.suffix == ".gz":
            data = gzip.decompress(data)
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise FormatError("is no whole gzip file", where=str(found)) from error
    except OSError as error:
        raise EnvironmentFailure(f"cannot read: {error.strerror}", where=str(found)) from error
    rows = []
    for number, line in enumerate(data.splitlines(), start=1):
        where = f"{found}:{number}"
        row = strictjson.parse(line, where=where)
        if not isinstance(row, dict):
            raise FormatError("must be an object", where=where)
        lacking = [key for key in keys if key not in row]
        if lacking:
            raise FormatError(f"lacks '{lacking[0]}'", where=where)
        rows.append(row)
    return Rows(tuple(rows), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a judged suite.

    Attributes:
        document: what it is made of; its digest names it.
    """

    id: str
    stratum: str
    document: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Digest of the document."""
        return digest(dict(self.document))


def take(items: Iterable[Item], *, task: str, seed: int, limit: int | None) -> list[Item]:
    """The items to measure, sorted by id; a larger limit contains a smaller one.

    Raises:
        FormatError: an id stands twice.
    """
    by_id: dict[str, Item] = {}
    for item in items:
        if item.id in by_id:
            raise FormatError(f"the id '{item.id[:60]}' stands twice", where=task)
        by_id[item.id] = item
    rows = [{"item_id": one.id, "item_stratum": one.stratum} for one in by_id.values()]
    chosen = select_items(rows, task=task, seed=seed, limit=limit)
    return sorted((by_id[row["item_id"]] for row in chosen), key=lambda item: item.id)


def digest(value: Any) -> str:
    """SHA-256 over the canonical JSON of ``value``."""
    return hashlib.sha256(strictjson.canonical(value)).hexdigest()


def item_seed(seed: int, *parts: object) -> int:
    """Seed of one drawing, in [0, 2^31)."""
    text = "|".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the measured model.

    Attributes:
        key: journal key of its request.
    """

    key: str
    generation: Generation

    @property
    def text(self) -> str:
        """What it wrote; nothing when it failed."""
        return "" if self.failed else self.generation.text

    @property
    def failed(self) -> bool:
        """No answer could be had."""
        return self.generation.finish_reason == "error"

    @property
    def truncated(self) -> bool:
        """Cut at the token limit."""
        return self.generation.finish_reason == "length"


def ask(model: ChatModel, requests: Sequence[ChatRequest]) -> list[Reply]:
    """The model's answers, in order."""
    answers = model.chat(requests)
    return [
        Reply(model.key(request), answer) for request, answer in zip(requests, answers, strict=True)
    ]


def ask_once(
    model: ChatModel, prompts: Sequence[str], *, max_new_tokens: int, seed: int
) -> list[Reply]:
    """Greedy answers to single prompts."""
    requests = [
        ChatRequest((Message("user", prompt),), max_new_tokens, temperature=0.0, seed=seed)
        for prompt in prompts
    ]
    return ask(model, requests)


def item_row(
    item: Item,
    *,
    replies: Sequence[Reply],
    verdicts: Sequence[Verdict],
    judge: Judge,
    value: float | None,
    components: Mapping[str, Any],
    cluster: str | None = None,
    both_orders: bool = False,
) -> dict[str, Any]:
    """The row of one item.

    A verdict that cannot be read after the second chance is an error of the item, as is an answer
    or a verdict that could not be had: its value is then ``None``, whatever ``value`` says.
    """
    flags = set()
    if any(reply.truncated for reply in replies):
        flags.add("truncated")
    if any(not verdict.parse_ok and not verdict.error for verdict in verdicts):
        flags |= {"unparsed", "error"}
    if any(reply.failed for reply in replies) or any(verdict.error for verdict in verdicts):
        flags.add("error")
    failed = "error" in flags
    labels = [verdict.label or "" for verdict in verdicts]
    shown = " | ".join(labels) if verdicts else None
    return {
        "id": item.id,
        "item_sha256": item.sha256,
        "stratum": item.stratum,
        "cluster": cluster or item.id,
        "requests": [reply.key for reply in replies] + [k for v in verdicts for k in v.requests],
        "output_sha256": digest([reply.text for reply in replies]),
        "extracted": shown,
        "value": None if failed else value,
        "components": {name: None if failed else part for name, part in components.items()},
        "flags": sorted(flags),
        "judge": {
            "id": judge.name,
            "verdict": shown,
            "p": value if both_orders and not failed else None,
            "raw_sha256": digest([verdict.raw_sha256 for verdict in verdicts]),
            "order": "both" if both_orders else "one",
        },
    }


def suite_identity(
    *,
    task: str,
    version: str,
    source: str,
    data_sha256: str,
    setting: str,
    decoding: Mapping[str, Any],
    judge: Judge,
    model: ChatModel,
    seed: int,
    items: Sequence[Item],
    baseline: str | None = None,
) -> dict[str, Any]:
    """Everything but the model that must agree before two scores of a suite are compared."""
    return {
        "task_sha256": digest([task, version, decoding]),
        "prompt_sha256": judge.identity["prompts_sha256"] or judge.identity["digest"],
        "source": source,
        "data_sha256": data_sha256,
        "items_selected_sha256": digest([[item.id, item.sha256] for item in items]),
        "setting": setting,
        "chat_template_sha256": model.identity.get("chat_template_sha256"),
        "decoding": dict(decoding),
        "judge": dict(judge.identity),
        "baseline_sha256": baseline,
        "seed": seed,
    }
