"""What a declared value may look like: one test for each kind of field, with the words of refusal.

Source: compliance page, sections 3.1 and 3.2.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forebear.documents.fields import Column, Field

_WEB = re.compile(r"https?://[!#-&(-;=?-\[\]_a-z~|]+")
_MAIL = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_PLACEHOLDERS = {"", "todo", "tbd", "fixme", "lorem", "xxx", "..."}


def is_placeholder(text: str, hint: str = "") -> bool:
    """Whether a text stands for a statement that is still to come."""
    plain = text.strip().lower()
    return plain in _PLACEHOLDERS or (bool(hint) and plain == hint.strip().lower())


def is_date(raw: Any) -> bool:
    """Whether ``raw`` is a day, YYYY-MM-DD."""
    try:
        return isinstance(raw, str) and date.fromisoformat(raw).isoformat() == raw
    except ValueError:
        return False


def fault_of(field: Field | Column, raw: Any) -> str:
    """What is wrong with the value's type; empty when nothing is."""
    if isinstance(raw, str) and raw in field.choices:
        return ""
    holds, fault = _KINDS[field.kind]
    if holds(raw):
        return ""
    if field.kind == "choice":
        return f"must be one of {', '.join(field.choices)}"
    return f"{fault} or {' or '.join(field.choices)}" if field.choices else fault


def _is_text(raw: Any) -> bool:
    """A text, or one for each language."""
    if isinstance(raw, dict):
        return all(_LANGUAGE.fullmatch(key) and isinstance(raw[key], str) for key in raw)
    return isinstance(raw, str)


def _is_list(raw: Any) -> bool:
    return isinstance(raw, list) and all(isinstance(item, str) for item in raw)


def _is_count(raw: Any) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < 2**53


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda raw: isinstance(raw, str) and re.fullmatch(pattern, raw) is not None


def _is_web(raw: Any) -> bool:
    return isinstance(raw, str) and _WEB.fullmatch(raw) is not None


def _is_contact(raw: Any) -> bool:
    return _is_web(raw) or (isinstance(raw, str) and _MAIL.fullmatch(raw) is not None)


_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "text": (_is_text, "must be a text"),
    "list": (_is_list, "must be a list of texts"),
    "bool": (lambda raw: isinstance(raw, bool), "must be true or false"),
    "int": (_is_count, "must be a whole number"),
    "choice": (lambda _: False, ""),
    "country": (_matches("[A-Z]{2}"), "must be a country code of two capitals (ISO 3166-1)"),
    "date": (is_date, "must be a date YYYY-MM-DD"),
    "month": (_matches(r"\d{4}-(0[1-9]|1[0-2])"), "must be a month YYYY-MM"),
    "url": (_is_web, "must be an http(s) address"),
    "contact": (_is_contact, "must be an http(s) address or e-mail"),
}
