"""Instruction rows: read, drawn, and encoded through the chat template that the checkpoint carries.

A row is a prompt and its right answer. Only the answer and its end mark carry a loss, so where the
prompt ends must be certain: a template under which the conversation does not begin with the prompt
is refused, as is a template other than the pinned one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = Mapping[str, str]


def read_rows(file: Path) -> list[Row]:
    """Rows of prompt and answer, in file order.

    Raises:
        FormatError: a line is not an object with text ``id``, ``prompt`` and ``answer``.
    """
    rows: list[Row] = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        row = strictjson.parse(line, where=f"{file}:{number}")
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) for key in ("id", "prompt", "answer")
        ):
            raise FormatError("needs id, prompt and answer as text", where=f"{file}:{number}")
        rows.append({key: value for key, value in row.items() if isinstance(value, str)})
    return rows


def split_rows(
    rows: Sequence[Row], *, n_train: int, n_held_out: int, seed: int
) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows held out, drawn by hash of seed and row id, so nested in size."""
    ranked = sorted(
        rows,
        key=lambda row: hashlib.sha256(f"{seed}|{row['id']}|{row['prompt']}".encode()).digest(),
    )
    return list(ranked[n_held_out : n_held_out + n_train]), list(ranked[:n_held_out])


def write_row_list(file: Path, *, trained: Iterable[Row], held_out: Iterable[Row]) -> None:
    """Names each row once, with what it was used for, for the ledger's questions of impact.

    Args:
        file: one line ``{"id": …, "split": "train" | "held_out"}`` per row.
        trained: in the order in which training first saw them.
        held_out: measured on, never trained on.
    """
    lines = [
        strictjson.dumps({"id": row["id"], "split": split}).rstrip(b"\n") + b"\n"
        for split, part in (("train", trained), ("held_out", held_out))
        for row in part
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(lines))


def template_digest(tokenizer: PreTrainedTokenizerBase, *, pinned: str | None = None) -> str:
    """SHA-256 of the chat template that ``tokenizer`` carries.

    Args:
        tokenizer: of the checkpoint.
        pinned: the digest that the params ask for.
    Raises:
        FormatError: there is no template, or another than the pinned one.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str) or not template:
        raise FormatError(
            "the tokenizer carries no chat template",
            where="sft",
            fix="run base again: it gives every checkpoint the pipeline's template",
        )
    digest = hashlib.sha256(template.encode()).hexdigest()
    if pinned is not None and digest != pinned:
        raise FormatError(
            f"the chat template is {digest}, the params pin {pinned}",
            where="params.yaml: sft.chat_template_sha256",
            fix="pin the digest of the template that the checkpoint carries, or run base again",
        )
    return digest


def encode_rows(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, list[int]]]:
    """Token ids of each row through the pinned chat template, with a mask over the answer.

    Returns:
        One dict per row: ``input_ids`` and ``completion_mask`` (1 on the answer and its end mark).
    Raises:
        FormatError: under the template the conversation does not begin with its prompt.
    """
    encoded = []
    for row in rows:
        question = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(
            [*question, {"role": "assistant", "content": row["answer"]}], tokenize=False
        ).rstrip("\n")
        if not whole.startswith(prompt):
            raise FormatError(
                "the chat template writes the prompt in one way before an answer and in another "
                "without one, so the answer cannot be told from the prompt",
                where=f"row {row['id']}",
                fix="use a template in which an assistant's turn begins with the generation prompt",
            )
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answer_ids = tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
        encoded.append(
            {
                "input_ids": prompt_ids + answer_ids,
                "completion_mask": [0] * len(prompt_ids) + [1] * len(answer_ids),
            }
        )
    return encoded


def require_fit(
    rows: Sequence[Row], encoded: Sequence[Mapping[str, list[int]]], *, context: int | None
) -> None:
    """Refuses a row longer than the model's context; nothing is cut off in silence.

    Raises:
        ConfigError: names the longest row; ``context`` None means unknown, and all pass.
    """
    if context is None or not encoded:
        return
    longest = max(range(len(encoded)), key=lambda number: len(encoded[number]["input_ids"]))
    n_tokens = len(encoded[longest]["input_ids"])
    if n_tokens > context:
        raise ConfigError(
            f"row {rows[longest]['id']} has {n_tokens} tokens, the model's context {context}",
            where="sft",
            fix="shorten the row, or choose a base with a longer context",
        )
