"""Draw the pictures of README.md: the real program on a pseudo-terminal, its screen saved as SVG.

python -m scripts.make_screens            writes scripts/screens/*.svg

The answers are the practice model's own, at temperature 0.
"""

import html
import io
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tanuki_cli.i18n import LANGUAGES, Language
from tanuki_cli.text.width import cell_width
from tests.support.program import Terminal

FOLDER: Final = Path(__file__).resolve().parent / "screens"
_COLUMNS: Final = 80
_LINES: Final = 38
_TIMEOUT_S: Final = 120.0
_QUIET_S: Final = 0.4
_PROMPT: Final = "> "
_TEXT: Final = re.compile(
    r'(?P<before><text [^>]*textLength=")(?P<length>[\d.]+)(?P<after>"[^>]*>)(?P<text>[^<]+)<'
)
# The reader's own fonts only: a picture must not fetch anything.
_FORMAT: Final = (
    re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    .replace("<!-- Generated with Rich https://www.textualize.io -->", "")
    .replace("font-variant-east-asian: full-width;", "white-space: pre;")
    .replace(
        "Fira Code, monospace",
        "Menlo, Consolas, 'DejaVu Sans Mono', 'Hiragino Sans', 'BIZ UDGothic', 'Noto Sans CJK JP', monospace",
    )
)
_CHAT: Final = ("chat", "-m", "mame", "--temperature", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One picture: what is typed into a chat in each language."""

    name: str
    typed: dict[Language, tuple[str, ...]]


SCENES: Final = (
    Scene(
        name="chat",
        typed={
            "ja": ("あなたは誰?", "信楽焼のたぬきについて教えて", "/context"),
            "en": ("Who are you?", "What do tanuki eat?", "/context"),
        },
    ),
    Scene(
        name="history",
        typed={
            "ja": (
                "たぬきはどんな動物?",
                "/new",
                "分福茶釜ってどんな話?",
                "/retry",
                "/history",
                "/search たぬき",
            ),
            "en": (
                "What is a tanuki?",
                "/new",
                "Tell me about Bunbuku Chagama",
                "/history",
                "/search tanuki",
            ),
        },
    ),
)


def rich_style(cell: Any) -> Style:
    """The style of a cell of the terminal's screen."""
    return Style(
        color=_color(cell.fg),
        bgcolor=_color(cell.bg),
        bold=cell.bold,
        italic=cell.italics,
        underline=cell.underscore,
        strike=cell.strikethrough,
        reverse=cell.reverse,
    )


def _color(name: str) -> str | None:
    if name == "default":
        return None
    if len(name) == 6 and all(digit in "0123456789abcdefABCDEF" for digit in name):
        return f"#{name}"
    # pyte's names are those of the 1980s: brown is the yellow of the eight colours.
    bright = name.startswith("bright")
    plain = {"brown": "yellow"}.get(name.removeprefix("bright"), name.removeprefix("bright"))
    return f"bright_{plain}" if bright else plain


def rich_text(line: Any, columns: int) -> Text:
    """A line of the terminal's screen; the empty second cell of a wide character is left out."""
    text = Text(no_wrap=True)
    for x in range(columns):
        data = line[x].data
        if data:
            # Unlike styles stay apart in the picture, and so wide characters from narrow ones: each run
            # is stretched to its cells, whatever font the reader has.
            text.append(data, rich_style(line[x]) + Style(meta={"cells": cell_width(data)}))
    return text


def svg(terminal: Terminal, *, title: str) -> str:
    """The window of ``terminal`` as a picture, without the blank lines at its end."""
    screen = terminal.screen
    lines = [rich_text(screen.raw.buffer[y], screen.columns) for y in range(screen.lines)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    console = Console(
        file=io.StringIO(), record=True, width=screen.columns, force_terminal=True, color_system="truecolor"
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    picture = console.export_svg(
        title=title, theme=MONOKAI, code_format=_FORMAT, unique_id=title.replace(" ", "-")
    )
    return _in_cells(picture)


def _in_cells(picture: str) -> str:
    """``picture`` with the length of each text counted in cells; rich counts characters."""

    def stretched(match: re.Match[str]) -> str:
        text = html.unescape(match["text"])
        length = float(match["length"]) / len(text) * cell_width(text)
        return f"{match['before']}{length:g}{match['after']}{match['text']}<"

    return _TEXT.sub(stretched, picture)


def _wait(terminal: Terminal, done: Callable[[], bool]) -> None:
    """Until ``done`` and nothing more comes for a moment."""
    deadline = time.monotonic() + _TIMEOUT_S
    while terminal.pump(_QUIET_S) or not done():
        if time.monotonic() > deadline:
            raise TimeoutError(terminal.text)


def _at_prompt(terminal: Terminal) -> bool:
    row = terminal.screen.window[terminal.screen.raw.cursor.y]
    return row.startswith(_PROMPT.strip()) and terminal.screen.raw.cursor.x == len(_PROMPT)


def draw(home: Path, scene: Scene, language: Language) -> str:
    """Run ``scene`` and return its picture."""
    arguments: Sequence[str] = ("--lang", language, *_CHAT)
    with Terminal(
        home, arguments, columns=_COLUMNS, lines=_LINES, env={"COLORTERM": "truecolor"}
    ) as terminal:
        _wait(terminal, lambda: _at_prompt(terminal))
        for line in scene.typed[language]:
            terminal.type(line)
            _wait(terminal, lambda: not _at_prompt(terminal))
            terminal.type("\r")
            _wait(terminal, lambda: _at_prompt(terminal))
        return svg(terminal, title="tanuki chat")


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for scene in SCENES:
        for language in LANGUAGES:
            with tempfile.TemporaryDirectory() as home:
                picture = draw(Path(home), scene, language)
            path = FOLDER / f"{scene.name}-{language}.svg"
            path.write_text(picture, encoding="utf-8")
            print(path.name)


if __name__ == "__main__":
    main()
