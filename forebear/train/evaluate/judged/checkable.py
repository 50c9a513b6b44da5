"""Instructions in a prompt that can be checked without understanding: counts, shapes, cases.

A reader of a few fixed phrases, for the rule judge alone; IFEval has the real verifiers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10,
}  # fmt: skip
_COUNT = re.compile(
    r"\b(?P<how>exactly|under|at most|less than|fewer than|no more than|up to|at least|more than"
    r"|in|with|of)\s+(?P<number>\d{1,4}|" + "|".join(_NUMBERS) + r")\s+"
    r"(?P<unit>words?|sentences?|paragraphs?|bullet points?|bullets|items|lines)\b",
    re.IGNORECASE,
)
_LIST_LINE = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+\S", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
_BEGIN = re.compile(
    r"\b(?:start|begin)\s+with\s+[\"“'](?P<text>[^\"”']{1,80})[\"”']", re.IGNORECASE
)
_END = re.compile(r"\bend(?:ing)?\s+with\s+[\"“'](?P<text>[^\"”']{1,80})[\"”']", re.IGNORECASE)
_ABOUT = 0.1  # "in 100 words" is met within a tenth

PATTERNS = (_COUNT, _LIST_LINE, _BEGIN, _END)  # part of the rule judge's digest

Check = Callable[[str], bool]


def checks_of(prompt: str) -> list[Check]:
    """A check for each instruction found in ``prompt``."""
    lowered = prompt.casefold()
    checks: list[Check] = [_count_check(found) for found in _COUNT.finditer(prompt)]
    if re.search(r"\b(?:in|as|valid)\s+(?:a\s+)?json\b", lowered):
        checks.append(_is_json)
    if re.search(r"\bbullet(?:ed)?\s+(?:list|points?)\b|\bnumbered list\b", lowered):
        checks.append(lambda answer: len(_LIST_LINE.findall(answer)) > 1)
    if re.search(r"\b(?:all|only|in)\s+lower\s?case\b", lowered):
        checks.append(lambda answer: answer == answer.lower())
    if re.search(r"\ball\s+(?:capital letters|caps)\b|\b(?:all|only|in)\s+upper\s?case\b", lowered):
        checks.append(lambda answer: answer == answer.upper())
    if re.search(r"\b(?:no|without(?: any)?|not use(?: any)?)\s+commas\b", lowered):
        checks.append(lambda answer: "," not in answer)
    checks += [_begins(found["text"]) for found in _BEGIN.finditer(prompt)]
    checks += [_ends(found["text"]) for found in _END.finditer(prompt)]
    return checks


def n_met(prompt: str, answer: str) -> int:
    """How many checkable instructions of ``prompt`` the answer meets; none by an empty one."""
    if not answer.strip():
        return 0
    return sum(check(answer) for check in checks_of(prompt))


def _count_check(found: re.Match[str]) -> Check:
    how, raw = found["how"].casefold(), found["number"].casefold()
    wanted = _NUMBERS[raw] if raw in _NUMBERS else int(raw)
    unit = found["unit"].casefold().rstrip("s")

    def check(answer: str) -> bool:
        count = _count(unit, answer)
        if how in {"at most", "no more than", "up to"}:
            return count <= wanted
        if how in {"under", "less than", "fewer than"}:
            return count < wanted
        if how == "at least":
            return count >= wanted
        if how == "more than":
            return count > wanted
        slack = _ABOUT * wanted if unit == "word" and how != "exactly" else 0.0
        return abs(count - wanted) <= slack

    return check


def _count(unit: str, answer: str) -> int:
    if unit == "word":
        return len(answer.split())
    if unit == "sentence":
        return max(1, len(_SENTENCE_END.findall(answer)))
    if unit == "paragraph":
        return len([part for part in re.split(r"\n\s*\n", answer) if part.strip()])
    if unit == "line":
        return len([line for line in answer.splitlines() if line.strip()])
    return len(_LIST_LINE.findall(answer))


def _is_json(answer: str) -> bool:
    fenced = re.search(r"```(?:json)?\s*\n(.*?)```", answer, re.DOTALL)
    try:
        json.loads(fenced[1] if fenced else answer)
    except ValueError:
        return False
    return True


def _begins(text: str) -> Check:
    return lambda answer: answer.lstrip().casefold().startswith(text.casefold())


def _ends(text: str) -> Check:
    return lambda answer: answer.rstrip().casefold().endswith(text.casefold())
