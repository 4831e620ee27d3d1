"""Long texts in parts: nothing lost, nothing too long, cut where a reader would cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tanuki_cli.text.ranking import best_first, terms
from tanuki_cli.text.splitting import split_text

PIECES = st.sampled_from(
    ["あ", "。", "\n", "\n\n", "# 見出し\n", "abc. ", "」", "\u3000", "🦝", "1. ", "第一章", "!?"]
)


def parts(text: str, limit: int) -> list[str]:
    spans = split_text(text, size=len, limit=limit)
    assert [span.start for span in spans] == [0, *(span.end for span in spans)][:-1]
    return [text[span.start : span.end] for span in spans]


@given(st.lists(PIECES, max_size=200).map("".join), st.integers(1, 60))
@settings(max_examples=200)
def test_the_parts_are_the_text_and_none_is_too_long(text: str, limit: int) -> None:
    found = parts(text, limit)
    assert "".join(found) == text
    assert all(0 < len(part) <= limit for part in found)


@pytest.mark.parametrize(
    ("text", "limit", "ends"),
    [
        ("あいう。えおか。きくけ。", 8, ["う。えおか。", "くけ。"]),
        ("「はい。」と言う。そう。", 8, ["はい。」", "と言う。そう。"]),
        ("一行目\n二行目\n三行目\n", 9, ["二行目\n", "三行目\n"]),
        ("段落一。二。\n\n段落二。三。四。\n", 14, ["\n\n", "四。\n"]),
        ("段落。\n\n段落。\n\n# 見出し\n文。\n\n文。\n", 18, ["段落。\n\n", "文。\n"]),
        ("Version 3.14 is out. It works.", 24, ["is out.", " It works."]),
        ("あ" * 30, 12, ["あ", "あ"]),
    ],
)
def test_it_is_cut_at_the_best_place(text: str, limit: int, ends: list[str]) -> None:
    found = parts(text, limit)
    assert found[0].endswith(ends[0])
    assert found[-1].endswith(ends[-1])


def test_a_text_that_fits_is_one_part() -> None:
    assert parts("# あ\n\nい。う。", 100) == ["# あ\n\nい。う。"]
    assert parts("", 10) == []


def test_a_large_text_is_cut_in_linear_time() -> None:
    assert len(parts("たぬきは山に住む。" * 200_000, 2000)) > 800


def test_what_a_question_is_about_comes_first() -> None:
    texts = ["きつねは野原を走る。", "ガソリンの値段は百円だった。", "山の天気。", "", "TANUKI 8B を使う。"]
    assert best_first("ｶﾞｿﾘﾝはいくら?", texts)[0] == 1
    assert best_first("tanuki とは", texts)[0] == 4
    assert best_first("zzz", texts) == []
    assert best_first("?", texts) == []
    assert best_first("山", ["海", "高山の天気"]) == [1]
    assert best_first("山", []) == []


def test_terms_are_pairs_of_letters_and_whole_words() -> None:
    assert terms("たぬき、Tanuki-8B（木）") == ["たぬ", "ぬき", "tanuki", "8b", "木"]
