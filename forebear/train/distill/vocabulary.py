"""Whether two checkpoints mean the same tokens, which comparing their logits takes for granted."""

from __future__ import annotations

from pathlib import Path

from forebear.errors import ConfigError

_WHERE = "params.yaml: distill.student.method"
_FIX = "choose a teacher of the student's own family, or distill.student.method: sft"


def require_shared_vocabulary(student: Path, teacher: Path) -> None:
    """Refuses two checkpoints whose tokens differ in text, number or order.

    Only the meaning of each id counts: how a text is cut into tokens does not, since the teacher
    reads the student's own tokens.

    Raises:
        ConfigError: names the first token that differs.
        FormatError: a tokenizer does not load.
    """
    from transformers import AutoConfig

    from forebear.train.checkpoint import load_tokenizer

    ours, theirs = (
        {number: token for token, number in load_tokenizer(folder).get_vocab().items()}
        for folder in (student, teacher)
    )
    for number in range(max(*ours, *theirs) + 1):
        if ours.get(number) != theirs.get(number):
            raise ConfigError(
                f"student and teacher have different vocabularies: token {number} is "
                f"{_shown(ours.get(number))} to the student ({len(ours)} tokens) and "
                f"{_shown(theirs.get(number))} to the teacher ({len(theirs)} tokens)",
                where=_WHERE,
                fix=_FIX,
            )
    sizes = [
        AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config().vocab_size
        for folder in (student, teacher)
    ]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"the student's output layer has {sizes[0]} rows and the teacher's {sizes[1]}, though "
            "their tokenizers agree",
            where=_WHERE,
            fix=_FIX,
        )


def _shown(token: str | None) -> str:
    return "unknown" if token is None else repr(token[:40])
