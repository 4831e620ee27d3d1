"""Between the console and a prompt: what was typed ahead, wherever it was cut."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.input.typeahead import get_typeahead
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

from tanuki_cli.terminal.key_parser import KeyParser
from tanuki_cli.terminal.prompt_typing import PromptTyping
from tanuki_cli.terminal.typing_ahead import hold_typing
from tests.support.keyboard import Keyboard, open_keyboard

TEXT = "あ\r\x1b[200~一\r二\x1b[201~\x1b[A\x1b\r\x1b[13;2ué"
TYPED = TEXT.encode()


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    with open_keyboard() as keyboard, hold_typing(keyboard.stdin):
        yield keyboard


def parsed(typed: bytes) -> list[KeyPress]:
    keys: list[KeyPress] = []
    KeyParser(keys.append).feed_and_flush(typed.decode())
    return keys


def keys_of(source: Vt100Input) -> list[KeyPress]:
    keys = get_typeahead(source)
    while more := source.read_keys():
        keys += more
    return keys


@pytest.mark.parametrize("cut", range(len(TYPED) + 1))
def test_a_prompt_begins_with_what_was_typed_before_it(keyboard: Keyboard, cut: int) -> None:
    source = Vt100Input(keyboard.stdin)
    typing = PromptTyping(keyboard.console.typed, source)
    keyboard.console.typed.keep_bytes(TYPED[:cut])
    keyboard.type(TYPED[cut:])
    typing.give()
    assert keys_of(source) == parsed(TYPED)


@pytest.mark.parametrize("cut", range(len(TEXT) + 1))
def test_what_a_prompt_has_not_used_is_there_for_a_question_and_the_next_prompt(
    keyboard: Keyboard, cut: int
) -> None:
    source = Vt100Input(keyboard.stdin)
    typing = PromptTyping(keyboard.console.typed, source)
    keyboard.type(TEXT[:cut].encode())
    typing.take_back(and_read=True)
    keyboard.type(TEXT[cut:].encode())
    assert keyboard.console.read_answer("? ") == "あ\n"
    typing.give()
    assert keys_of(source) == parsed(TYPED.partition(b"\r")[2])


@pytest.mark.parametrize("before", [True, False], ids=["before", "at the question"])
def test_the_rest_of_a_paste_into_a_question_stays_a_paste(keyboard: Keyboard, before: bool) -> None:
    """At the prompt it would be sent line by line."""
    source = Vt100Input(keyboard.stdin)
    typing = PromptTyping(keyboard.console.typed, source)

    def paste() -> None:
        keyboard.type("\x1b[200~n\ry\r一\r二\x1b[201~\r".encode())

    if before:
        paste()
    first = keyboard.console.typed.read(ask=(lambda: None) if before else paste, show=lambda _text: None)
    assert (first, keyboard.console.read_answer("? ")) == ("n\n", "y\n")
    typing.give()
    keys = keys_of(source)
    assert [press.key for press in keys] == [Keys.BracketedPaste, Keys.ControlM]
    assert keys[0].data == "一\r二"


def test_ctrl_c_among_what_was_typed_is_told(keyboard: Keyboard) -> None:
    source = Vt100Input(keyboard.stdin)
    typing = PromptTyping(keyboard.console.typed, source)
    with source.raw_mode():
        keyboard.type("あ\x03い".encode())
        assert typing.take_back(and_read=True)
        assert keyboard.console.typed.take() == "あい"
        assert not typing.take_back(and_read=True)


def test_escape_alone_is_a_key(keyboard: Keyboard) -> None:
    source = Vt100Input(keyboard.stdin)
    typing = PromptTyping(keyboard.console.typed, source)
    keyboard.type(b"\x1b")
    typing.take_back(and_read=True)
    typing.give()
    assert [press.key for press in get_typeahead(source)] == [Keys.Escape]


def test_a_source_without_a_parser_keeps_its_keys(keyboard: Keyboard) -> None:
    with create_pipe_input() as pipe:
        source: Any = SimpleNamespace(read_keys=pipe.read_keys, typeahead_hash=pipe.typeahead_hash)
        typing = PromptTyping(keyboard.console.typed, source)
        pipe.send_text("あ\r")
        typing.take_back(and_read=True)
        typing.give()
        assert [press.data for press in get_typeahead(source)] == ["あ", "\r"]
