"""The colours of answers for dark and light terminals, and the SGR sequences of styles.

Only the sixteen colours of the terminal's own palette are used, so an answer fits what the user
chose there; a light background only takes other ones of them.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.text.style import Style

ThemeName = Literal["dark", "light"]


RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = 31, 32, 33, 34, 35, 36
BRIGHT: Final = 60
GRAY: Final = 90


class Theme(Struct, frozen=True, kw_only=True):
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


class Look(Struct, frozen=True, kw_only=True):
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


def detect_theme(setting: str, environ: Mapping[str, str], *, measured: ThemeName | None = None) -> ThemeName:
    """The theme for the setting ``auto``, ``dark`` or ``light``.

    auto is what the terminal told when it was asked, else what ``COLORFGBG`` says, else dark.
    """
    if setting in ("dark", "light"):
        return "light" if setting == "light" else "dark"
    if measured is not None:
        return measured
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    return "light" if background in {"7", "15"} else "dark"


def ansi(text: str, style: Style) -> str:
    """``text`` with ``style`` as SGR sequences; plain text without any."""
    sgr = _sgr(style)
    return f"\x1b[{sgr}m{text}\x1b[0m" if sgr and text else text


def _sgr(style: Style) -> str:
    """The SGR parameters of ``style``, empty for plain text."""
    codes = [
        code
        for on, code in (
            (style.bold, "1"),
            (style.dim, "2"),
            (style.italic, "3"),
            (style.underline, "4"),
            (style.strike, "9"),
            (style.color, str(style.color)),
        )
        if on
    ]
    return ";".join(codes)
