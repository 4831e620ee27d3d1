"""Nothing foreign acts on the terminal: the sanitiser, whole and streaming."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcwidth

from tanuki_cli.text.sanitize import MAX_ZERO_WIDTH, Sanitizer, sanitize, sanitize_line

DANGEROUS = (
    "\x1b[31m",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]8;;http://evil\x1b\\",
    "\x1b]0;title\x07",
    "\x1bP+q\x1b\\",
    "\x1b_G\x1b\\",
    "\x1b[?1049h",
    "\x1b[2J",
    "\x1bc",
    "\x9b31m",
    "\x9d0;t\x9c",
    "\x90q",
    "\r",
    "\r\n",
    "\n",
    "\b",
    "\a",
    "\x0e",
    "\x7f",
    "\x85",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u061c",
    "\u2028",
    "\u2029",
    "\u00ad",
    "\ufeff",
    "\u200b",
    "\u200d",
    "\ufe0f",
    "\u0301",
    "\u3099",
    "\U000e0101",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\U0001f3f4\U000e0067\U000e0062",
    "\U000e0041",
    "\ud83d",
    "\ufffe",
    "日本",
    "か",
    "👩‍👩‍👧",
    " ",
    "a",
)
hostile_text = st.lists(st.one_of(st.sampled_from(DANGEROUS), st.text(max_size=4)), max_size=20).map("".join)


def is_safe(char: str) -> bool:
    return char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}


@given(hostile_text)
def test_only_printable_characters_newlines_and_tabs_come_out(text: str) -> None:
    shown = sanitize(text)
    assert all(map(is_safe, shown))
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    assert sanitize(shown) == shown


@given(hostile_text, st.data())
def test_streaming_equals_whole_wherever_it_is_split(text: str, data: st.DataObject) -> None:
    sanitizer = Sanitizer()
    pieces = []
    rest = text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(sanitizer.feed(rest[:size]))
        rest = rest[size:]
    pieces.append(sanitizer.finish())
    assert "".join(pieces) == sanitize(text)


@given(hostile_text)
def test_zero_width_characters_never_pile_up(text: str) -> None:
    run = 0
    base = False
    for char in sanitize(text):
        if wcwidth(char) == 0 and char not in "\n\t":
            run += 1
            assert base, "a mark would land on what was printed before"
            assert run <= MAX_ZERO_WIDTH + 6, "a flag has six tags; nothing else may be longer"
        else:
            run, base = 0, char not in "\n\t "


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a␛[31mb"),
        ("\x1b]52;c;eA==\x07", "␛]52;c;eA==␇"),
        ("one\r\ntwo\rthree\r", "one\ntwo␍three␍"),
        ("\x9b2J", "<U+009B>2J"),
        ("abc\u202edef", "abc<U+202E>def"),
        ("del\x7f bs\b", "del␡ bs␈"),
        ("a\u2028b", "a<U+2028>b"),
        ("\ud800!", "\ufffd!"),
        ("\u0301x", "\u25cc\u0301x"),
        ("\n\u200bx", "\n<U+200B>x"),
        ("z" + "\u0301" * 40 + "z", "z" + "\u0301" * 6 + "<+34 zero-width>z"),
        ("\U0001f3f4\U000e0067b", "\U0001f3f4<U+E0067>b"),
        ("\U000e0048i", "<U+E0048>i"),
        ("\ufdd0", "<U+FDD0>"),
    ],
)
def test_what_acts_is_shown(text: str, shown: str) -> None:
    assert sanitize(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "普通の文章です。\n\tタブも。",
        "か\u3099 ハ\u309a e\u0301 葛\U000e0100",
        "👩‍👩‍👧‍👦 👍🏽 ❤️ 🇯🇵 1️⃣",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "ไม้ที่ שָׁלוֹם नमस्ते 한글 \u1112\u1161\u11ab",
        "zero\u200bwidth space",
        "",
    ],
)
def test_ordinary_writing_stays(text: str) -> None:
    assert sanitize(text) == text


def test_a_label_has_one_line() -> None:
    assert sanitize_line("a\nb\tc\x1b[0m") == "a␊b␉c␛[0m"
