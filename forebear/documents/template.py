"""The declarations as a file to fill in: every field with its guidance, and what is known already.

Source: compliance page, section 3.2.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from forebear.documents.fields import FIELDS, Field
from forebear.documents.strictyaml import dump_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = """\
# What people declare about the model. Every statement is shown in the documents as declared, with
# name, role and date of whoever declares it; whatever is missing is shown as MISSING, and the
# documents stay drafts. TODO, TBD and the like count as missing. A declared_by block may be
# repeated inside any mapping, for statements by somebody else.
"""
_WIDTH = 100
_FORMS = {
    "text": "text", "list": "list of texts", "bool": "true or false", "int": "whole number",
    "date": "YYYY-MM-DD", "month": "YYYY-MM", "url": "http(s) address",
    "contact": "e-mail or http(s) address", "country": "ISO 3166-1 code",
}  # fmt: skip


def template(values: Mapping[str, Any], *, header: str = HEADER) -> str:
    """The file's text; fields without a value are commented out.

    Args:
        values: ``declared_by``, and values by field id.
        header: comment at the top.
    """
    lines = [header, dump_mapping({"declared_by": values["declared_by"]}).rstrip()]
    open_groups: list[str] = []
    for field in FIELDS:
        *groups, name = field.id.split(".")
        common = _common(open_groups, groups)
        for depth in range(common, len(groups)):
            if not depth:
                lines.append("")
            held = any(_within(one, groups[: depth + 1]) for one in values)
            lines.append(_line(f"{groups[depth]}:", depth, live=held))
        if not groups:
            lines.append("")
        open_groups = groups
        lines += _guidance(field, len(groups))
        if field.id in values:
            lines += _entry(name, values[field.id], len(groups))
        else:
            lines.append(_line(f"{name}:", len(groups), live=False))
    return "\n".join(lines) + "\n"


def _common(one: list[str], other: list[str]) -> int:
    depth = 0
    while depth < min(len(one), len(other)) and one[depth] == other[depth]:
        depth += 1
    return depth


def _within(field_id: str, groups: list[str]) -> bool:
    return field_id.startswith(".".join(groups) + ".")


def _line(text: str, depth: int, *, live: bool) -> str:
    return "  " * depth + text if live else "  " * depth + f"# {text}"


def _guidance(field: Field, depth: int) -> list[str]:
    need = "Required" if field.required else "Required in some cases" if field.when else "Optional"
    text = f"{field.label}: {field.hint}. {need}; {_form(field)}. From {field.supplier}."
    prefix = "  " * depth + "# "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


def _form(field: Field) -> str:
    if field.kind == "rows":
        names = ", ".join(c.name + ("" if c.required else "?") for c in field.columns)
        return f"list of {{{names}}}"
    return " | ".join(([_FORMS[field.kind]] if field.kind in _FORMS else []) + [*field.choices])


def _entry(name: str, value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(value, str) and len(value) > _WIDTH - len(indent) - len(name) - 4:
        wrapped = textwrap.wrap(value, _WIDTH - len(indent) - 2, break_on_hyphens=False)
        return [f"{indent}{name}: >-", *(f"{indent}  {line}" for line in wrapped)]
    text = dump_mapping({name: value}).rstrip()
    return [indent + line for line in text.splitlines()]
