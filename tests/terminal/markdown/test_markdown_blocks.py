"""What Markdown looks like on the screen: golden screens, inline markup, blocks, themes."""

import re

import pytest
from hypothesis import given, settings

from tanuki_cli.terminal.markdown.inline import inline_spans, split_settled
from tanuki_cli.terminal.markdown.stream import MarkdownStream
from tanuki_cli.terminal.theme import THEMES, Look, Theme, detect_theme
from tanuki_cli.text.style import Style
from tests.support.screen import Screen
from tests.terminal.markdown.test_markdown import markdown_text, show

THEME = THEMES["dark"]

DOCUMENT = """\
# 分福茶釜

むかし、**「茂林寺」**という寺に、*不思議な*茶釜がありました。湯をくむと`いくらでも`出てきたそうです。

1. 茶釜を火にかける
   - 手足が出る
   - しっぽが出る
2. 古道具屋に売る

> 「綱渡りをいたしましょう」
> と、たぬきは言いました。

| 場所 | 寺 |
|---|---:|
| 館林 | 茂林寺 |

```python
print("茶釜")  # kettle
```
"""
GOLDEN = {
    (80, 24): """\
分福茶釜

むかし、「茂林寺」という寺に、不思議な茶釜がありました。湯をくむといくらでも出て
きたそうです。

1. 茶釜を火にかける
   • 手足が出る
   • しっぽが出る
2. 古道具屋に売る

│ 「綱渡りをいたしましょう」
│ と、たぬきは言いました。

場所 │     寺
─────┼───────
館林 │ 茂林寺

```python
print("茶釜")  # kettle
```""",
    (40, 15): """\
分福茶釜

むかし、「茂林寺」という寺に、不思議な茶
釜がありました。湯をくむといくらでも出て
きたそうです。

1. 茶釜を火にかける
   • 手足が出る
   • しっぽが出る
2. 古道具屋に売る

│ 「綱渡りをいたしましょう」
│ と、たぬきは言いました。

場所 │     寺
─────┼───────
館林 │ 茂林寺

```python
print("茶釜")  # kettle
```""",
    (20, 10): """\
分福茶釜

むかし、「茂林寺」と
いう寺に、不思議な茶
釜がありました。湯を
くむといくらでも出て
きたそうです。

1. 茶釜を火にかける
   • 手足が出る
   • しっぽが出る
2. 古道具屋に売る

│ 「綱渡りをいたしま
│ しょう」
│ と、たぬきは言いま
│ した。

場所 │     寺
─────┼───────
館林 │ 茂林寺

```python
print("茶釜")  # ket
tle
```""",
}


@pytest.mark.parametrize("size", GOLDEN, ids=str)
def test_golden_screens(size: tuple[int, int]) -> None:
    screen = show(DOCUMENT, *size, cut=lambda left: min(left, 7))
    assert screen.display == GOLDEN[size].split("\n")


