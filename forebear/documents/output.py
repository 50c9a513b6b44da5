"""The files of one document: JSON, and Markdown and HTML made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents.html import render_html
from forebear.documents.pictures import pictures_of
from forebear.documents.render import render_markdown

if TYPE_CHECKING:
    from forebear.documents.body import Body


def files_of(document: Body, name: str, **keys: Any) -> dict[str, bytes]:
    """``name.md``, ``name.html`` and ``name.json``.

    Args:
        document: filled.
        name: below the documents' folder, without ending.
        keys: of the document's own form, beside the sections in the JSON.
    """
    markdown = render_markdown(document)
    return {
        f"{name}.md": markdown,
        f"{name}.html": render_html(
            markdown, language=document.language, title=document.title,
            pictures=pictures_of(document),
        ),
        f"{name}.json": document.to_bytes(**keys),
    }  # fmt: skip
