"""From what a terminal sends to keys: also the keys of the kitty and modifyOtherKeys protocols.

Another program may have left these protocols on, or the user's terminal is set to send ``ESC[13;2u`` for
Shift-Enter. What is neither text nor a known key (a reply of the terminal, a report of the focus, a key that
nothing is bound to) is dropped here, so that no part of it is ever typed into a message.
"""

import re
from collections.abc import Callable
from typing import Final

from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

from tanuki_cli.terminal.typing_ahead import PASTE_BEGINS, PASTE_ENDS

_CURSOR_REPORT: Final = re.compile(r"\x1b\[\d+;\d+R")
_LONGEST: Final = 4096
"""Characters of a sequence that is waited for; what is longer has no end."""

# Whole sequences, and the beginnings of such, by what follows ESC. A reply in a string (OSC, DCS, APC) is
# told from Alt-] and the like by its first character.
_CSI: Final = re.compile(r"\x1b\[(?:\[.|[0-?]*[ -/]*[@-~])", re.DOTALL)
_CSI_BEGUN: Final = re.compile(r"\x1b\[(?:\[|[0-?]*[ -/]*)")
_MOUSE_X10_BEGINS: Final = "\x1b[M"
_IN_STRING: Final = r"\x1b(?:\]\d|P[\d>!$+?=]|_G)[^\x07\x1b\x9c]*"
_STRING: Final = re.compile(_IN_STRING + r"(?:\x07|\x1b\\|\x9c)")
_STRING_BEGUN: Final = re.compile(_IN_STRING + r"|\x1b[\]P_]\Z")
_SS3: Final = re.compile(r"\x1bO.", re.DOTALL)

_KITTY: Final = re.compile(
    r"\x1b\[(?P<code>\d+)(?::(?P<shifted>\d*))?[\d:]*(?:;(?P<mods>\d*)(?::(?P<event>\d+))?)?(?:;(?P<text>[\d:]*))?u"
)
_OTHER_KEYS: Final = re.compile(r"\x1b\[27;(?P<mods>\d+);(?P<code>\d+)~")
_FUNCTIONAL: Final = re.compile(
    r"\x1b\[(?P<number>\d+);(?P<mods>\d+)(?::(?P<event>\d+))?(?P<final>[A-HPQS~])"
)
_RELEASED: Final = "3"

_SHIFT, _ALT, _CTRL = 1, 2, 4
_OTHER_MODIFIERS: Final = 8 | 16 | 32  # super, hyper, meta
_LOCKS: Final = 64 | 128

_KEYPAD: Final = {57399 + digit: str(digit) for digit in range(10)} | {
    57409: ".",
    57410: "/",
    57411: "*",
    57412: "-",
    57413: "+",
    57414: "\r",
    57415: "=",
}
"""The keypad in kitty's protocol, as the keys beside it."""
_KEYPAD_MOVES: Final = {
    57417: "\x1b[D", 57418: "\x1b[C", 57419: "\x1b[A", 57420: "\x1b[B", 57421: "\x1b[5~", 57422: "\x1b[6~",
    57423: "\x1b[H", 57424: "\x1b[F", 57426: "\x1b[3~",
}  # fmt: skip