def marked(source: str, theme: Theme = THEME) -> str:
    """``source`` rendered, with its styles as HTML-like tags."""
    out = ""
    for span in inline_spans(source, theme):
        style = span.style
        tags = [
            tag
            for on, tag in (
                (style.bold, "b"),
                (style.italic, "i"),
                (style.strike, "s"),
                (style.color == theme.code.color, "code"),
                (style.underline, "u"),
            )
            if on
        ]
        text = {"soft": "\n", "hard": "\n\n"}.get(span.kind, span.text)
        out += "".join(f"<{tag}>" for tag in tags) + text + "".join(f"</{tag}>" for tag in reversed(tags))
    return out


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        # CommonMark's failure beside Japanese punctuation, in all its forms
        ("**「重要」**です", "<b>「重要」</b>です"),
        ("これは**「重要」**です", "これは<b>「重要」</b>です"),
        ("これは**（注）**だ", "これは<b>（注）</b>だ"),
        ("**終わり。**次", "<b>終わり。</b>次"),
        ("**(ASCII)**の括弧", "<b>(ASCII)</b>の括弧"),
        ("前**`コード`**後", "前<b></b><b><code>コード</code></b>後".replace("<b></b>", "")),
        ("「**強調**」、*斜体*。", "「<b>強調</b>」、<i>斜体</i>。"),
        ("~~「古い」~~新しい", "<s>「古い」</s>新しい"),
        ("***両方***です", "<b><i>両方</i></b>です"),
        # CommonMark's rules for ASCII stay
        ("snake_case_name and 2*3*4", "snake_case_name and 2*3*4"),
        ("x**2 + y**2", "x**2 + y**2"),
        ("a * b * c", "a * b * c"),
        ("**N**atural and _em_ here", "<b>N</b>atural and <i>em</i> here"),
        ("**foo(**bar", "**foo(**bar"),
        ("**unclosed", "**unclosed"),
        (r"\*literal\*", "*literal*"),
        ("`**code**`", "<code>**code**</code>"),
        # masks, blanks to fill in, long sounds and the names of Python are text
        ("電話は 090-****-**** です", "電話は 090-****-**** です"),
        ("すごい~~~~ ほんと~~~~", "すごい~~~~ ほんと~~~~"),
        ("**______が長で、______、______。**", "<b>______が長で、______、______。</b>"),
        ("名前: ___ と ___ です", "名前: ___ と ___ です"),
        ("**A****B**", "<b>A****B</b>"),
        (
            "`__init__` は __init__ と __main__.py、__太字__ は __x",
            "<code>__init__</code> は __init__ と __main__.py、<b>太字</b> は __x",
        ),
        # links show where they go; HTML and rich markup are text
        ("[狸](https://a.jp/%E7%8B%B8%20a%FF)", "<u>狸</u> (https://a.jp/狸%20a%FF)"),
        ("[狸](https://a.jp/x)", "<u>狸</u> (https://a.jp/x)"),
        ("<https://a.jp>", "<u>https://a.jp</u>"),
        ("[https://a.jp](https://a.jp)", "<u>https://a.jp</u>"),
        ("[good.jp](https://evil.jp)", "<u>good.jp</u> (https://evil.jp)"),
        ("![絵](e.png)", "<u>絵</u> (e.png)"),
        ("[注1]と[x][y]", "[注1]と[x][y]"),
        ("<b>太字</b><br>", "<b>太字</b><br>"),
        ("[bold red]x[/bold red] [link=file:///]y[/link]", "[bold red]x[/bold red] [link=file:///]y[/link]"),
        ("&lt;&amp;&copy;", "<&©"),
        ("一行  \n二行\\\n三行\n四行", "一行\n\n二行\n\n三行\n四行"),
    ],
)
def test_inline_markup(source: str, shown: str) -> None:
    merged = re.sub(r"</(b|i|s|u|code)><\1>", "", marked(source))
    assert merged == shown


@settings(max_examples=200)
@given(markdown_text)
def test_settled_text_means_the_same_alone(source: str) -> None:
    settled, rest = split_settled(source)
    assert settled + rest == source
    for more in ("", "」です", "** `x` ](http://a) ~~"):
        whole = inline_spans(source + more, THEME)
        parts = inline_spans(settled, THEME) + inline_spans(rest + more, THEME)
        assert [(char, span.style) for span in whole for char in span.text or span.kind] == [
            (char, span.style) for span in parts for char in span.text or span.kind
        ]


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("短い行\n次の行", ["短い行", "次の行"]),
        (
            "長い行が編集ソフトで折り返されたように続く文章は途中\nで切れません。",
            ["長い行が編集ソフトで折り返されたように続く文章は途中で切れません。"],
        ),
        ("a\n\n\n\n\nb\n\n", ["a", "", "b"]),
        ("1. a\n1. b\n1. c", ["1. a", "2. b", "3. c"]),
        ("3. a\n4. b", ["3. a", "4. b"]),
        ("1. a\n  - b\n2. c", ["1. a", "   • b", "2. c"]),
        ("- a\n  - b\n    - c", ["• a", "  ◦ b", "    • c"]),
        ("-\n- a", ["•", "• a"]),
        ("> a\n> > b\n\nc", ["│ a", "│ │ b", "", "c"]),
        ("> a\n>\n> b", ["│ a", "│", "│ b"]),
        ("    字下げ\n     コード", ["字下げ", " コード"]),
        ("見出し\n---\n本文", ["見出し", "本文"]),
        ("本文\n\n---\n本文", ["本文", "", "─" * 80, "本文"]),
        ("## 閉じ ##", ["閉じ"]),
        ("#タグ", ["#タグ"]),
        ("<div>\n<script>", ["<div>", "<script>"]),
        ("~~~\n```\n~~~", ["~~~", "```", "~~~"]),
        ("```\n\tx\n\n\ny\n```", ["```", "    x", "", "", "y", "```"]),
        ("- a\n\n  ```\n  x\n  ```", ["• a", "", "  ```", "  x", "  ```"]),
        ("a | b\n文", ["a | b", "文"]),
        ("|a|b|\n|-|-|\n|1|2|3|\n|4|", ["a │ b", "──┼──────", "1 │ 2 | 3", "4 │"]),
        ("|a|b|\n|:-:|-|\n|長い|`x\\|y`|", [" a   │ b", "─────┼────", "長い │ x|y"]),
        ("|a|b|\n|-|-|\n|1<br>2|3|", ["a │ b", "──┼──", "1 │ 3", "2 │"]),
        ("[a]: http://x\n[a]", ["[a]: http://x", "[a]"]),
        ("|a|b|\n文", ["|a|b|", "文"]),
        ("　字下げの段落", ["　字下げの段落"]),
    ],
)
def test_blocks(source: str, rows: list[str]) -> None:
    assert show(source, cut=lambda _: 1).display == rows


