"""Write the tables of README and of the pages of ``tanuki help`` from the tables that the program uses.

python -m scripts.make_tables            writes the files
python -m scripts.make_tables --check    exit code 1 if one is not up to date

A table stands between ``<!-- keys -->`` and ``<!-- /keys -->``; likewise slash, options and codes.
The language is that of the file.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tanuki_cli.errors import EXIT_MEANINGS
from tanuki_cli.i18n import Language, _, activate, active_language
from tanuki_cli.options import OptionSpec
from tanuki_cli.settings.specs import SPECS
from tanuki_cli.terminal.chat.commands import COMMANDS
from tanuki_cli.terminal.chat.help import KEYS

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "tanuki_cli" / "docs"
_HEADS: Final[dict[Language, dict[str, tuple[str, ...]]]] = {
    "ja": {
        "keys": ("キー", "動作"),
        "slash": ("コマンド", "動作"),
        "options": ("設定名", "値", "既定値", "内容"),
        "codes": ("終了コード", "意味"),
    },
    "en": {
        "keys": ("key", "does"),
        "slash": ("command", "does"),
        "options": ("key", "values", "default", "meaning"),
        "codes": ("exit code", "meaning"),
    },
}
_MARKED: Final = re.compile(r"(<!-- (\w+) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)


class MarkerError(Exception):
    """A file has a mark that no table belongs to, or a mark without its partner; the message names it."""


def files() -> list[Path]:
    """README and all pages."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*/*.md"))]


def language_of(path: Path) -> Language:
    """English for what is under docs/en, else Japanese."""
    return "en" if path.parent.name == "en" else "ja"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is its head; a ``|`` in a cell is escaped."""
    head, *body = rows
    cells = [head, ["---"] * len(head), *body]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in cells)


def tables(language: Language) -> dict[str, str]:
    """All tables by name, in ``language``; leaves the active language as it was."""
    before = active_language()
    activate(language)
    try:
        rows: dict[str, list[tuple[str, ...]]] = {
            "keys": [(key, _(summary)) for key, summary in KEYS],
            "slash": [(f"`{command.usage}`", _(command.summary)) for command in COMMANDS],
            "options": [(f"`{spec.key}`", values(spec), default(spec), _(spec.help)) for spec in SPECS],
            "codes": [(str(int(code)), _(meaning)) for code, meaning in EXIT_MEANINGS.items()],
        }
    finally:
        activate(before)
    return {name: table([_HEADS[language][name], *rows[name]]) for name in rows}


def values(spec: OptionSpec) -> str:
    """What an option takes, e.g. ``0-2`` or ``f16 | q8_0``."""
    if spec.choices:
        return " | ".join(f"`{choice}`" for choice in spec.choices)
    if spec.kind == "boolean":
        return "`true` | `false`"
    if spec.minimum is not None and spec.maximum is not None:
        return f"{spec.minimum:g}-{spec.maximum:.10g}"
    return spec.metavar


def default(spec: OptionSpec) -> str:
    """The value that holds without a setting; empty where the program chooses."""
    if spec.default in (None, ()):
        return ""
    return f"`{spec.default:g}`" if isinstance(spec.default, float) else f"`{spec.default}`".lower()


def with_tables(text: str, language: Language, *, name: str) -> str:
    """``text`` of the file ``name`` with its tables as they are now. Raises MarkerError."""
    known = tables(language)

    def fresh(match: re.Match[str]) -> str:
        if match[2] not in known:
            raise MarkerError(f"{name}: there is no table {match[2]}")
        return f"{match[1]}{known[match[2]]}{match[4]}"

    result = _MARKED.sub(fresh, text)
    marks = re.findall(r"<!-- (/?\w+) -->", result)
    for opened, closed in zip(marks[::2], [*marks[1::2], ""], strict=False):
        if closed != f"/{opened}":
            raise MarkerError(f"{name}: the table {opened} has no end")
    return result


def main(arguments: Sequence[str] | None = None, *, paths: Sequence[Path] | None = None) -> int:
    """Write or check the files; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if not up to date")
    options = parser.parse_args(arguments)
    code = 0
    for path in files() if paths is None else paths:
        old = path.read_text(encoding="utf-8")
        new = with_tables(old, language_of(path), name=path.name)
        if new == old:
            continue
        if options.check:
            print(f"{path} is not up to date: python -m scripts.make_tables", file=sys.stderr)
            code = 1
        else:
            path.write_text(new, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
