"""Figures as inline SVG: pure functions of numbers, for the gate's report and the documents.

No script, no font, no remote asset; the same numbers give the same bytes. Every figure has a name
and a description that a screen reader reads, and tells verdicts by shape as well as by colour.
"""

from __future__ import annotations

from forebear.drawing.forest import Difference, Words, forest
from forebear.drawing.marks import STYLE, Mark, tracks
from forebear.drawing.panels import Bar, Bin, bars, reliability

__all__ = [
    "STYLE",
    "Bar",
    "Bin",
    "Difference",
    "Mark",
    "Words",
    "bars",
    "forest",
    "reliability",
    "tracks",
]
