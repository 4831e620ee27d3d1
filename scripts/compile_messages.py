"""Merge tanuki_cli/locale/ja/*.po into the catalogue that the program reads.

python -m scripts.compile_messages            writes tanuki.mo
python -m scripts.compile_messages --check    exit code 1 if it is not up to date
"""

import argparse
import io
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po

LOCALE_DIR: Final = Path(__file__).resolve().parent.parent / "tanuki_cli" / "locale"
# Babel does not know this escape; it keeps the lines of a paragraph of --help apart.
_BACKSPACE: Final = re.compile(rb"((?<!\\)(?:\\\\)*)\\b")


class CatalogueError(Exception):
    """A catalogue cannot be used; the message names file and msgid."""


class PlainCatalog(Catalog):
    """Without the dates and versions that Babel puts into the header: the same messages, the same bytes."""

    def __iter__(self) -> Iterator[Message]:
        _header, *messages = super().__iter__()
        return iter([Message("", "Content-Type: text/plain; charset=utf-8"), *messages])


def merge(paths: Iterable[Path]) -> dict[str, str]:
    """All messages and their translations.

    Raises CatalogueError for a file that cannot be parsed, a fuzzy or empty translation, and for one
    message with two translations.
    """
    merged: dict[str, tuple[str, Path]] = {}
    for path in sorted(paths):
        try:
            text = _BACKSPACE.sub(rb"\1\b", path.read_bytes())
            catalog = read_po(io.BytesIO(text), abort_invalid=True, charset="utf-8")
        except (PoFileError, ValueError, OSError) as exc:
            raise CatalogueError(f"{path.name}: {exc}") from exc
        for message in catalog:
            if not message.id:
                continue
            if not isinstance(message.id, str) or not isinstance(message.string, str):
                raise CatalogueError(f"{path.name}: plural forms are not used here: {message.id!r}")
            if message.fuzzy or not message.string:
                raise CatalogueError(f"{path.name}: no finished translation of {message.id!r}")
            string, other = merged.setdefault(message.id, (message.string, path))
            if string != message.string:
                raise CatalogueError(f"{path.name} and {other.name} differ on {message.id!r}")
    return {msgid: string for msgid, (string, _path) in merged.items()}


def compile_catalogue(messages: dict[str, str]) -> bytes:
    """The ``.mo`` file; the same messages give the same bytes."""
    catalog = PlainCatalog(locale="ja", charset="utf-8")
    for msgid, string in messages.items():
        catalog.add(msgid, string)
    buffer = io.BytesIO()
    write_mo(buffer, catalog)
    return buffer.getvalue()


def main(arguments: list[str]) -> int:
    """Compile every language, or check that it was done."""
    parser = argparse.ArgumentParser(description="Compile the message catalogues.")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a catalogue is not up to date")
    check = parser.parse_args(arguments).check
    for directory in sorted(path for path in LOCALE_DIR.iterdir() if any(path.glob("*.po"))):
        target = directory / "LC_MESSAGES" / "tanuki.mo"
        try:
            messages = merge(directory.glob("*.po"))
        except CatalogueError as error:
            print(error, file=sys.stderr)
            return 1
        compiled = compile_catalogue(messages)
        if target.exists() and target.read_bytes() == compiled:
            continue
        if check:
            print(f"{target} is not up to date: run python -m scripts.compile_messages", file=sys.stderr)
            return 1
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(compiled)
        print(f"{target}: {len(messages)} messages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
