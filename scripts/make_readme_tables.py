"""Write the tables of keys and slash commands into README.md, from the tables the program uses.

python -m scripts.make_readme_tables            writes README.md
python -m scripts.make_readme_tables --check    exit code 1 if it is not up to date

A table is between ``<!-- keys:ja -->`` and ``<!-- /keys:ja -->``; likewise keys:en, commands:ja, commands:en.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tanuki_cli.i18n import LANGUAGES, Language, _, activate, active_language
from tanuki_cli.terminal.chat.commands import COMMANDS
from tanuki_cli.terminal.chat.help import KEYS

README: Final = Path(__file__).resolve().parent.parent / "README.md"
_HEADS: Final[dict[Language, dict[str, tuple[str, str]]]] = {
    "ja": {"keys": ("キー", "動作"), "commands": ("コマンド", "動作")},
    "en": {"keys": ("key", "does"), "commands": ("command", "does")},
}


class MarkerError(Exception):
    """README.md lacks a table's markers, or has them twice; the message names the table."""


def table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    """A Markdown table of two columns; a ``|`` in a cell is escaped."""
    cells = [head, ("---", "---"), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def tables(language: Language) -> dict[str, str]:
    """The tables by name, in ``language``; leaves the active language as it was."""
    before = active_language()
    activate(language)
    try:
        rows = {
            "keys": [(key, _(summary)) for key, summary in KEYS],
            "commands": [(f"`{command.usage}`", _(command.summary)) for command in COMMANDS],
        }
    finally:
        activate(before)
    return {name: table(_HEADS[language][name], rows[name]) for name in rows}


def with_tables(readme: str) -> str:
    """``readme`` with all tables as they are now. Raises MarkerError."""
    for language in LANGUAGES:
        for name, text in tables(language).items():
            readme = _replaced(readme, f"{name}:{language}", text)
    return readme


def _replaced(readme: str, name: str, text: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    readme, count = pattern.subn(lambda match: f"{match[1]}{text}\n{match[2]}", readme)
    if count != 1:
        raise MarkerError(f"README.md has {count} tables {name}, not one")
    return readme


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check README.md; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if not up to date")
    parser.add_argument("--readme", type=Path, default=README)
    options = parser.parse_args(arguments)
    old = options.readme.read_text(encoding="utf-8")
    new = with_tables(old)
    if options.check:
        if new != old:
            print("README.md is not up to date: python -m scripts.make_readme_tables", file=sys.stderr)
        return int(new != old)
    options.readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