class KeyParser(Vt100Parser):
    """prompt_toolkit's parser behind a filter; what it is fed may end anywhere."""

    def __init__(self, feed_key_callback: Callable[[KeyPress], None]) -> None:
        super().__init__(feed_key_callback)
        self._waiting = ""
        self._pasted: list[str] | None = None

    def feed(self, data: str) -> None:
        """Parse ``data``; a sequence that is not whole yet waits for the rest."""
        self._waiting += data
        while self._waiting and self._take():
            pass

    def flush(self) -> None:
        """Nothing came for a while: what waits is a key by itself, unless a reply is under way."""
        if self._pasted is None and self._waiting.startswith(_MOUSE_X10_BEGINS):
            self._waiting = ""
        elif self._pasted is None and len(self._waiting) <= 2:
            keys, self._waiting = self._waiting, ""
            super().feed(keys)
        super().flush()

    def take_unfinished(self) -> str:
        """What waits for its rest, as it was typed; it does not wait any more."""
        begun = "" if self._pasted is None else "".join([PASTE_BEGINS, *self._pasted])
        typed, self._waiting, self._pasted = begun + self._waiting, "", None
        return typed

    def _take(self) -> bool:
        """Take something from the start of what waits; False if more is needed."""
        if self._pasted is not None:
            return self._take_paste()
        text, escape, rest = self._waiting.partition("\x1b")
        if text:
            super().feed(text)
            self._waiting = escape + rest
            return True
        if self._waiting.startswith(_MOUSE_X10_BEGINS):  # a report of the mouse is three characters more
            whole = len(self._waiting) >= len(_MOUSE_X10_BEGINS) + 3
            self._waiting = self._waiting[len(_MOUSE_X10_BEGINS) + 3 :] if whole else self._waiting
            return whole
        for pattern in (_CSI, _STRING, _SS3):
            if match := pattern.match(self._waiting):
                self._waiting = self._waiting[match.end() :]
                self._sequence(match[0])
                return True
        return self._take_begun()

    def _take_begun(self) -> bool:
        """Wait for the end of what has begun; else it is a key, or broke off where something else begins."""
        waiting = self._waiting
        begun = _CSI_BEGUN.match(waiting) or _STRING_BEGUN.match(waiting)
        length = 0 if begun is None else begun.end()
        rest = waiting[length:]
        if waiting in {"\x1b", "\x1bO"} or (begun and rest in {"", "\x1b"} and len(waiting) < _LONGEST):
            return False
        if length > 2:
            self._waiting = rest
        elif waiting[1] == "\x1b":  # Escape, and then something else
            super().feed("\x1b")
            super().flush()
            self._waiting = waiting[1:]
        else:  # Alt with a character
            super().feed(waiting[:2])
            self._waiting = waiting[2:]
        return True

    def _take_paste(self) -> bool:
        assert self._pasted is not None
        content, mark, rest = self._waiting.partition(PASTE_ENDS)
        if not mark:  # it may be cut in its middle: what could be its beginning stays to be looked at again
            cut = max(len(content) - len(PASTE_ENDS), 0)
            self._pasted.append(content[:cut])
            self._waiting = content[cut:]
            return False
        pasted = "".join([*self._pasted, content])
        self._pasted, self._waiting = None, rest
        self.feed_key_callback(KeyPress(Keys.BracketedPaste, pasted))
        return True

    def _sequence(self, sequence: str) -> None:
        if sequence == PASTE_BEGINS:
            self._pasted = []
        elif match := _OTHER_KEYS.fullmatch(sequence):  # of which prompt_toolkit takes Shift-Enter for Enter
            self._protocol_key(match)
        elif sequence in ANSI_SEQUENCES or _CURSOR_REPORT.fullmatch(sequence):
            super().feed(sequence)
        elif match := _KITTY.fullmatch(sequence):
            self._protocol_key(match)
        elif match := _FUNCTIONAL.fullmatch(sequence):
            self._functional_key(match)

    def _functional_key(self, match: re.Match[str]) -> None:
        """An arrow, Home, F1 …: without its locks and kinds of event it is one of prompt_toolkit's."""
        if match["event"] == _RELEASED:
            return
        modifiers = (int(match["mods"]) - 1) & ~_LOCKS
        number, final = match["number"], match["final"]
        plain = (
            f"\x1b[{number}~" if final == "~" else f"\x1b[{final}" if final in "ABCDEFGH" else f"\x1bO{final}"
        )
        sequence = f"\x1b[{number};{modifiers + 1}{final}" if modifiers else plain
        if sequence in ANSI_SEQUENCES:
            super().feed(sequence)

    def _protocol_key(self, match: re.Match[str]) -> None:
        """A key that is told by its code and its modifiers."""
        groups = match.groupdict()
        if groups.get("event") == _RELEASED:
            return
        modifiers = (int(groups["mods"] or 1) - 1) & ~_LOCKS
        code = int(groups["code"])
        if modifiers & _OTHER_MODIFIERS:
            return
        if move := _KEYPAD_MOVES.get(code):
            super().feed(move)
            return
        if typed := _text(groups.get("text")):
            super().feed(typed)
            return
        shifted = int(groups["shifted"]) if groups.get("shifted") else None
        for key in _keys(_KEYPAD.get(code) or _character(code), modifiers, shifted):
            self.feed_key_callback(key)


def as_typed(press: KeyPress) -> str:
    """What a terminal sends for ``press``."""
    pasted = press.key == Keys.BracketedPaste
    return f"{PASTE_BEGINS}{press.data}{PASTE_ENDS}" if pasted else press.data


def _text(codes: str | None) -> str:
    return "".join(
        filter(str.isprintable, (_character(int(code)) for code in (codes or "").split(":") if code))
    )


def _character(code: int) -> str:
    """The character of ``code``; empty for what is none, kitty's numbers of other keys among it."""
    if code > 0x10FFFF or 0xD800 <= code <= 0xF8FF:
        return ""
    return chr(code)


def _keys(character: str, modifiers: int, shifted: int | None) -> list[KeyPress]:
    """The keys of a terminal without such a protocol that mean the same; none for what has no meaning."""
    shift, alt, ctrl = bool(modifiers & _SHIFT), bool(modifiers & _ALT), bool(modifiers & _CTRL)
    found: KeyPress | None = None
    if character == "\r":
        # Enter alone sends, or whatever it is set to; with Shift or Ctrl it breaks the line.
        found = KeyPress(Keys.ControlJ, "\n") if shift or ctrl else KeyPress(Keys.ControlM, "\r")
    elif character == "\t":
        found = None if ctrl else KeyPress(Keys.BackTab, "\x1b[Z") if shift else KeyPress(Keys.ControlI, "\t")
    elif character == "\x7f":
        alt = alt or ctrl  # both delete a word
        found = KeyPress(Keys.ControlH, "\x7f")
    elif character == "\x1b":
        found = None if shift or ctrl else KeyPress(Keys.Escape, "\x1b")
    elif ctrl:
        legacy = _control(character)
        found = None if shift or legacy is None else legacy
    elif character.isprintable() and character:
        typed = _character(shifted) if shift and shifted else character.upper() if shift else character
        found = KeyPress(typed, typed)
    if found is None:
        return []
    return [KeyPress(Keys.Escape, "\x1b"), found] if alt else [found]


def _control(character: str) -> KeyPress | None:
    if not character or character not in " @[\\]^_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
        return None
    data = "\0" if character == " " else chr(ord(character.upper()) & 0x1F)
    key = ANSI_SEQUENCES[data]
    return KeyPress(key, data) if isinstance(key, Keys) else None
