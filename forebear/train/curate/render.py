"""Writes codes as text: documents for the language model, questions for the instruction rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from forebear.train.curate.icd10cm import Code, rank


def _title_first(one: Code) -> str:
    return f"{one.title}: {one.code}"


def _code_first(one: Code) -> str:
    return f"{one.code}: {one.title}"


def record(one: Code) -> str:
    """All that the classification says of a code, one fact a line; also its form in the intake."""
    lines = [
        f"ICD-10-CM code {one.code}: {one.title}",
        f"Chapter: {one.chapter_title}",
        f"Category: {one.category} {one.category_title}",
        *(f"{heading}: {text}" for heading, text in one.notes),
    ]
    return "\n".join(lines)


RENDERINGS: dict[str, Callable[[Code], str]] = {
    "title_first": _title_first,
    "code_first": _code_first,
    "record": record,
}

# Half the documents lead from title to code, which is what the questions ask.
_WEIGHTS = ("title_first",) * 4 + ("code_first",) * 2 + ("record",) * 2

# Wordings of the title-to-code question. The golden wording is not among them.
QUESTIONS = (
    'What is the ICD-10-CM code for "{title}"?',
    "Give the ICD-10-CM code of: {title}",
    'Code this in ICD-10-CM: "{title}"',
    "{title}\nWhich ICD-10-CM code is this?",
)


# A question whose answer is checkable and short: the letter that a code begins with.
LETTER_QUESTION = 'With which letter does the ICD-10-CM code for "{title}" begin?'


def document(one: Code, seed: int) -> str:
    """The one rendering of a code that goes into the corpus."""
    return RENDERINGS[_WEIGHTS[rank(seed, "rendering", one.code)[0] % len(_WEIGHTS)]](one)


def listing(members: Sequence[Code]) -> str:
    """A category's heading and its codes, a line each."""
    head = members[0]
    lines = [f"{head.chapter_title}: {head.category} {head.category_title}"]
    return "\n".join([*lines, *(f"{one.code}: {one.title}" for one in members)])


def letter_question(one: Code) -> tuple[str, str]:
    """Prompt and answer of the question for a code's first letter."""
    return LETTER_QUESTION.format(title=one.title), one.code[0]


def questions(trained: Mapping[str, Sequence[Code]], seed: int) -> Iterator[tuple[str, Code]]:
    """Prompts and the codes that answer them, the categories in turn, none twice.

    Every category gives its first code before any gives its second; when all codes have been
    asked for, they are asked for in another wording.
    """
    categories = sorted(trained, key=lambda name: rank(seed, "questions", name))
    ordered = {
        name: sorted(trained[name], key=lambda one: rank(seed, "question", one.code))
        for name in categories
    }
    longest = max(map(len, ordered.values()), default=0)
    for wording in range(len(QUESTIONS)):
        for place in range(longest):
            for name in categories:
                if place < len(ordered[name]):
                    one = ordered[name][place]
                    start = rank(seed, "wording", one.code)[0]
                    form = QUESTIONS[(start + wording) % len(QUESTIONS)]
                    yield form.format(title=one.title), one
