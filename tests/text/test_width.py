"""Cells, kinsoku and line breaking, without a screen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from tanuki_cli.text.japanese import (
    NOT_AT_END,
    NOT_AT_START,
    soft_break,
    to_cells,
    trimmed,
    width_of,
    wrap_cells,
    wrap_text,
)
from tanuki_cli.text.width import (
    cell_width,
    default_ambiguous_width,
    graphemes,
    pad_cells,
    truncate_cells,
)

FAMILY = "👩‍👩‍👧‍👦"
prose = st.text("あいうえおっゃー、。「」（）漢字ＡabcdeF12 　…!?().,ｶﾞ①é👍", max_size=80)


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("abc", 3),
        ("日本語", 6),
        ("ｶﾞｿﾘﾝ", 5),
        ("か\u3099", 2),
        ("ＡＢ", 4),
        (FAMILY, 2),
        ("❤️", 2),
        ("👍🏽", 2),
        ("🇯🇵", 2),
        ("e\u0301", 1),
        ("葛\U000e0100", 2),
        ("한글", 4),
        ("", 0),
    ],
)
def test_width_in_cells(text: str, cells: int) -> None:
    assert cell_width(text) == cells


@pytest.mark.parametrize("text", ["①", "※", "→", "…", "α", "─"])
def test_ambiguous_characters_are_as_wide_as_the_terminal_says(text: str) -> None:
    assert (cell_width(text), cell_width(text, ambiguous=2)) == (1, 2)


def test_truncation_counts_cells_and_keeps_graphemes_whole() -> None:
    assert truncate_cells("日本語です", 7) == "日本語…"
    assert truncate_cells("日本語です", 6) == "日本…"
    assert truncate_cells("日本語", 6) == "日本語"
    assert truncate_cells(FAMILY * 3, 5) == FAMILY * 2 + "…"
    assert truncate_cells("ab", 1, ambiguous=2) == ""
    assert pad_cells("日本", 6) == "日本  "


@given(prose)
def test_graphemes_join_to_the_text(text: str) -> None:
    assert "".join(graphemes(text)) == text


@given(prose, st.integers(4, 30))
def test_wrapping_keeps_every_character_within_the_width(text: str, width: int) -> None:
    lines = wrap_text(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cell_width(line) <= width for line in lines)
    assert not any(line.endswith((" ", "\u3000")) for line in lines)


@given(
    st.lists(
        st.sampled_from(
            ["です。", "「か", "き」、", "ちょっと", "コーヒー", "（注）", "word ", "漢", "！？"]
        ),
        max_size=30,
    ),
    st.integers(12, 40),
)
def test_kinsoku_holds_at_every_break(words: list[str], width: int) -> None:
    lines = wrap_text("".join(word + "漢" for word in words), width)
    assert not any(line[0] in NOT_AT_START for line in lines[1:])
    assert not any(line[-1] in NOT_AT_END for line in lines[:-1])


@given(prose, prose, st.integers(4, 30))
def test_rows_but_the_last_are_final(text: str, more: str, width: int) -> None:
    before = wrap_cells(to_cells(text), width)
    after = wrap_cells(to_cells(text + more), width)
    assert after[: len(before) - 1] == before[:-1]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("これは文です。", 12, ["これは文で", "す。"]),
        ("これは「文」です", 8, ["これは", "「文」で", "す"]),
        ("コーヒーを", 6, ["コー", "ヒーを"]),
        ("ちょっと", 4, ["ちょ", "っと"]),
        ("word wrapping works", 10, ["word", "wrapping", "works"]),
        ("supercalifragilistic", 8, ["supercal", "ifragili", "stic"]),
        ("日本語English混在", 10, ["日本語", "English混", "在"]),
        ("。。。。。。", 4, ["。。", "。。", "。。"]),
        ("待って……まだ", 7, ["待っ", "て……ま", "だ"]),
    ],
)
def test_line_breaks(text: str, width: int, lines: list[str]) -> None:
    assert wrap_text(text, width) == lines


@pytest.mark.parametrize(
    ("before", "width", "after", "joint"),
    [
        ("の", 60, "続", ""),
        ("、", 60, "続", ""),
        ("。", 60, "続", "\n"),
        ("の", 10, "続", "\n"),
        ("の", 60, "・", "\n"),
        ("d", 70, "a", " "),
        (".", 70, "A", "\n"),
        ("d", 12, "a", "\n"),
    ],
)
def test_a_single_newline_joins_only_wrapped_prose(before: str, width: int, after: str, joint: str) -> None:
    assert soft_break(before, width, after) == joint


def test_marks_without_a_base_get_one() -> None:
    cells = to_cells("\u0301a")
    assert width_of(cells) == 2
    assert trimmed(to_cells("a 　")) == to_cells("a")


@pytest.mark.parametrize(
    ("environ", "width"),
    [
        ({}, 1),
        ({"LANG": "ja_JP.UTF-8"}, 1),
        ({"LANG": "ja_JP.eucJP"}, 2),
        ({"LC_ALL": "ja_JP.SJIS", "LANG": "C"}, 2),
    ],
)
def test_unmeasured_width_follows_the_encoding(environ: dict[str, str], width: int) -> None:
    assert default_ambiguous_width(environ) == width


@pytest.mark.parametrize("part", ["🇯🇵", FAMILY, "か\u3099", "👍🏽", "日a", "\u200d", "e\u0301\u0302"])
def test_a_long_run_is_as_wide_as_its_parts_and_measured_in_short_pieces(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wcswidth needs the square of the length of a run of flags."""
    measured: list[int] = []

    def counting(text: str, *, ambiguous_width: int) -> int:
        measured.append(len(text))
        return wcswidth(text, ambiguous_width=ambiguous_width)

    expected = 400 * cell_width(part)
    monkeypatch.setattr("wcwidth.wcswidth", counting)
    assert cell_width(part * 400) == expected
    assert max(measured) <= 400 if part == "\u200d" else max(measured) <= len(part)
