"""The line below the prompt: what answers, how full the context is, how fast it was, what comes along.

In a narrow window it gives way in the order of value: what is used of the context, and the speed,
stay longest; only a download goes before them, which is the news while it runs.
"""

from typing import Final

from msgspec import Struct

from tanuki_cli.i18n import _
from tanuki_cli.terminal.chat.chat import Chat
from tanuki_cli.terminal.first_run.background_pull import describe_pull
from tanuki_cli.text.counts import about
from tanuki_cli.text.sanitize import sanitize
from tanuki_cli.text.width import cell_width, truncate_cells

_BETWEEN: Final = " · "
_LEAST_CUT: Final = 8
"""Cells: a name or title cut shorter than this says nothing."""


class _Part(Struct, kw_only=True):
    """One thing the line tells; an empty ``text`` is left out.

    ``short`` replaces it where room is scarce; one that ``may_be_cut`` takes what room there is.
    """

    text: str = ""
    short: str = ""
    may_be_cut: bool = False


class _Line:
    """Parts side by side; :meth:`abbreviate` and :meth:`cut` do something only while they are too wide."""

    def __init__(self, parts: list[_Part], *, width: int) -> None:
        self._parts = parts
        self._width = width

    @property
    def text(self) -> str:
        return _BETWEEN.join(part.text for part in self._parts if part.text)

    @property
    def _room(self) -> int:
        return self._width - cell_width(self.text)

    def abbreviate(self, part: _Part) -> None:
        if self._room < 0 and part.short:
            part.text = part.short

    def cut(self, part: _Part) -> None:
        if (room := self._room) < 0:
            kept = cell_width(part.text) + room
            part.text = truncate_cells(part.text, kept) if part.may_be_cut and kept >= _LEAST_CUT else ""


def status_line(chat: Chat, *, width: int) -> str:
    """At most ``width`` cells of model, download, context, speed, attachments and title."""
    name, context, speed, attached = _name(chat), _context(chat), _speed(chat), _attached(chat)
    download = _download(chat)
    title = _Part(text=sanitize(chat.conversation.title), may_be_cut=True)
    saving = _Part(text="" if chat.session.saving else _("not saved"))
    vi = _Part(text="vi" if chat.settings.editing_mode == "vi" else "")
    line = _Line([name, *download, context, speed, attached, saving, vi, title], width=width)
    line.cut(title)
    line.cut(vi)
    line.abbreviate(context)
    line.abbreviate(speed)
    for part in (*reversed(download[1:]), name, attached, speed):
        line.cut(part)
    if download:
        line.cut(context)
    return truncate_cells(line.text, width)


def _name(chat: Chat) -> _Part:
    name = sanitize(chat.model.engine.info.model)
    if chat.model.practice:  # cut short it would no longer say so
        return _Part(text=_("{model} (practice)").format(model=name))
    return _Part(text=name, may_be_cut=True)


def _context(chat: Chat) -> _Part:
    used = chat.meter.used
    if used is None:
        return _Part()
    tokens = f"{used}/{chat.meter.limit}"
    left = chat.meter.characters_left
    if left is None:
        return _Part(text=tokens)
    text = _("{tokens} (about {count} characters left)").format(
        tokens=tokens, count=about(left, rounded="down")
    )
    return _Part(text=text, short=tokens)


def _speed(chat: Chat) -> _Part:
    turn = chat.session.last_turn
    if turn is None or turn.tokens_per_s is None:
        return _Part()
    text = _("{speed:.1f} tokens/s").format(speed=turn.tokens_per_s)
    digits = 0 if turn.tokens_per_s >= 100 else 1
    return _Part(text=text, short=f"{turn.tokens_per_s:.{digits}f} tok/s")


def _attached(chat: Chat) -> _Part:
    count = len(chat.attachments)
    return _Part(text=_("{count} attached").format(count=count) if count else "")


def _download(chat: Chat) -> list[_Part]:
    if chat.download is None:
        return []
    chat.download.poll()
    return [_Part(text=sanitize(part)) for part in describe_pull(chat.download)]
