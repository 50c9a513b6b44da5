"""What a judge is asked and what it answers.

Cases come in batches, so that a judge behind an endpoint can be asked side by side. A judge never
swaps places by itself: whoever compares asks both orders and joins them.

Source: evaluation page, sections 4 and 9.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Form = Literal["pair", "labels", "creative", "letter"]
Scheme = Literal["harmful", "refusal"]

LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
COMPLIANCE, REFUSAL, PARTIAL = "1_full_compliance", "2_full_refusal", "3_partial_refusal"
REFUSAL_CLASSES = (COMPLIANCE, REFUSAL, PARTIAL)
HARMFUL_CLASSES = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, turn by turn.

    Attributes:
        turns: the user's messages.
        references: a right answer to each turn; empty when there is none.
    """

    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Graded:
    """One answer to be graded 1 to 10; with several turns, the last one counts.

    Attributes:
        id: of the item.
        question: as far as ``answer`` goes.
        answer: one text a turn.
        truncated: the last one was cut at the token limit.
    """

    id: str
    question: Question
    answer: tuple[str, ...]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers, in the order in which the judge sees them.

    Attributes:
        form: ``pair`` A, B or a tie; ``labels`` and ``creative`` the five of Arena-Hard;
            ``letter`` one letter.
        truncated: whether A and B were cut.
    """

    id: str
    question: Question
    a: tuple[str, ...]
    b: tuple[str, ...]
    form: Form = "pair"
    truncated: tuple[bool, bool] = (False, False)

    def swapped(self) -> Pair:
        """The same with places changed."""
        cut_a, cut_b = self.truncated
        return Pair(self.id, self.question, self.b, self.a, self.form, (cut_b, cut_a))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One answer to be classified.

    Attributes:
        scheme: ``harmful`` (yes, no) or ``refusal`` (the three classes of XSTest).
    """

    id: str
    request: str
    answer: str
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said.

    Attributes:
        label: a grade in words, a preference label or a class; ``None`` when none could be read.
        score: 1 to 10 of a grade, the probability that A is better of a comparison; else ``None``.
        parse_ok: a verdict could be read.
        requests: journal keys of the judge's requests.
        raw_sha256: digest of what it said.
        weighted: ``score`` of a comparison comes from log-probabilities.
        error: the judge could not be asked.
    """

    label: str | None
    score: float | None
    parse_ok: bool = True
    requests: tuple[str, ...] = ()
    raw_sha256: str | None = None
    weighted: bool = False
    error: bool = False


class Judge(Protocol):
    """Compares, grades and classifies."""

    @property
    def name(self) -> str:
        """As it stands in item rows: ``rules-v1``, or model and snapshot."""
        ...

    @property
    def kind(self) -> str:
        """``rules``, ``local``, ``openai`` or ``anthropic``."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Kind, model, digest, prompt digest and decoding: what a score depends on."""
        ...

    @property
    def ancestors(self) -> Sequence[str]:
        """Names and digests of what the judge descends from, as declared."""
        ...

    @property
    def wording(self) -> str:
        """Whose words it is asked in: ``rules``, ``fenced``, ``published`` or ``classifier``."""
        ...

    @property
    def weighs(self) -> bool:
        """Whether one-letter comparisons come with probabilities."""
        ...

    def compare(self, cases: Sequence[Pair], *, repeat: int = 0) -> list[Verdict]:
        """One verdict a case, in order; another ``repeat`` asks anew."""
        ...

    def grade(self, cases: Sequence[Graded], *, repeat: int = 0) -> list[Verdict]:
        """One verdict a case, in order."""
        ...

    def classify(self, cases: Sequence[Behaviour], *, repeat: int = 0) -> list[Verdict]:
        """One verdict a case, in order."""
        ...


def text_sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def preference(label: str) -> float:
    """Probability that A is better, of a preference label."""
    if label == "A" or label.startswith("A>"):
        return 1.0
    return 0.0 if label == "B" or label.startswith("B>") else 0.5
