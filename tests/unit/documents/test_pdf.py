"""PDF: the optional extra writes it from the page, fetches nothing, and says when it is absent."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from forebear.documents.html import render_html
from forebear.documents.pdf import render_pdf
from forebear.errors import MissingExtra

if TYPE_CHECKING:
    from pathlib import Path

PAGE = render_html(b"# Title\n\nText\xc2\xa0[\xe2\x97\x8f](#e1)\n", language="en", title="Title")


def test_without_the_extra_the_answer_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(MissingExtra, match="extra 'pdf'") as caught:
        render_pdf(PAGE)
    assert caught.value.fix == "pip install 'forebear[pdf]'"


def _require_weasyprint() -> None:
    """Skips where the package, or the system library that it loads, is absent."""
    try:
        importlib.import_module("weasyprint")
    except (ImportError, OSError) as error:
        pytest.skip(f"WeasyPrint cannot be used here: {str(error).splitlines()[0]}")


def test_a_page_becomes_a_pdf_with_its_title_and_the_same_bytes_twice() -> None:
    _require_weasyprint()
    pdf = render_pdf(PAGE)
    assert pdf.startswith(b"%PDF-")
    assert pdf == render_pdf(PAGE)


def test_a_page_that_asks_for_something_outside_gets_nothing(tmp_path: Path) -> None:
    _require_weasyprint()
    style = "@page { size: 90mm 50mm }"
    file = tmp_path / "outside.css"
    file.write_text(style)
    asking = PAGE.replace(b"</head>", b'<link rel="stylesheet" href="%s"></head>'
                          % file.as_uri().encode())  # fmt: skip
    within = PAGE.replace(b"</head>", f"<style>{style}</style></head>".encode())
    assert render_pdf(asking) == render_pdf(PAGE)
    assert render_pdf(within) != render_pdf(PAGE)
