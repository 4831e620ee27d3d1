"""README, in both languages, says what the program does, and the tables of the pages are the program's."""

import re
from pathlib import Path

import pytest

from scripts import make_tables
from tests.support.command_lines import parse, shown_command_lines, tanuki_arguments

READMES = {"ja": make_tables.ROOT / "README.md", "en": make_tables.DOCS / "en" / "README.md"}
TEXTS = {language: path.read_text(encoding="utf-8") for language, path in READMES.items()}
SHOWN = sorted(set().union(*map(shown_command_lines, TEXTS.values())))
TARGETS = sorted(
    (language, target)
    for language, text in TEXTS.items()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text)
)


def test_the_tables_are_up_to_date() -> None:
    assert make_tables.main(["--check"]) == 0


def test_every_table_stands_in_a_page_of_each_language() -> None:
    for language in ("ja", "en"):
        pages = [path for path in make_tables.files() if make_tables.language_of(path) == language]
        marks = set(
            re.findall(r"<!-- (\w+) -->", "".join(path.read_text(encoding="utf-8") for path in pages))
        )
        assert marks == set(make_tables.tables(language))


@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_changed_table_is_found_and_written(tmp_path: Path, language: str) -> None:
    right = (make_tables.DOCS / language / "chat.md").read_text(encoding="utf-8")
    page = tmp_path / language / "chat.md"
    page.parent.mkdir()
    page.write_text(right.replace("| `/persona", "| `/character"), encoding="utf-8")
    assert make_tables.main(["--check"], paths=[page]) == 1
    assert make_tables.main([], paths=[page]) == 0
    assert page.read_text(encoding="utf-8") == right


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<!-- keys -->\n| a |\n", "the table keys has no end"),
        ("<!-- keyz -->\n<!-- /keyz -->\n", "there is no table keyz"),
    ],
)
def test_a_mark_without_a_table_is_an_error(text: str, complaint: str) -> None:
    with pytest.raises(make_tables.MarkerError, match=complaint):
        make_tables.with_tables(text, "en", name="page.md")


def test_both_say_the_same_in_the_same_order() -> None:
    shapes = [
        re.findall(r"^(#+ |```|!\[|\| ?-|- )", re.sub(r"^```.*?^```", "```", text, flags=re.M | re.S), re.M)
        for text in TEXTS.values()
    ]
    assert shapes[0] == shapes[1]


def test_each_leads_to_the_other_in_its_first_line_of_text() -> None:
    for language, other in (("ja", "en"), ("en", "ja")):
        line = TEXTS[language].splitlines()[2]
        (target,) = re.findall(r"\]\(([^)]+)\)", line)
        assert (READMES[language].parent / target).resolve() == READMES[other]


def test_it_shows_how_to_run_and_to_test_before_all_else() -> None:
    for text in TEXTS.values():
        block = text.split("```")[1]
        assert re.findall(r"^\S+", block, re.M) == ["./scripts/tanuki", "./scripts/test"]
        assert "\n## " not in text.split("```")[0]


def test_command_lines_of_both_kinds_are_shown() -> None:
    assert ("chat", "-m", "mame") in SHOWN
    assert ("doctor",) in SHOWN
    assert len({words[0] for words in SHOWN}) >= 5


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_a_command_line_in_the_readme_parses(words: tuple[str, ...]) -> None:
    parse(list(words))


@pytest.mark.parametrize("line", ["tanuki chat --no-such-option", "git diff | tanuki ask --modle x"])
def test_a_wrong_command_line_is_found(line: str) -> None:
    (words,) = tanuki_arguments(line)
    with pytest.raises(Exception, match=r"[Nn]o such option"):
        parse(words)


@pytest.mark.parametrize(("language", "target"), TARGETS)
def test_a_file_the_readme_refers_to_is_there(language: str, target: str) -> None:
    assert (READMES[language].parent / target).is_file()


def test_every_page_is_in_the_list() -> None:
    for language, text in TEXTS.items():
        pages = {path.stem for path in (make_tables.DOCS / language).glob("*.md") if path.stem.islower()}
        assert pages == set(re.findall(r"(\w+)\.md(?:#[^)]*)?\)", text)) - {
            "README",
            "CONTRIBUTING",
            "ARCHITECTURE",
        }
