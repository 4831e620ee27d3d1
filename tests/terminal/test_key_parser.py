"""What a terminal sends becomes keys, also by newer protocols, and nothing else of it becomes text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.keys import Keys

from tanuki_cli.terminal.key_parser import KeyParser

ESC = "\x1b"
ALT = Keys.Escape


def parse(*pieces: str, flush: bool = True) -> list[str]:
    keys = []
    parser = KeyParser(lambda press: keys.append(press))
    for piece in pieces:
        parser.feed(piece)
    if flush:
        parser.flush()
    return [press.data if press.key is Keys.BracketedPaste else press.key for press in keys]


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        # Enter alone sends; with Shift or Ctrl it breaks the line; Alt-Enter is what it was.
        ("[13u", [Keys.ControlM]),
        ("[13;1u", [Keys.ControlM]),
        ("[13;2u", [Keys.ControlJ]),
        ("[13;5u", [Keys.ControlJ]),
        ("[13;6u", [Keys.ControlJ]),
        ("[13;3u", [ALT, Keys.ControlM]),
        ("[27;2;13~", [Keys.ControlJ]),
        ("[27;5;13~", [Keys.ControlJ]),
        ("[27;3;13~", [ALT, Keys.ControlM]),
        ("[13;66u", [Keys.ControlJ]),  # with Caps Lock
        ("[13;2:1u", [Keys.ControlJ]),
        ("[13;2:2u", [Keys.ControlJ]),  # repeated
        ("[13;2:3u", []),  # released
        ("[57414;1u", [Keys.ControlM]),  # Enter of the keypad
        # Letters.
        ("[97;5u", [Keys.ControlA]),
        ("[99;5u", [Keys.ControlC]),
        ("[27;5;99~", [Keys.ControlC]),
        ("[99;6u", []),  # Ctrl-Shift-C copies elsewhere
        ("[98;3u", [ALT, "b"]),
        ("[27;3;98~", [ALT, "b"]),
        ("[97:65;2u", ["A"]),
        ("[97;2u", ["A"]),
        ("[97;;97u", ["a"]),
        ("[12354;;12354u", ["あ"]),
        ("[97;9u", []),  # with the logo key
        ("[32;2u", [" "]),
        ("[57404u", ["5"]),
        ("[57419u", [Keys.Up]),
        ("[57441;2u", []),  # a Shift key alone
        # Other keys.
        ("[27u", [Keys.Escape]),
        ("[9;2u", [Keys.BackTab]),
        ("[127u", [Keys.ControlH]),
        ("[127;5u", [ALT, Keys.ControlH]),
        ("[1;1A", [Keys.Up]),
        ("[1;65A", [Keys.Up]),
        ("[1;5:3D", []),
        ("[1;5D", [Keys.ControlLeft]),
        ("[1;1P", [Keys.F1]),
        ("[3;1~", [Keys.Delete]),
        ("[12;34R", [Keys.CPRResponse]),
        ("[[A", [Keys.F1]),
        ("Oj", []),
    ],
)
def test_keys_of_newer_protocols(sent: str, keys: list[str]) -> None:
    assert parse(ESC + sent) == keys
    assert parse("あ", ESC + sent, "い") == ["あ", *keys, "い"]


REPLIES = [
    "[?62;22c",
    "[>1;10;0c",
    "[0n",
    "[I",
    "[O",
    "[?997;1n",
    "[?2026;2$y",
    "[?0u",
    "[8;24;80t",
    "[<0;10;5M",
    "[<0;10;5m",
    "[M !!",
    "]11;rgb:1e1e/1e1e/1e1e\x07",
    "]11;rgb:1e1e/1e1e/1e1e\x1b\\",
    "]52;c;44GC\r\n\x07",
    "P>|XTerm(390)\x1b\\",
    "P1$r0m\x1b\\",
    "_Gi=31;OK\x1b\\",
    "[200;1;2;3z",
    "[1;99Z",
    "[99999999999;5u",
    "[55296u",
    "[5;5;5;5~",
]


@pytest.mark.parametrize("reply", REPLIES)
def test_no_reply_of_a_terminal_is_typed_whole_or_in_pieces(reply: str) -> None:
    if not reply.startswith("[<"):
        assert parse(ESC + reply) == []
    for cut in range(1, len(reply)):
        found = parse("a", ESC + reply[:cut], reply[cut:], "b")
        assert [key for key in found if key is not Keys.Vt100MouseEvent] == ["a", "b"], cut


def test_a_reply_that_comes_slowly_is_waited_for_and_one_that_breaks_off_takes_nothing_along() -> None:
    keys = []
    parser = KeyParser(lambda press: keys.append(press.key))
    for character in ESC + "]11;rgb:1e1e/1e1e/1e1e":
        parser.feed(character)
        if parser._waiting not in {ESC, ESC + "]"}:  # by themselves they are keys
            parser.flush()
    parser.feed(ESC + "[A")
    assert keys == [Keys.Up]


def test_escape_alone_and_alt_keys_are_what_they_were() -> None:
    assert parse(ESC) == [Keys.Escape]
    assert parse(ESC, flush=False) == []
    assert parse(ESC + "b") == [ALT, "b"]
    assert parse(ESC + "\r") == [ALT, Keys.ControlM]
    assert parse(ESC + ESC + "[A") == [Keys.Escape, Keys.Up]
    for character in "[]P_O":
        assert parse(ESC + character) == [ALT, character]
    assert parse(ESC + "Ph") == [ALT, "P", "h"]
    assert parse(ESC + "[M") == []


def test_every_sequence_that_was_known_is_known() -> None:
    changed = {"\x1b[27;2;13~", "\x1b[27;5;13~", "\x1b[27;6;13~"}
    for sequence, key in ANSI_SEQUENCES.items():
        if sequence in changed or key is Keys.BracketedPaste:
            continue
        expected = list(key) if isinstance(key, tuple) else [key]
        assert parse(sequence) == expected, repr(sequence)


PASTE = "一行目\r二行目 \x1b[31m赤\x1b[0m \x1b[13;2u"


def test_a_paste_is_one_key_wherever_it_is_cut() -> None:
    whole = f"{ESC}[200~{PASTE}{ESC}[201~x"
    for cut in range(len(whole)):
        assert parse(whole[:cut], whole[cut:]) == [PASTE, "x"]
    assert parse(*whole) == [PASTE, "x"]


@given(
    st.lists(st.sampled_from([ESC + reply for reply in REPLIES] + ["あ", "a", ESC + "[A", ESC + "[13;2u"]))
)
def test_replies_among_keys_change_no_key(pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = parse(text)
    assert [key for key in whole if key in {"a", "あ"}] == [piece for piece in pieces if piece in {"a", "あ"}]
    assert parse(*text) == whole
    for left, right in pairwise(range(0, len(text) + 1, 5)):
        assert parse(text[:left], text[left:right], text[right:]) == whole
