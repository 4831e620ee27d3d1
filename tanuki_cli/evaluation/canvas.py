"""The elements of an SVG picture.

Texts are escaped, and may be Japanese: their width is estimated by cells, and no font is named beyond the
generic one.
"""

import math
import unicodedata
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

WIDTH: Final = 720.0
MARGIN: Final = 20.0
INK: Final = "#222222"
PALE: Final = "#d8d8d8"
_CELL: Final = 6.6
"""Estimated width of one terminal cell of text at the font size used."""


class Canvas:
    """Collects the elements of one picture."""

    def __init__(self, title: str, height: float) -> None:
        self._height = height
        self._title = title
        self._parts: list[str] = []
        self.rectangle(0, 0, WIDTH, height, "#ffffff")
        self.text(MARGIN, 28, title, size=16)

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> None:
        """At ``x``, ``y``, which is its start, its middle or its end by ``anchor``."""
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        self._parts.append(f'<text {place} fill="{INK}">{escape(_printable(text))}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> None:
        """From one point to another."""
        dashes = ' stroke-dasharray="4 3"' if dashed else ""
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self._parts.append(f'<line {ends} stroke="{colour}"{dashes}/>')

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Filled, its corner at ``x``, ``y``."""
        size = f'width="{width:.1f}" height="{height:.1f}"'
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        """Around ``x``, ``y``."""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')

    def polygon(self, corners: Sequence[tuple[float, float]], colour: str, *, filled: bool = False) -> None:
        """Its outline, or a faint surface within it."""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        fill = f'fill="{colour}" fill-opacity="0.12" stroke-width="2"' if filled else 'fill="none"'
        self._parts.append(f'<polygon points="{points}" stroke="{colour}" {fill}/>')

    def whisker(self, x1: float, x2: float, y: float, colour: str) -> None:
        """A line across with a stroke at each end."""
        self.line(x1, y, x2, y, colour)
        for x in (x1, x2):
            self.line(x, y - 5, x, y + 5, colour)

    def finished(self) -> str:
        """The picture as SVG."""
        size = f'width="{WIDTH:.0f}" height="{self._height:.0f}" viewBox="0 0 {WIDTH:.0f} {self._height:.0f}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" role="img"'
        title = _printable(self._title)
        lines = (f"{head} aria-label={quoteattr(title)}>", f"<title>{escape(title)}</title>")
        return "\n".join((*lines, *self._parts, "</svg>")) + "\n"


def figure(value: float) -> str:
    """A number short enough for a label."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    text = f"{value:.3g}" if value == 0 or abs(value) < 1000 else f"{value:.0f}"
    return text.replace("-", "−")


def _printable(text: str) -> str:
    """``text`` without what XML cannot hold."""
    return "".join(
        character
        if unicodedata.category(character) not in ("Cc", "Cs", "Cn")
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def text_width(text: str) -> float:
    """Estimated, by cells."""
    return _CELL * sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
