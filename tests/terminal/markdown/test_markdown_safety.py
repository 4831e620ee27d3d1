"""Whatever a model writes, the terminal only prints: checked on the raw output and on the screen."""

import re
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tanuki_cli.terminal.answer import AnswerStream, PlainStream
from tanuki_cli.terminal.markdown.inline import inline_spans
from tanuki_cli.terminal.markdown.stream import MarkdownStream
from tanuki_cli.terminal.theme import THEMES, Look
from tests.support.calls import calls_of
from tests.support.screen import Screen
from tests.terminal.markdown.test_markdown import counter, markdown_text
from tests.text.test_sanitize import hostile_text, is_safe

OURS = re.compile(r"\x1b\[(?:(?:[0-9]+(?:;[0-9]+)*)m|[0-9]+A|J|\?2026[hl])|\r(?!\n)")
BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")

introducers = st.sampled_from(("\x1b", *(f"\x1b{char}" for char in "[]P_^X"), *"\x9b\x9d\x90\x9f\x98"))
parameters = st.text("0123456789;?$ \"'>=!*+", max_size=6)
finals = st.sampled_from((*"ABCDHJKLMPSTXZ@fhlmnqrstucgi78=>", "\x07", "\x1b\\", "\x9c", "\x18"))
sequences = st.tuples(introducers, parameters, finals).map("".join)
entities = st.integers(0, 0x10FFFF).map(lambda code: f"&#{code};")
percent = st.integers(0, 255).map(lambda code: f"[x](http://a/%{code:02X}%9B)")
attack = st.lists(
    st.one_of(sequences, hostile_text, markdown_text, entities, percent), min_size=1, max_size=6
).map("".join)


def markdown(write: Callable[[str], object]) -> AnswerStream:
    look = Look(theme=THEMES["dark"])
    return MarkdownStream(write, look=look, width=lambda: 40, height=lambda: 10, clock=counter())


@pytest.mark.parametrize("make", [markdown, PlainStream], ids=["markdown", "plain"])
@settings(max_examples=100)
@given(text=attack, size=st.integers(1, 9))
def test_output_is_printing_newlines_and_our_own_sequences(
    make: Callable[[Callable[[str], object]], AnswerStream], text: str, size: int
) -> None:
    written: list[str] = []
    stream = make(written.append)
    for start in range(0, len(text), size):
        stream.feed(text[start : start + size])
    stream.finish()
    output = "".join(written)
    rest = OURS.sub("", output) if make is markdown else output
    assert all(map(is_safe, rest))
    assert not BIDI.search(rest)
    output.encode("utf-8")


@settings(max_examples=60)
@given(text=attack, size=st.integers(1, 9))
def test_the_terminal_is_as_before_but_for_the_text(text: str, size: int) -> None:
    screen = Screen(40, 10)
    before = screen.state()
    stream = markdown(screen.feed)
    for start in range(0, len(text), size):
        stream.feed(text[start : start + size])
    stream.finish()
    assert screen.state() == before
    assert screen.raw.cursor.x == 0


def test_the_screen_would_notice() -> None:
    for sequence in ("\x1b]0;evil\x07", "\x1b[?1049h", "\x1b[?25l", "\x1b[31m", "\x1b[3;5r"):
        screen = Screen(40, 10)
        before = screen.state()
        screen.feed(sequence)
        assert screen.state() != before, repr(sequence)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;ZXZpbA==\x07", "␛]52;c;ZXZpbA==␇"),
        ("**a\x1b[31mb**", "a␛[31mb"),
        ("`\x9b2J`", "<U+009B>2J"),
        ("&#x202e;abc", "<U+202E>abc"),
        ("[a](http://x/%1B%5D52)", "a (http://x/%1B%5D52)"),
        ("```\x1b]0;t\x07\nx", "```␛]0;t␇\nx\n```"),
        ("|a\x1b[2J|b|\n|-|-|\n|\x07|2|", "a␛[2J │ b\n──────┼──\n␇     │ 2"),
        ("a\rb", "a␍b"),
        ("[red]text[/red]", "[red]text[/red]"),
    ],
)
def test_attacks_are_shown(text: str, shown: str) -> None:
    screen = Screen(40, 10)
    stream = markdown(screen.feed)
    stream.feed(text)
    stream.finish()
    assert "\n".join(screen.display) == shown


def test_plain_text_streams_at_once_and_ends_with_one_newline() -> None:
    written: list[str] = []
    stream = PlainStream(written.append)
    stream.feed("こん")
    assert written == ["こん"]
    stream.feed("にちは\n\n")
    stream.draw()
    stream.feed("続き\n")
    stream.finish()
    assert "".join(written) == "こんにちは\n\n続き\n"


def draw(text: str) -> None:
    stream = markdown(lambda _text: None)
    stream.feed(text)
    stream.finish()


UNITS = (
    "[", "[a", "![", "[a](", "[]", "[a](b)", "[[a]", "(", "<", "<a", "&", "&amp;", "`", "`a``", "*", "*a ",
    "**a",
    "_a",
    "~~a", "$", "$a", "\\", "#", "# ", ">", "> ", "- ", "* * ", "1. ", "|", "|a", "a", "あ",
    "「", "。",
    "🇯🇵", "e\u0301",
    "\u200d", "a\n", "*a\n", "|a|\n", "> a\n", "- a\n", "# a\n", "```\n", "\n",
)  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_drawing_takes_work_in_proportion_to_the_length(unit: str) -> None:
    once, twice = (calls_of(partial(draw, (unit * size)[:size])) for size in (1500, 3000))
    assert twice < 2.8 * once + 2000


@pytest.mark.parametrize("unit", [unit for unit in UNITS if "\n" not in unit])
def test_reading_one_paragraph_takes_work_in_proportion_to_its_length(unit: str) -> None:
    """However long it is, although the longest is cut: every frame reads the last part anew."""
    theme = THEMES["dark"]
    once, twice = (calls_of(partial(inline_spans, (unit * size)[:size], theme)) for size in (400, 800))
    assert twice < 2.8 * once + 500


@pytest.mark.parametrize("unit", ["[", "[a", "!["])
def test_brackets_that_never_close_are_not_read_again_for_each_of_them(unit: str) -> None:
    assert calls_of(partial(draw, (unit * 3000)[:3000])) < 150 * 3000


def test_a_table_with_columns_beyond_reason_is_shown_as_text() -> None:
    for columns, is_table in ((100, True), (1000, False)):
        written: list[str] = []
        stream = markdown(written.append)
        stream.feed("|" + "a|" * columns + "\n|" + "-|" * columns + "\n|" + "b|" * columns + "\n")
        stream.finish()
        assert ("-|-" not in "".join(written)) == is_table
    head = "|" + "a|" * 12_000 + "\n|" + "-|" * 12_000 + "\n"
    assert calls_of(partial(draw, head)) < 400 * len(head)
