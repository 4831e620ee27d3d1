"""Words of Japanese and other text, for moving and deleting."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tanuki_cli.text.width import graphemes
from tanuki_cli.text.words import blank_start, word_end, word_start


def backwards(text: str) -> list[str]:
    """The pieces that Alt-Backspace takes from the end, the first one last."""
    pieces: list[str] = []
    while text:
        start = word_start(text, len(text))
        pieces.insert(0, text[start:])
        text = text[:start]
    return pieces


def forwards(text: str) -> list[str]:
    pieces, position = [], 0
    while position < len(text):
        end = word_end(text, position)
        pieces.append(text[position:end])
        position = end
    return pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("東京タワーへ行く", ["東京", "タワー", "へ", "行", "く"]),
        ("今日は、いい天気。", ["今日", "は、", "いい", "天気。"]),
        ("「了解」しました", ["「", "了解」", "しました"]),
        ("Pythonで書いたmain.pyです", ["Python", "で", "書", "いた", "main.", "py", "です"]),
        ("ラーメンをらーめん", ["ラーメン", "を", "らーめん"]),
        ("佐々木さん　こんにちは", ["佐々木", "さん　", "こんにちは"]),
        ("ｶﾞｿﾘﾝが２０リットル", ["ｶﾞｿﾘﾝ", "が", "２０", "リットル"]),
        ("いい👍ね", ["いい", "👍", "ね"]),
        ("foo bar-baz", ["foo ", "bar-", "baz"]),
        ("ガイド", ["ガイド"]),
        ("𠮷野家", ["𠮷野家"]),
        ("霞ヶ関で3ヶ月", ["霞ヶ関", "で", "3", "ヶ月"]),
        ("ヶとスヶ", ["ヶ", "と", "スヶ"]),
    ],
)
def test_words_stop_at_scripts_and_punctuation(text: str, pieces: list[str]) -> None:
    assert backwards(text) == pieces


def test_a_run_of_hiragana_is_parted_into_phrases() -> None:
    assert len(backwards("これはとてもおもしろいとおもいますのでぜひよんでください")) >= 4
    assert len(forwards("これはとてもおもしろいとおもいますのでぜひよんでください")) >= 4


def test_forwards_leaves_out_what_stands_between() -> None:
    assert forwards("今日は、いい天気。") == ["今日", "は", "、いい", "天気", "。"]
    assert forwards("  foo bar") == ["  foo", " bar"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("cat src/main.py", 4),
        ("これをsrc/main.py", 3),
        ("foo. ", 0),
        ("行った foo", 4),
        ("今日は晴れ", 4),
        ("x、y", 2),
    ],
)
def test_what_is_written_in_ascii_is_one_word_up_to_a_blank(text: str, start: int) -> None:
    assert blank_start(text, len(text)) == start


_MARKED = ["か\u3099", "は\u309a", "かﾞ", "ｶﾞ", "か", "い", "が", "漢", "葛\U000e0100", "ア", "a\u0301", "7"]
_SIGNS = [
    "👨\u200d👩\u200d👧",
    "🇯🇵",
    "👍🏽",
    "3\ufe0f\u20e3",
    "☕\ufe0f",
    "。",
    " ",
    "각",
    "\u1100\u1161",
    "กำ",
]


@given(st.lists(st.sampled_from([*_MARKED, *_SIGNS]), max_size=12))
def test_no_word_parts_a_grapheme(parts: list[str]) -> None:
    text = "".join(parts)
    ends = set(accumulate(map(len, graphemes(text))))
    for pieces in (backwards(text), forwards(text)):
        assert set(accumulate(map(len, pieces))) <= ends, pieces


@given(st.text(alphabet="あいうん漢字カナーab1 　。、「」👨\u200d👩\u3099\n\0\ud800"), st.integers(0, 300))
def test_every_step_goes_on_and_never_past_the_end(text: str, position: int) -> None:
    position = min(position, len(text))
    assert 0 <= word_start(text, position) <= position
    assert position == 0 or word_start(text, position) < position
    assert position == len(text) or position < word_end(text, position) <= len(text)
    assert blank_start(text, position) <= word_start(text, position)


def test_a_long_line_is_no_slower_than_a_short_one() -> None:
    text = "あ" * 1_000_000
    assert len(text) - word_start(text, len(text)) <= 200
    assert word_end(text, 0) <= 200
