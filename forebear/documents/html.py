"""Markdown of a document becomes one self-contained HTML page.

No script, no remote resource; a content security policy forbids both. Of the HTML that Markdown may
hold only our own anchors pass, and of the links only http(s), mailto and those within the page or
to a neighbouring document.

Source: compliance page, section 12.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from forebear.documents.locale import load_locale
from forebear.drawing import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markdown_it.token import Token

    from forebear.documents.locale import Locale

_ANCHOR = re.compile(r'<a id="([edsn][0-9]+)">|</a>')
_LINK = re.compile(
    r"(https?://|mailto:|#[a-z0-9-]+$)|[A-Za-z0-9._/-]+\.(md|html|csv|json|yaml)(#|$)"
)
_MARKS = {"●": "measured", "○": "declared", "◇": "published"}


def render_html(
    markdown: bytes, *, language: str, title: str, pictures: Mapping[str, str] | None = None
) -> bytes:
    """The page.

    Args:
        markdown: as :func:`forebear.documents.render.render_markdown` gives it.
        language: of the labels, for ``lang``.
        title: of the page.
        pictures: our own SVG, by the caption of the table that it stands below.
    """
    locale = load_locale(language)
    tokens = _parse(markdown.decode())
    contents = list(_number_headings(tokens))
    _shape_tables(tokens, locale)
    _add_pictures(tokens, pictures or {})
    _name_marks(tokens, locale)
    end = next((i for i, t in enumerate(tokens, 1) if t.type == "heading_close"), 0)
    page = _environment().get_template("page.html.j2").render(
        language=language,
        title=title,
        drawing=Markup(STYLE) if pictures else "",  # noqa: S704  # our own style sheet
        heading=_safe(tokens[:end]),
        contents=contents,
        contents_label=locale.text("contents"),
        body=_safe(tokens[end:]),
    )  # fmt: skip
    return page.encode()


def _safe(tokens: Sequence[Token]) -> Markup:
    parser = _renderer()
    # made by the parser from text that was escaped when it became Markdown
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("forebear.documents"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip


@cache
def _renderer() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.validateLink = lambda url: _LINK.match(url) is not None  # type: ignore[method-assign]
    parser.add_render_rule("html_inline", _only_anchors)
    parser.add_render_rule("html_block", _only_anchors)
    parser.add_render_rule("picture", lambda _, tokens, index, *__: tokens[index].content)
    return parser


def _parse(text: str) -> list[Token]:
    tokens: list[Token] = _renderer().parse(text)
    return tokens


def _only_anchors(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    from markdown_it.common.utils import escapeHtml

    content = tokens[index].content
    return content if _ANCHOR.fullmatch(content) else escapeHtml(content)


def _number_headings(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Gives each heading of the second level an anchor; anchor and text of each."""
    number = 0
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            number += 1
            token.attrSet("id", f"n{number}")
            yield f"n{number}", "".join(c.content for c in inline.children or ())


def _shape_tables(tokens: list[Token], locale: Locale) -> None:
    """Captions, scopes of headers, and a frame that scrolls on a narrow screen."""
    from markdown_it.token import Token

    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.type == "table_open":
            caption = _caption(tokens, index)
            region = {"class": "scroll", "role": "region", "tabindex": "0"}
            region["aria-label"] = caption or locale.text("table")
            frame = Token("frame_open", "div", 1, attrs=dict(region), block=True)
            tokens.insert(index, frame)
            index += 1
            if caption:
                inner = Token("caption_open", "caption", 1, block=True)
                text = Token("text", "", 0, content=caption)
                line = Token("inline", "", 0, content=caption, children=[text])
                tokens[index + 1 : index + 1] = [inner, line, Token("caption_close", "caption", -1)]
                del tokens[index - 4 : index - 1]
                index -= 3
        elif token.type == "table_close":
            tokens.insert(index + 1, Token("frame_close", "div", -1, block=True))
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        elif token.type == "tr_open" and tokens[index + 1].type == "td_open":
            _head_row(tokens, index + 1)
        index += 1


def _add_pictures(tokens: list[Token], pictures: Mapping[str, str]) -> None:
    """Each picture below the table whose caption names it."""
    from markdown_it.token import Token

    end = 0
    for index in range(len(tokens) - 1, 0, -1):
        if tokens[index].type == "frame_close":
            end = index + 1
        elif tokens[index - 1].type == "caption_open" and tokens[index].content in pictures:
            picture = pictures[tokens[index].content]
            tokens.insert(end, Token("picture", "", 0, content=picture))


def _caption(tokens: Sequence[Token], index: int) -> str:
    """Text of a paragraph of bold text alone right before a table."""
    if index < 3 or tokens[index - 1].type != "paragraph_close":
        return ""
    children = [c for c in tokens[index - 2].children or () if c.type != "text" or c.content]
    kinds = [c.type for c in children]
    if len(kinds) < 3 or (kinds[0], kinds[-1]) != ("strong_open", "strong_close"):
        return ""
    return "".join(c.content for c in children[1:-1])


def _head_row(tokens: Sequence[Token], index: int) -> None:
    """The first cell of a row names it."""
    tokens[index].tag = "th"
    tokens[index].attrSet("scope", "row")
    depth = index
    while tokens[depth].type != "td_close":
        depth += 1
    tokens[depth].tag = "th"


def _name_marks(tokens: Sequence[Token], locale: Locale) -> None:
    """Marks say in words what they mean, for those who do not see them."""
    for token in tokens:
        children = token.children or []
        for link, text in itertools.pairwise(children):
            if link.type == "link_open" and text.content in _MARKS:
                kind = _MARKS[text.content]
                number = str(link.attrGet("href") or "").rpartition("#")[2][1:]
                link.attrSet("class", f"mark {kind}")
                link.attrSet("title", locale.text(f"mark.{kind}", number=number))
                link.attrSet("aria-label", locale.text(f"mark.{kind}", number=number))
