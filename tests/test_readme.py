"""README.md says what the program does: its tables, and every command line in it."""

import re
from pathlib import Path

import pytest

from scripts import make_readme_tables
from tests.support.command_lines import parse, shown_command_lines, tanuki_arguments

TEXT = make_readme_tables.README.read_text(encoding="utf-8")
SHOWN = sorted(shown_command_lines(TEXT))


def test_the_tables_are_up_to_date() -> None:
    assert make_readme_tables.main(["--check"]) == 0


def test_a_changed_table_is_found_and_written(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(TEXT.replace("| `/persona", "| `/character"), encoding="utf-8")
    assert make_readme_tables.main(["--check", "--readme", str(readme)]) == 1
    assert make_readme_tables.main(["--readme", str(readme)]) == 0
    assert readme.read_text(encoding="utf-8") == TEXT


def test_a_missing_table_is_an_error() -> None:
    with pytest.raises(make_readme_tables.MarkerError, match="keys:en"):
        make_readme_tables.with_tables(TEXT.replace("<!-- keys:en -->", ""))


def test_the_readme_shows_command_lines_of_both_kinds() -> None:
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


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:\]\(|src=\")(scripts/[^)\"]+)", TEXT))))
def test_a_file_the_readme_refers_to_is_there(target: str) -> None:
    assert (make_readme_tables.README.parent / target).is_file()
