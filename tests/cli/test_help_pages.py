"""``tanuki help``: its pages say the same in both languages, and what they say is so."""

import re
from pathlib import Path

import pytest

from tanuki_cli import __version__
from tanuki_cli.cli.commands import COMMANDS, CommandRow
from tanuki_cli.cli.help_pages import DOCS, page_title, read_page, topics
from tanuki_cli.i18n import LANGUAGES
from tests.support.command_lines import parse, shown_command_lines
from tests.support.program import Terminal, run

PAGES = sorted(DOCS.glob("*/*.md"))
SHOWN = sorted({words for page in PAGES for words in shown_command_lines(page.read_text(encoding="utf-8"))})
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def headings(page: Path) -> list[str]:
    """The headings of a page, outside of its code blocks."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"^#+ .+$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """The name that a heading has in a link on the web."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()).replace(" ", "-")


def name_of(page: Path) -> str:
    return f"{page.parent.name}/{page.stem}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_begins_with_its_title_and_has_a_twin(page: Path) -> None:
    for language in LANGUAGES:
        twin = DOCS / language / page.name
        if not page.stem.islower():  # README's Japanese twin is at the top of the project
            continue
        levels, own = ([line.split()[0] for line in headings(file)] for file in (twin, page))
        assert levels == own
    assert page.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", _FENCED.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        file, _hash, name = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.is_file(), target
        assert not name or name in map(anchor, headings(linked)), target


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_a_command_line_in_a_page_parses(words: tuple[str, ...]) -> None:
    parse(list(words))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_filter_for_jq_is_one(page: Path) -> None:
    """Names of other scripts stand in quotes there."""
    for written in re.findall(r"\bjq (?:-\w+ )?('[^']*'|[^\s`]+)", page.read_text(encoding="utf-8")):
        assert re.sub(r'"[^"]*"', "", written).isascii(), written


def test_the_changes_begin_with_this_version() -> None:
    for language in LANGUAGES:
        first = headings(DOCS / language / "changes.md")[1]
        assert re.match(rf"## {re.escape(__version__)}(?!\w)", first)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pages_are_listed_with_their_titles(tmp_path: Path, language: str) -> None:
    done = run(tmp_path, "help", "--lang", language)
    assert (done.returncode, done.stderr) == (0, "")
    for topic in topics():
        title = page_title(topic, "ja" if language == "ja" else "en")
        assert re.search(rf"^  {topic} +{re.escape(title)}$", done.stdout, re.MULTILINE)
    assert "README" not in done.stdout


def test_a_page_goes_into_a_pipe_as_it_is(tmp_path: Path) -> None:
    for arguments in (("changes",), ("ＣＨＡＮＧＥＳ",), ("changes.md",)):
        assert run(tmp_path, "help", *arguments).stdout == read_page("changes", "en")
    assert run(tmp_path, "help", "changes", "--lang", "ja").stdout == read_page("changes", "ja")


def test_links_between_pages_and_marks_of_tables_are_for_the_web(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "# A\n\n[Settings](settings.md#files), [the web](https://a.example/b.md)\n<!-- keys -->\n| a |\n"
    (tmp_path / "ja").mkdir()
    (tmp_path / "ja" / "a.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr("tanuki_cli.cli.help_pages.DOCS", tmp_path)
    assert read_page("a", "ja") == (
        "# A\n\nSettings（`tanuki help settings`）, [the web](https://a.example/b.md)\n| a |\n"
    )


@pytest.mark.parametrize("columns", [40, 120])
def test_a_page_is_rendered_and_paged_on_a_terminal(tmp_path: Path, columns: int) -> None:
    env = {"PAGER": "sh -c 'echo PAGED; cat'", "LANG": "ja_JP.UTF-8"}
    with Terminal(tmp_path, ["help", "changes"], columns=columns, lines=10, env=env) as terminal:
        assert terminal.wait_for_exit() == 0
    assert terminal.text.lstrip().startswith("PAGED")
    assert "変更点" in terminal.text
    assert "#" not in terminal.text  # headings are drawn as headings
    assert "`" not in terminal.text


def test_a_page_is_plain_where_it_cannot_be_drawn(tmp_path: Path) -> None:
    with Terminal(tmp_path, ["help", "changes"], lines=100, env={"TERM": "dumb"}) as terminal:
        assert terminal.wait_for_exit() == 0
    assert "## " in terminal.text
    assert b"\x1b" not in terminal.raw


@pytest.mark.parametrize(
    ("topic", "language", "hint"),
    [
        ("chang", "en", "tanuki help changes"),
        ("cahnges", "en", "tanuki help changes"),
        ("変更", "ja", "tanuki help changes"),
        ("xyzzy", "en", "tanuki help"),
        ("../../../README", "en", "tanuki help"),
        ("", "en", "tanuki help"),
    ],
)
def test_an_unknown_topic_names_the_nearest(tmp_path: Path, topic: str, language: str, hint: str) -> None:
    done = run(tmp_path, "help", topic, "--lang", language)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(f": {hint}")


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_the_help_of_a_command_names_its_page(tmp_path: Path, row: CommandRow) -> None:
    assert row.page in topics()
    assert run(tmp_path, row.name, "--help").stdout.endswith(f"\nMore: tanuki help {row.page}\n")


def test_the_help_of_a_command_within_a_command_names_its_page(tmp_path: Path) -> None:
    assert run(tmp_path, "history", "list", "--help").stdout.endswith("\nMore: tanuki help history\n")


def test_a_command_shows_its_help(tmp_path: Path) -> None:
    assert run(tmp_path, "help", "rm").stdout == run(tmp_path, "rm", "--help").stdout
    assert "--again" in run(tmp_path, "help", "compare").stdout


def test_topics_are_completed(tmp_path: Path) -> None:
    env = {"_TANUKI_COMPLETE": "complete_bash", "COMP_WORDS": "tanuki help ", "COMP_CWORD": "2"}
    assert run(tmp_path, env=env).stdout.split() == topics()
