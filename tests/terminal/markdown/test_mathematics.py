"""Mathematics stays as the model wrote it, wherever the answer is cut; fences and underlined headings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tanuki_cli.terminal.markdown.inline import inline_spans, split_settled
from tanuki_cli.terminal.theme import THEMES
from tests.terminal.markdown import test_markdown

THEME = THEMES["dark"]


def show(text: str, columns: int, lines: int, *, step: int = 10_000) -> list[str]:
    return test_markdown.show(text, columns, lines, cut=lambda left: min(step, left)).display


INLINE = [
    r"\(a_1 * b_2 * c\)",
    r"\(\frac{1}{2}\,x\)",
    r"\[ \{ x \mid x > 0 \} \]",
    r"$x_i^2 + y_i^2$",
    r"$\alpha*\beta*\gamma$",
    r"$$ a \\ b $$",
    r"$$\begin{pmatrix} a & b \\ c & d \end{pmatrix}$$",
    r"\(a\_b\)",
    r"\(&amp;\)",
    r"\([1](2)\)",
    r"\(<b>\)",
    r"\(`a`\)",
]
DISPLAYED = [
    "$$\na \\\\\n  b_1 * c * d \\,\n$$",
    "\\[\n\\begin{aligned}\nx &= 1 \\\\\n- y &= 2\n\\end{aligned}\n\\]",
    "\\begin{align*}\n# a | b\n1. c\n\\end{align*}",
    "$$ x = \\{1, 2\\} $$",
    "\\[ a * b * c \\]",
]


@pytest.mark.parametrize("written", INLINE)
def test_inline_mathematics_is_verbatim(written: str) -> None:
    for text in (written, f"式{written}です。", f"**式** {written}、*x*"):
        shown = "".join(span.text for span in inline_spans(text, THEME))
        assert written in shown
    (row,) = show(f"式は{written}となる。", 80, 24)
    assert row == f"式は{written}となる。"


@pytest.mark.parametrize("written", DISPLAYED)
def test_displayed_mathematics_keeps_its_lines(written: str) -> None:
    assert show(f"次の式です。\n{written}\n以上。", 80, 24) == [
        "次の式です。",
        *written.split("\n"),
        "以上。",
    ]
    in_list = "\n".join("   " + line for line in written.split("\n"))
    assert show(f"1. 式\n{in_list}\n2. 次", 80, 24) == [
        "1. 式",
        *(line.rstrip() for line in in_list.split("\n")),
        "2. 次",
    ]


@pytest.mark.parametrize("written", [r"集合 \{1, 2\}", r"a\,b", r"\) x", r"\[1\] の文献", r"\(x"])
def test_a_backslash_before_a_bracket_stays(written: str) -> None:
    assert show(written, 80, 24) == [written]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("$5と$10", "$5と$10"),
        ("$HOME と *x*", "$HOME と x"),
        ("定価は100$、**特価**は80$です", "定価は100$、特価は80$です"),
        ("3$x_1*y_2*z$個", "3$x_1*y_2*z$個"),
        (r"\*a\* と \_b\_ と \\ ", r"*a* と _b_ と \ "),
        (r"`\(a\)` と `$x$`", r"\(a\) と $x$"),
        (r"\(あ*い*う", r"\(あいう"),
    ],
)
def test_what_is_none_is_markdown(written: str, shown: str) -> None:
    assert show(written, 80, 24) == [shown.rstrip()]


def test_mathematics_that_never_ends_takes_one_paragraph_along() -> None:
    assert show("$$\na * b\n\n**強調**です", 80, 24) == ["$$", "a * b", "", "強調です"]


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([*INLINE, "あ", "です。", "**強**", "`c`", "$", "\\(", "x "])),
    st.integers(0, 200),
)
def test_a_paragraph_reads_the_same_wherever_it_is_cut(parts: list[str], place: int) -> None:
    source = "".join(parts)
    whole = "".join(span.text for span in inline_spans(source, THEME))
    settled, rest = split_settled(source[:place])
    cut = inline_spans(settled, THEME) + inline_spans(rest + source[place:], THEME)
    assert "".join(span.text for span in cut) == whole


@settings(max_examples=50)
@given(st.sampled_from(DISPLAYED + INLINE), st.integers(1, 60))
def test_streamed_in_pieces_it_is_shown_as_at_once(written: str, step: int) -> None:
    text = f"式です。\n{written}\n**以上**。\n"
    assert show(text, 40, 24, step=step) == show(text, 40, 24)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("見出し\n===\n本文", ["見出し", "本文"]),
        ("**見出し**\n--\n本文", ["見出し", "本文"]),
        ("一行目\n二行目\n---\n本文", ["一行目", "二行目", "─" * 40, "本文"]),
        ("本文\n\n---\n本文", ["本文", "", "─" * 40, "本文"]),
        ("===\n本文", ["===", "本文"]),
        ("- 項目\n---\n本文", ["• 項目", "─" * 40, "本文"]),
        ("- 見出し\n  ===\n  本文", ["• 見出し", "  本文"]),
        ("a = b\n= c", ["a = b", "= c"]),
    ],
)
def test_underlined_headings(written: str, shown: list[str]) -> None:
    assert show(written, 40, 24) == shown


def test_a_fence_within_a_fence_is_shown_with_the_longer_one() -> None:
    text = "````markdown\n```python\nprint(1)\n```\n````\n"
    assert show(text, 40, 24) == text.splitlines()
    tildes = "~~~\n```\n~~~\n"
    assert show(tildes, 40, 24) == tildes.splitlines()


def test_pipes_in_mathematics_part_no_cells() -> None:
    rows = [
        r"| $|x|$ | 値 | \(|y|\) |",
        "|---|---|---|",
        r"| $\|a\|$ | 5$ | $3 |",
        r"| a\|b | 100$ | 200$ |",
        "| $|x|$ | $a|b$ | c | d |",
    ]
    shown = [[cell.strip() for cell in row.split("│")] for row in show("\n".join(rows), 80, 24)]
    assert shown[0] == ["$|x|$", "値", r"\(|y|\)"]
    assert shown[2:] == [[r"$\|a\|$", "5$", "$3"], ["a|b", "100$", "200$"], ["$|x|$", "$a|b$", "c | d"]]
