"""Inline Markdown: one paragraph's source to styled text, by markdown-it with Japanese emphasis.

CommonMark lets ``**`` close beside punctuation only before a space, so ``**「重要」**です`` stays
literal there. Here Japanese letters and punctuation never keep a delimiter from opening or
closing. Three more deviations: ``*`` between ASCII letters or digits (``2*3*4``, ``x**2``) is itself, so is a
longer run than markup has (``090-****-****``, ``______``), and so are the names of Python (``__init__``).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from markdown_it import MarkdownIt
from markdown_it.rules_inline.state_inline import Scanned, StateInline
from markdown_it.token import Token
from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.terminal.markdown.mathematics import OPEN_MATHEMATICS, mathematics
from tanuki_cli.terminal.theme import Theme
from tanuki_cli.text.japanese import is_japanese
from tanuki_cli.text.style import PLAIN, Style

# Reference links need the whole document and raw HTML is shown as text, so both rules are absent.
_PARSER: Final = (
    MarkdownIt("zero")
    .enable(
        ["escape", "backticks", "strikethrough", "emphasis", "link", "image", "autolink", "entity", "newline"]
    )
    .enable(["balance_pairs", "fragments_join"])
)
_PARSER.inline.ruler.before("escape", "mathematics", mathematics)
_WITHOUT_LINKS: Final = (
    MarkdownIt("zero")
    .enable(["escape", "backticks", "strikethrough", "emphasis", "autolink", "entity", "newline"])
    .enable(["balance_pairs", "fragments_join"])
)
_WITHOUT_LINKS.inline.ruler.before("escape", "mathematics", mathematics)
_MAX_OPEN_BRACKETS: Final = 16
"""Brackets within brackets above which none is a link: for each one the parser reads on, many times over."""
_LONGEST_RUN: Final = {"*": 3, "_": 2, "~": 2}
"""Of the characters that markup is made of; more of them are a blank to fill in, a mask, or a long sound."""
_PYTHON_NAME: Final = re.compile(r"__[a-z][a-z0-9]*(?:_[a-z0-9]+)*__(?!\w)")
_ASCII_WORD: Final = re.compile(r"[0-9A-Za-z]")
_PUNCTUATION: Final = re.compile(r"[^\w\s]|_")
# Letters that begin a grapheme and end one: a paragraph may be cut between two of them.
_LETTERS: Final = (
    "0-9A-Za-z\u00c0-\u02af\u0370-\u03ff\u0400-\u0482\u048a-\u052f"
    "\u3041-\u3096\u30a1-\u30fe\u4e00-\u9fff\uac00-\ud7a3"
)
_CUT: Final = re.compile(f"(?<=[{_LETTERS}、。！？」』）])(?=[{_LETTERS}「『（])")
_SPECIAL: Final = re.compile(r"[\\`*_~\[<&!$]+")
_BRACKET: Final = re.compile(r"[\[\]]")
_BRACKETS: Final = re.compile(r"\[[^\[\]]*\](?!\()")
_OPEN_TAIL: Final = re.compile(r"[`\[]|<[^<>\s]*$|&#?[0-9A-Za-z]*$")
_ESCAPED: Final = re.compile(r"(?:%[89A-F][0-9A-F])+", re.IGNORECASE)
_CUT_ATTEMPTS: Final = 6
_MAX_OPEN: Final = 1000
"""Source characters after which markup that never closes is taken literally."""


class Span(Struct, frozen=True):
    """Text with one style; ``kind`` tells line breaks, whose text is empty, from text."""

    text: str
    style: Style = PLAIN
    kind: Literal["text", "soft", "hard"] = "text"


class _State(StateInline):
    """markdown-it's inline state with flanking rules that know Japanese."""

    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:
        """Whether the delimiter run at ``start`` can open, can close, and its length."""
        marker = self.src[start]
        end = start
        while end < self.posMax and self.src[end] == marker:
            end += 1
        before = self.src[start - 1] if start else " "
        after = self.src[end] if end < self.posMax else " "
        if (
            end - start > _LONGEST_RUN[marker]
            or (marker == "*" and _is_operator(before, after, end - start))
            or _PYTHON_NAME.match(self.src, start)
        ):
            return Scanned(False, False, end - start)
        left = not after.isspace() and (not _blocks(after) or _frees(before))
        right = not before.isspace() and (not _blocks(before) or _frees(after))
        if not canSplitWord:
            opens = left and (not right or _is_punctuation(before))
            return Scanned(opens, right and (not left or _is_punctuation(after)), end - start)
        return Scanned(left, right, end - start)


def _is_operator(before: str, after: str, length: int) -> bool:
    if not (_ASCII_WORD.match(before) and _ASCII_WORD.match(after)):
        return False
    return length == 1 or after.isdigit()


def _is_punctuation(char: str) -> bool:
    return bool(_PUNCTUATION.match(char))


def _blocks(char: str) -> bool:
    """Whether ``char`` inside of a delimiter asks for a space or punctuation outside of it."""
    return _is_punctuation(char) and not is_japanese(char)


def _frees(char: str) -> bool:
    return char.isspace() or _is_punctuation(char) or is_japanese(char)


