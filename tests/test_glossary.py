"""The words of .github/GLOSSARY.md, in the messages and on the pages of both languages."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from babel.messages.pofile import read_po

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "tanuki_cli"
LANGUAGES: Final = ("ja", "en")
# A term that another one begins with is forbidden only where it is not that one.
_LONGER: Final = {"フォルダ": "ー", "サーバ": "ー", "ユーザ": "ー", "トークナイザ": "ー"}
# Names of others, and what is typed.
_CODE: Final = re.compile(r"^```.*?^```|`[^`\n]*`|^  .*$|\]\([^)]*\)|https?://\S+", re.MULTILINE | re.DOTALL)
# A number that is about right (text/counts.py) brings its blank along, or ends in 万 and needs none.
_COUNTED: Final = re.compile(r"\}(?=文字|トークン)")
_SPACED: Final = re.compile(r"[ぁ-んァ-ヶー一-龥々][A-Za-z0-9{]|[A-Za-z0-9}][ぁ-んァ-ヶー一-龥々]")


def forbidden(language: str) -> list[re.Pattern[str]]:
    """The "not" of the table."""
    patterns = []
    for row in (ROOT / ".github" / "GLOSSARY.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        if len(cells) == 4 and cells[0].strip("| ") == language:
            for term in (word.strip() for word in cells[2].split(", ")):
                longer = _LONGER.get(term, "")
                edge = r"\b" if term.isascii() and term[:1].isalpha() else ""
                patterns.append(
                    re.compile(edge + re.escape(term) + (f"(?!{longer})" if longer else ""), re.IGNORECASE)
                )
    return patterns


def messages(language: str) -> Iterator[tuple[str, str]]:
    """Where a message stands, and its text in ``language``."""
    for path in sorted((PACKAGE / "locale" / "ja").glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file):
                if message.id:
                    yield path.name, str(message.string if language == "ja" else message.id)


def pages(language: str) -> Iterator[tuple[str, str]]:
    paths = sorted((PACKAGE / "docs" / language).glob("*.md"))
    for path in [*paths, *([ROOT / "README.md"] if language == "ja" else [])]:
        yield path.name, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_term_that_has_a_better_one_is_used(language: str) -> None:
    patterns = forbidden(language)
    assert len(patterns) > 8
    found = []
    for place, text in [*messages(language), *pages(language)]:
        plain = _CODE.sub("", text)
        for match in filter(None, (pattern.search(plain) for pattern in patterns)):
            found.append(f"{place}: {match[0]}: {plain[max(0, match.start() - 30) : match.end() + 20]!r}")
    assert not found, "\n".join(found)


def test_japanese_and_latin_letters_stand_apart_in_messages() -> None:
    found = [
        f"{place}: {match[0]!r} in {text!r}"
        for place, text in messages("ja")
        if (match := _SPACED.search(_COUNTED.sub("} ", _CODE.sub("", text))))
        and not text.startswith("{attachment}")
    ]
    assert not found, "\n".join(found)


def test_every_term_of_the_table_would_be_found() -> None:
    for language in LANGUAGES:
        for pattern in forbidden(language):
            term = re.sub(r"\(\?!.*\)|\\b|\\", "", pattern.pattern)
            assert pattern.search(f"x {term} x"), pattern.pattern
