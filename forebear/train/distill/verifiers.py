"""Verifiers: each judges one answer of a teacher against what is known to be right.

A verifier is a pure function from the answer and its row to a :class:`Verdict`; :data:`VERIFIERS`
holds them by the name that params and trajectories use. An answer that a verifier cannot read is
refuted with the reason, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forebear.errors import ConfigError

_CODE = re.compile(r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?")
_CATEGORY_LENGTH = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer may be learned from, and why.

    Attributes:
        verified: the answer is right.
        reason: a fixed word or two, fit for counting.
    """

    verified: bool
    reason: str


Verifier = Callable[[str, Mapping[str, str]], Verdict]


def exact_match(answer: str, row: Mapping[str, str]) -> Verdict:
    """Judges a classification code: equal to the row's ``answer`` but for case, blanks and dot.

    The dot may be left out; a dot in the wrong place, or any word beside the code, is refuted.
    The reason tells a near miss (same category, its first three characters) from a far one.
    """
    given, expected = _canonical_code(answer), _canonical_code(row["answer"])
    if not given:
        return Verdict(verified=False, reason="empty")
    if given == expected:
        return Verdict(verified=True, reason="exact match")
    if not _CODE.fullmatch(given):
        return Verdict(verified=False, reason="not a code")
    if given[:_CATEGORY_LENGTH] == expected[:_CATEGORY_LENGTH]:
        return Verdict(verified=False, reason="wrong code, right category")
    return Verdict(verified=False, reason="wrong category")


def _canonical_code(text: str) -> str:
    code = text.strip().upper()
    if len(code) > _CATEGORY_LENGTH and "." not in code:
        return f"{code[:_CATEGORY_LENGTH]}.{code[_CATEGORY_LENGTH:]}"
    return code


VERIFIERS: Mapping[str, Verifier] = {"exact_match": exact_match}


def load_verifier(name: str, *, where: str) -> Verifier:
    """The verifier registered under ``name``.

    Args:
        name: as written in the params.
        where: the params key, for the message.
    Raises:
        ConfigError: there is none of that name; the known ones are listed.
    """
    try:
        return VERIFIERS[name]
    except KeyError:
        raise ConfigError(
            f"there is no verifier {name!r}",
            where=where,
            fix=f"choose one of: {', '.join(sorted(VERIFIERS))}",
        ) from None