def _parse(source: str) -> tuple[list[Token], str]:
    """The tokens of ``source`` and the emphasis delimiters that a later text might still close."""
    tokens: list[Token] = []
    parser = _PARSER if _open_brackets(source) <= _MAX_OPEN_BRACKETS else _WITHOUT_LINKS
    state = _State(source, parser, {}, tokens)
    parser.inline.tokenize(state)
    for rule in parser.inline.ruler2.getRules(""):
        rule(state)
    opened = "".join(chr(entry.marker) for entry in state.delimiters if entry.open and entry.end < 0)
    return tokens, opened


def _open_brackets(source: str) -> int:
    """How many brackets are open at most at one place of ``source``."""
    depth = most = 0
    for match in _BRACKET.finditer(source):
        depth = depth + 1 if match[0] == "[" else max(0, depth - 1)
        most = max(most, depth)
    return most


def inline_spans(source: str, theme: Theme, *, base: Style = PLAIN) -> list[Span]:
    """``source`` as styled text; markup that is not closed shows literally."""
    return list(_spans(_parse(source)[0], theme, base))


def optimistic(source: str) -> str:
    """``source`` with what is still open closed, as it will most likely go on; for the live view."""
    text = re.sub(r"(?<=\s)[*_~`]+$|^[*_~`]+$", "", source)
    tokens, opened = _parse(text)
    if any("`" in token.content for token in tokens if token.type == "text"):
        runs = re.findall("`+", text)
        return text + runs[-1] if len(runs) % 2 and not text.endswith("`") else text
    bare = text.rstrip("*_~ ")
    return bare + opened[::-1] if opened and bare else text


def split_settled(source: str) -> tuple[str, str]:
    """Cut ``source`` so that the first part means the same whatever is appended to the second.

    The two parts rendered one after the other are the whole rendered.
    """
    cuts = [match.start() for match in _CUT.finditer(source)]
    if not cuts:
        return _give_up(source, len(source) // 2)
    if _is_closed(source[: cuts[-1]]):
        return source[: cuts[-1]], source[cuts[-1] :]
    openings = [match.start() for match in _SPECIAL.finditer(source)]
    for opening in openings[: -_CUT_ATTEMPTS - 1 : -1] + openings[:1]:
        cut = max((cut for cut in cuts if cut <= opening), default=0)
        if cut and _is_closed(source[:cut]):
            return source[:cut], source[cut:]
    return _give_up(source, cuts[-1])


def _give_up(source: str, cut: int) -> tuple[str, str]:
    return (source[:cut], source[cut:]) if len(source) > _MAX_OPEN else ("", source)


def _is_closed(source: str) -> bool:
    if not _SPECIAL.search(source):
        return True
    tokens, opened = _parse(source)
    if opened:
        return False
    # A backslash before a bracket that closes nothing is a token of its own.
    texts = ("text", "math")
    open_ = [token.content for token in tokens if token.type in texts and len(token.content) <= 2]
    literal = "".join(token.content if token.type == "text" else "\ufffc" for token in tokens)
    if OPEN_MATHEMATICS.search(literal) or any(map(OPEN_MATHEMATICS.fullmatch, open_)):
        return False
    remaining = _BRACKETS.sub("", literal)
    while remaining != literal:
        literal, remaining = remaining, _BRACKETS.sub("", remaining)
    return not _OPEN_TAIL.search(remaining)


def _spans(tokens: Iterable[Token], theme: Theme, base: Style) -> Iterator[Span]:
    styles = [base]
    hrefs: list[tuple[str, list[str]]] = []
    for token in tokens:
        kind = token.type
        if kind.endswith("_open"):
            styles.append(_MARKUP.get(kind, theme.link).over(styles[-1]))
            if kind == "link_open":
                hrefs.append((str(token.attrs.get("href", "")), []))
        elif kind.endswith("_close"):
            styles.pop()
            if kind == "link_close":
                yield from _url(*hrefs.pop(), theme, styles[-1])
        elif kind in {"softbreak", "hardbreak"}:
            yield Span("", styles[-1], "soft" if kind == "softbreak" else "hard")
        else:
            yield from _leaf(token, theme, styles[-1])
            for _, label in hrefs:
                label.append(token.content)


_MARKUP: Final = {
    "strong_open": Style(bold=True),
    "em_open": Style(italic=True),
    "s_open": Style(strike=True),
}


def _leaf(token: Token, theme: Theme, style: Style) -> Iterator[Span]:
    if token.type == "code_inline":
        yield Span(token.content, theme.code.over(style))
    elif token.type == "image":
        yield Span(token.content, theme.link.over(style))
        yield from _url(str(token.attrs.get("src", "")), [token.content], theme, style)
    elif token.content:
        yield Span(token.content, style)


def _url(url: str, label: list[str], theme: Theme, style: Style) -> Iterator[Span]:
    """The address behind a link, which is shown: what is read is where it goes."""
    shown = _ESCAPED.sub(_unescaped, url)
    if shown and "".join(label) not in {url, shown, url.removeprefix("mailto:")}:
        yield Span(f" ({shown})", replace(theme.url.over(style), underline=False))


def _unescaped(match: re.Match[str]) -> str:
    """Percent-encoded UTF-8 as the letters that it stands for; ASCII stays encoded."""
    try:
        return bytes.fromhex(match[0].replace("%", "")).decode("utf-8")
    except UnicodeDecodeError:
        return match[0]