def test_a_column_is_not_narrower_than_its_words() -> None:
    source = (
        "| 設定 | 既定値 | 内容 |\n|---|---|---|\n| max_new_tokens | 1024 | 答えの最大トークン数です。 |\n"
    )
    for width in range(12, 60):
        shown = "\n".join(show(source, width).display)
        assert ("max_new_tokens" in shown) == (width >= 14), shown
    address = source.replace("1024", "https://example.com/" + "a" * 60)
    assert "│" in "".join(show(address, 60).display), "an address does not undo the table"


def test_a_table_shrinks_and_then_becomes_rows() -> None:
    table = "| 名前 | 説明 |\n|---|---|\n| 徳利 | 人徳を表し、飲食に困らない |\n| 笠 | 災難を避ける |\n"
    assert show(table, 24).display == [
        "名前 │ 説明",
        "─────┼──────────────────",
        "徳利 │ 人徳を表し、飲食",
        "     │ に困らない",
        "─────┼──────────────────",
        "笠   │ 災難を避ける",
    ]
    assert show(table, 12).display == [
        "名前: 徳利",
        "説明: 人徳を",
        "表し、飲食に",
        "困らない",
        "──────",
        "名前: 笠",
        "説明: 災難を",
        "避ける",
    ]


def test_code_is_copied_as_it_was_written() -> None:
    code = ["def f():", "    return 'どろん'  # 長い行" + "x" * 100, "", "\u3000全角"]
    written: list[str] = []
    stream = MarkdownStream(written.append, look=Look(theme=THEME), width=lambda: 40, height=lambda: 10)
    stream.feed("\n".join(["```python", *code, "```"]))
    stream.finish()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", "".join(written))
    assert text.splitlines()[1 : len(code) + 1] == code


def sgr_of(theme: Theme) -> set[str]:
    written: list[str] = []
    stream = MarkdownStream(written.append, look=Look(theme=theme), width=lambda: 40, height=lambda: 10)
    stream.feed(DOCUMENT)
    stream.finish()
    return {code for sgr in re.findall(r"\x1b\[([0-9;]*)m", "".join(written)) for code in sgr.split(";")}


def test_themes_use_the_palette_of_the_terminal() -> None:
    plain = {"0", "1", "2", "3", "4"}
    assert sgr_of(THEMES["dark"]) - plain <= {str(90 + color) for color in range(8)}
    assert sgr_of(THEMES["light"]) - plain <= {str(30 + color) for color in range(8)}
    assert sgr_of(THEMES["dark"].without_color()) <= plain, "NO_COLOR keeps bold and italic only"


@pytest.mark.parametrize(
    ("setting", "colorfgbg", "theme"),
    [("auto", "", "dark"), ("auto", "0;15", "light"), ("auto", "15;0", "dark"), ("light", "15;0", "light")],
)
def test_the_theme_follows_the_setting_then_the_terminal(setting: str, colorfgbg: str, theme: str) -> None:
    environ = {"COLORFGBG": colorfgbg} if colorfgbg else {}
    assert detect_theme(setting, environ) == theme
    assert detect_theme(setting, environ, measured="light") == "light"
    assert detect_theme("dark", environ, measured="light") == "dark"


def test_ambiguous_characters_two_cells_wide() -> None:
    screen = Screen(20, 10)
    look = Look(theme=THEME, ambiguous=2)
    stream = MarkdownStream(screen.feed, look=look, width=lambda: 20, height=lambda: 10)
    stream.feed("- " + "①" * 10 + "\n\n|a|b|\n|-|-|\n|1|2|\n")
    stream.finish()
    assert screen.display == ["- ①①①①①①①①①", "  ①", "", "a | b", "--+--", "1 | 2"]


def test_styles_reach_the_screen() -> None:
    screen = show("**太い**`c`")
    first = screen.raw.buffer[0]
    assert first[0].bold
    assert not first[4].bold
    assert first[4].fg == "brightbrown"  # pyte's name of bright yellow
    assert Style(bold=True).over(Style(color=31)) == Style(bold=True, color=31)
