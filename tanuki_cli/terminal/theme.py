"""Styles, the colours of answers for dark and light terminals, and their SGR sequences.

Only the sixteen colours of the terminal's own palette are used, so an answer fits what the user
chose there; a light background only takes other ones of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

ThemeName = Literal["dark", "light"]


@dataclass(frozen=True, slots=True)
class Style:
    """How a piece of text looks; ``color`` is an SGR foreground code, 0 for the terminal's own."""

    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    strike: bool = False
    color: int = 0

    def over(self, base: "Style") -> "Style":
        """This style on top of ``base``: attributes add up, an own colour wins."""
        return Style(
            self.bold or base.bold,
            self.dim or base.dim,
            self.italic or base.italic,
            self.underline or base.underline,
            self.strike or base.strike,
            self.color or base.color,
        )

    def sgr(self) -> str:
        """The SGR parameters, empty for plain text."""
        codes = [
            code
            for on, code in (
                (self.bold, "1"),
                (self.dim, "2"),
                (self.italic, "3"),
                (self.underline, "4"),
                (self.strike, "9"),
                (self.color, str(self.color)),
            )
            if on
        ]
        return ";".join(codes)


PLAIN: Final = Style()
RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = 31, 32, 33, 34, 35, 36
BRIGHT: Final = 60
GRAY: Final = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """The styles of an answer. ``syntax`` maps names of Pygments token types to styles."""

    heading: Style
    code: Style
    link: Style
    url: Style
    faint: Style
    marker: Style
    syntax: Mapping[str, Style]

    def without_color(self) -> "Theme":
        """The same for ``NO_COLOR``: bold, italic and underline stay, colours go."""
        fields = ("heading", "code", "link", "url", "faint", "marker")
        return Theme(
            syntax={name: replace(style, color=0) for name, style in self.syntax.items()},
            **{field: replace(getattr(self, field), color=0) for field in fields},
        )


def _theme(*, bright: int, faint: Style) -> Theme:
    """Both themes differ only in ``bright``, added to the colours that must stand out."""
    return Theme(
        heading=Style(bold=True, color=CYAN + bright),
        code=Style(color=YELLOW + bright if bright else MAGENTA),
        link=Style(underline=True, color=BLUE + bright),
        url=faint,
        faint=faint,
        marker=Style(color=CYAN + bright),
        syntax={
            "Comment": replace(faint, italic=True),
            "Comment.Preproc": Style(color=MAGENTA + bright),
            "Keyword": Style(bold=True, color=BLUE + bright),
            "Keyword.Constant": Style(color=MAGENTA + bright),
            "Literal.Number": Style(color=MAGENTA + bright),
            "Literal.String": Style(color=GREEN + bright),
            "Name.Attribute": Style(color=CYAN + bright),
            "Name.Builtin": Style(color=CYAN + bright),
            "Name.Class": Style(bold=True, color=CYAN + bright),
            "Name.Decorator": Style(color=MAGENTA + bright),
            "Name.Function": Style(color=CYAN + bright),
            "Name.Tag": Style(bold=True, color=BLUE + bright),
            "Operator.Word": Style(bold=True, color=BLUE + bright),
            "Generic.Deleted": Style(color=RED + bright),
            "Generic.Inserted": Style(color=GREEN + bright),
            "Generic.Heading": Style(bold=True),
            "Generic.Prompt": faint,
        },
    )


THEMES: Final[Mapping[ThemeName, Theme]] = {
    "dark": _theme(bright=BRIGHT, faint=Style(color=GRAY)),
    "light": _theme(bright=0, faint=Style(dim=True)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What an answer is drawn with: its styles and the terminal's width of ambiguous characters."""

    theme: Theme
    ambiguous: int = 1

    @property
    def bullets(self) -> str:
        """Markers of bullet lists by depth; ASCII where the usual ones would take two cells."""
        return "•◦" if self.ambiguous == 1 else "-*"

    @property
    def lines(self) -> tuple[str, str, str]:
        """Horizontal, vertical and crossing line, one cell each."""
        return ("─", "│", "┼") if self.ambiguous == 1 else ("-", "|", "+")


def detect_theme(setting: str, environ: Mapping[str, str]) -> ThemeName:
    """The theme for the setting ``auto``, ``dark`` or ``light``; auto reads ``COLORFGBG``, else dark."""
    if setting in ("dark", "light"):
        return "light" if setting == "light" else "dark"
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    return "light" if background in {"7", "15"} else "dark"


def ansi(text: str, style: Style) -> str:
    """``text`` with ``style`` as SGR sequences; plain text without any."""
    sgr = style.sgr()
    return f"\x1b[{sgr}m{text}\x1b[0m" if sgr and text else text
