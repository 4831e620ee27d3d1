"""The terminal model that other tests trust."""

from tests.support.screen import Screen


def test_wide_characters_wrap_whole_at_the_margin() -> None:
    screen = Screen(5, 3)
    screen.feed("漢字仮名")
    assert screen.window == ["漢字", "仮名", ""]
    assert screen.raw.cursor.x == 4


def test_graphemes_stay_whole_and_nothing_after_them_is_lost() -> None:
    screen = Screen(20, 2)
    screen.feed("👩‍👩‍👧❤️か\u3099e\u0301|")
    assert screen.window[0] == "👩‍👩‍👧❤️か\u3099e\u0301|"
    assert screen.raw.cursor.x == 8


def test_newlines_return_the_carriage_and_scroll_into_the_scrollback() -> None:
    screen = Screen(10, 2)
    screen.feed(b"a\nb\n")
    screen.feed("c")
    assert screen.scrollback == ["a"]
    assert screen.window == ["b", "c"]
    assert screen.display == ["a", "b", "c"]


def test_cutting_loses_what_is_beyond_the_margin() -> None:
    screen = Screen(10, 4)
    screen.feed("0123456789\nab\ncd\nef")
    screen.resize(5, 2)
    assert screen.scrollback == ["0123456789", "ab"]
    assert screen.window == ["cd", "ef"]
    screen.resize(10, 4)
    assert screen.display == ["0123456789", "ab", "cd", "ef"]


def test_reflowing_wraps_anew_and_the_cursor_stays_with_its_text() -> None:
    screen = Screen(10, 4)
    screen.feed("0123456789AB\nab\r")
    screen.resize(6, 4, reflow=True)
    assert screen.display == ["012345", "6789AB", "ab"]
    assert (screen.raw.cursor.x, screen.raw.cursor.y) == (0, 2)
    screen.resize(20, 4, reflow=True)
    assert screen.display == ["0123456789AB", "ab"]
    assert (screen.raw.cursor.x, screen.raw.cursor.y) == (0, 1)
