"""Syntax highlighting of code that arrives line by line, by Pygments.

A line is final as soon as it is complete. So the lexer is resumed at every line in the state in
which the line before left it; no block is ever lexed as a whole.
"""

from collections.abc import Iterator
from copy import copy
from functools import lru_cache
from typing import Any, Final

from pygments.lexer import ExtendedRegexLexer, Lexer, RegexLexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Error, String, Whitespace, _TokenType
from pygments.util import ClassNotFound

from tanuki_cli.terminal.theme import Theme
from tanuki_cli.text.style import PLAIN, Style

_MAX_CARRIED: Final = 100
_Token = tuple[int, _TokenType, str]


class Highlighter:
    """Colours the lines of one code block, given in their order."""

    def __init__(self, language: str, theme: Theme) -> None:
        self._theme = theme
        self._lexer = _find_lexer(language)
        self._stack = ["root"]
        # Some lexers match a comment or a string over several lines with one expression instead of
        # a state. Its first lines are carried along and lexed again until it ends.
        self._carried = ""

    def fork(self) -> "Highlighter":
        """A copy that goes on from here without touching this one."""
        other = copy(self)
        other._stack = list(self._stack)
        return other

    def line(self, text: str) -> list[tuple[str, Style]]:
        """The next line, without its newline, in styled pieces."""
        if self._lexer is None:
            return [(text, PLAIN)]
        source, stack = f"{self._carried}{text}\n", list(self._stack)
        if isinstance(self._lexer, ExtendedRegexLexer) or not isinstance(self._lexer, RegexLexer):
            tokens = list(self._lexer.get_tokens_unprocessed(source))
        else:
            tokens = list(_lex(self._lexer, source, stack))
        pieces = []
        for start, kind, value in tokens:
            shown = value[max(0, len(self._carried) - start) :].rstrip("\n")
            if shown:
                pieces.append((shown, _style(kind, self._theme)))
        if _is_unfinished(tokens) and stack == self._stack and source.count("\n") < _MAX_CARRIED:
            self._carried = source
        else:
            self._carried, self._stack = "", stack
        return pieces


def _is_unfinished(tokens: list[_Token]) -> bool:
    if not tokens:
        return False
    _, kind, value = tokens[-1]
    return (kind in Comment.Multiline or kind in String) and len(value) > 1 and value.endswith("\n")


@lru_cache(maxsize=16)
def _find_lexer(language: str) -> Lexer | None:
    """The lexer for the language of a fence; None where Pygments knows none."""
    try:
        return get_lexer_by_name(language)
    except ClassNotFound:
        return None


def _lex(lexer: RegexLexer, source: str, stack: list[str]) -> Iterator[_Token]:
    """``RegexLexer.get_tokens_unprocessed``, but leaving its final state in ``stack``."""
    rules: dict[str, Any] = lexer._tokens
    position = 0
    while position < len(source):
        for match_rule, action, transition in rules[stack[-1]]:
            if not (match := match_rule(source, position)):
                continue
            if isinstance(action, _TokenType):
                yield position, action, match.group()
            elif action is not None:
                yield from action(lexer, match)
            position = match.end()
            if transition is not None:
                _move(stack, transition)
            break
        else:
            if source[position] == "\n":
                stack[:] = ["root"]
                yield position, Whitespace, "\n"
            else:
                yield position, Error, source[position]
            position += 1


def _move(stack: list[str], transition: str | int | tuple[str, ...]) -> None:
    """Apply one state transition of a Pygments rule to ``stack``."""
    if isinstance(transition, int):
        del stack[max(1, len(stack) + transition) :]
        return
    for state in (transition,) if isinstance(transition, str) else transition:
        if state == "#pop":
            del stack[max(1, len(stack) - 1) :]
        else:
            stack.append(stack[-1] if state == "#push" else state)


def _style(kind: _TokenType, theme: Theme) -> Style:
    """The style of a token type or of the nearest one above it."""
    while kind.parent is not None:
        if (style := theme.syntax.get(str(kind).removeprefix("Token."))) is not None:
            return style
        kind = kind.parent
    return PLAIN
