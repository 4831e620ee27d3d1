"""Keys that move and delete by words and by graphemes, in place of prompt_toolkit's."""

from collections.abc import Callable
from typing import Final

from prompt_toolkit.application.current import get_app
from prompt_toolkit.filters import (
    Condition,
    emacs_insert_mode,
    emacs_mode,
    has_selection,
    is_searching,
    vi_insert_mode,
    vi_navigation_mode,
    vi_waiting_for_text_object_mode,
)
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys

from tanuki_cli.terminal.chat.graphemes import after, before
from tanuki_cli.text.words import blank_start, word_end, word_start

_Place = Callable[[str, int], int]
"""From a text and a place in it to another place."""
_ALT_KEYS: Final = frozenset("bcdfluy\\<>._0123456789-aetw*/")
"""The characters that mean something with Alt in prompt_toolkit's Emacs mode."""


@Condition
def _has_text() -> bool:
    return bool(get_app().current_buffer.text)


def editing_keys() -> KeyBindings:
    """The bindings; they come before prompt_toolkit's own."""
    keys = KeyBindings()
    inserting = (emacs_insert_mode | vi_insert_mode) & ~has_selection & ~is_searching
    emacs = emacs_insert_mode & ~has_selection & ~is_searching
    commanding = vi_navigation_mode & ~vi_waiting_for_text_object_mode & ~has_selection

    keys.add(Keys.ControlH, filter=inserting, save_before=_unless_repeated)(_delete_to(before))
    keys.add(Keys.Delete, filter=inserting, save_before=_unless_repeated)(_delete_to(after))
    keys.add(Keys.ControlD, filter=inserting & _has_text)(_delete_to(after))
    keys.add("x", filter=commanding)(_delete_to(after))
    keys.add("X", filter=commanding)(_delete_to(before))

    keys.add(Keys.ControlW, filter=inserting)(_kill_to(blank_start))
    keys.add(Keys.Escape, Keys.ControlH, filter=emacs)(_kill_to(word_start))
    keys.add(Keys.Escape, "d", filter=emacs)(_kill_to(word_end))
    keys.add(Keys.Escape, Keys.Delete, filter=emacs)(_kill_to(word_end))
    keys.add(Keys.ControlDelete, filter=inserting)(_kill_to(word_end))

    keys.add(Keys.Escape, "b", filter=emacs_mode & ~is_searching)(_move_to(word_start))
    keys.add(Keys.Escape, "f", filter=emacs_mode & ~is_searching)(_move_to(word_end))
    keys.add(Keys.Escape, Keys.Left, filter=emacs_mode & ~is_searching)(_move_to(word_start))
    keys.add(Keys.Escape, Keys.Right, filter=emacs_mode & ~is_searching)(_move_to(word_end))
    keys.add(Keys.ControlLeft, filter=~is_searching)(_move_to(word_start))
    keys.add(Keys.ControlRight, filter=~is_searching)(_move_to(word_end))
    keys.add("b", filter=commanding)(_move_to(word_start))
    keys.add("w", filter=commanding)(_move_to(_next_word))

    # With Alt other characters are not typed, and none sends (Alt-# would).
    for character in map(chr, range(ord("!"), ord("~") + 1)):
        if character not in _ALT_KEYS:
            keys.add(Keys.Escape, character, filter=emacs)(_do_nothing)
    return keys


def _next_word(text: str, position: int) -> int:
    """Where the next word begins."""
    end = word_end(text, position)
    return max(word_start(text, word_end(text, end)), end)


def _reach(event: KeyPressEvent, place: _Place) -> int:
    buffer = event.current_buffer
    position = buffer.cursor_position
    for _time in range(max(event.arg, 1)):
        position = place(buffer.text, position)
    return position


def _move_to(place: _Place) -> Callable[[KeyPressEvent], None]:
    def move(event: KeyPressEvent) -> None:
        event.current_buffer.cursor_position = _reach(event, place)

    return move


def _delete_to(place: _Place) -> Callable[[KeyPressEvent], None]:
    def delete(event: KeyPressEvent) -> None:
        if not _delete(event, _reach(event, place)):
            event.app.output.bell()

    return delete


def _kill_to(place: _Place) -> Callable[[KeyPressEvent], None]:
    def kill(event: KeyPressEvent) -> None:
        backwards = (target := _reach(event, place)) < event.current_buffer.cursor_position
        if not (killed := _delete(event, target)):
            event.app.output.bell()
            return
        if event.is_repeat:
            earlier = event.app.clipboard.get_data().text
            killed = killed + earlier if backwards else earlier + killed
        event.app.clipboard.set_text(killed)

    return kill


def _delete(event: KeyPressEvent, target: int) -> str:
    buffer = event.current_buffer
    count = target - buffer.cursor_position
    return buffer.delete(count) if count > 0 else buffer.delete_before_cursor(-count) if count else ""


def _do_nothing(event: KeyPressEvent) -> None:
    """A key that nothing is bound to."""


def _unless_repeated(event: KeyPressEvent) -> bool:
    return not event.is_repeat
