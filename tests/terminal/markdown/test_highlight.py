"""Code is coloured line by line as Pygments colours it whole."""

from pathlib import Path

import pytest
from pygments.lexers import get_lexer_by_name

from tanuki_cli.terminal.markdown import highlight
from tanuki_cli.terminal.markdown.highlight import Highlighter
from tanuki_cli.terminal.theme import THEMES
from tanuki_cli.text.style import Style

THEME = THEMES["dark"]
JAVASCRIPT = "const a = `二行の\n${name} 文字列`;\n/* 注釈 */\nclass A extends B { run(x) { return x; } }\n"
RUST = 'fn main() {\n    let s = "a\\n"; // 注釈\n    println!("{}", s);\n}\n'
SHELL = 'for f in *.txt; do\n  echo "$f"  # 注釈\ndone\n'
SQL = "SELECT id, '名前' FROM t -- 注釈\nWHERE x > 1;\n"


def by_line(language: str, code: str) -> list[tuple[str, Style]]:
    highlighter = Highlighter(language, THEME)
    return [
        (char, style)
        for line in code.splitlines()
        for text, style in highlighter.line(line)
        for char in text
        if char.strip()
    ]


def whole(language: str, code: str) -> list[tuple[str, Style]]:
    tokens = get_lexer_by_name(language).get_tokens_unprocessed(code)
    styled = ((highlight._style(kind, THEME), text) for _, kind, text in tokens)
    return [(char, style) for style, text in styled for char in text if char.strip()]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", Path(highlight.__file__).read_text(encoding="utf-8")),
        ("javascript", JAVASCRIPT),
        ("rust", RUST),
        ("sh", SHELL),
        ("sql", SQL),
    ],
)
def test_line_by_line_equals_whole(language: str, code: str) -> None:
    assert by_line(language, code) == whole(language, code)


def test_a_comment_over_several_lines_goes_on() -> None:
    styles = dict(by_line("c", "int a; /* 一\n二 */ int b;\n"))
    assert styles["一"] == styles["二"] == THEME.syntax["Comment"]
    assert styles["b"] != THEME.syntax["Comment"]


@pytest.mark.parametrize("language", ["json", "yaml", "ruby"])
def test_lexers_that_cannot_be_resumed_see_single_lines(language: str) -> None:
    assert any(style.color for _, style in by_line(language, '{"key": "value"}\n'))


@pytest.mark.parametrize("language", ["", "nosuchlanguage", "python\x00"])
def test_unknown_languages_are_plain(language: str) -> None:
    assert Highlighter(language, THEME).line("x = 1") == [("x = 1", Style())]


def test_a_fork_leaves_the_original_alone() -> None:
    highlighter = Highlighter("python", THEME)
    highlighter.line('text = """')
    fork = highlighter.fork()
    fork.line('"""')
    assert highlighter.line("def") == [("def", THEME.syntax["Literal.String"])]
