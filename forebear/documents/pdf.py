"""PDF of a page, through the optional extra ``pdf`` (WeasyPrint, which needs Pango).

Source: compliance page, section 12.
"""

from __future__ import annotations

import re

from forebear.drawing import STYLE
from forebear.errors import MissingExtra

_PICTURE = re.compile(r'<svg class="fb"[^>]*>')
_COLOURS = re.compile(r"svg\.fb \{([^}]*)\}")
_VARIABLE = re.compile(r"(--fb-\w+): ?(#[0-9a-f]{3,6})")


def render_pdf(html: bytes) -> bytes:
    """The page as PDF; nothing is fetched.

    Raises:
        MissingExtra: WeasyPrint, or a library that it needs, is not installed.
    """
    try:
        from weasyprint import HTML
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:
        # OSError: the package is there, Pango is not
        raise MissingExtra("pdf", "PDF (WeasyPrint, with the system library Pango)") from error
    nothing = URLFetcher(allowed_protocols=())
    pdf = HTML(string=_with_styled_pictures(html.decode()), url_fetcher=nothing).write_pdf(
        pdf_identifier=b"forebear", pdf_variant="pdf/ua-1"
    )
    return bytes(pdf)


def _with_styled_pictures(html: str) -> str:
    """The page whose pictures bring their own style along.

    WeasyPrint shows a picture without the page's style sheet, and knows no variables in it.
    """
    colours = _COLOURS.search(html)
    if colours is None:
        return html
    style = STYLE.rpartition("svg.fb{")[2].partition("}")[2]
    for name, colour in _VARIABLE.findall(colours[1]):
        style = style.replace(f"var({name})", colour)
    return _PICTURE.sub(lambda match: f"{match[0]}<style>{style}</style>", html)
