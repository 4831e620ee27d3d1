"""The input line by graphemes, with the width that answers have.

prompt_toolkit draws and moves by code points, and adds their widths up: a family of three takes six cells
of its six, where a terminal draws two, and what follows is drawn in the wrong place. So each grapheme that
is more than one character stands on prompt_toolkit's screen as one character of its own, its stand-in; on
its way to the terminal it becomes itself again.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.output import Output

from tanuki_cli.text.width import cell_width, graphemes

_NARROW: Final = range(0x10F000, 0x10FFF0)
"""Private characters, one cell wide for prompt_toolkit."""
_WIDE: Final = range(0x3E000, 0x3FFF0)
"""Characters that Unicode has not given away, two cells wide for prompt_toolkit."""
_RESERVED: Final = re.compile(f"[{chr(_NARROW[0])}-{chr(_NARROW[-1])}{chr(_WIDE[0])}-{chr(_WIDE[-1])}]")
_TAB_CELLS: Final = 8
_WINDOW: Final = 200


class StandIns:
    """Which character stands for which grapheme; ``ambiguous`` is the width of ambiguous characters."""

    def __init__(self, *, ambiguous: int = 1) -> None:
        self._ambiguous = ambiguous
        self._by_grapheme: dict[str, str] = {}
        self._graphemes: dict[str, tuple[str, int]] = {}
        self._free = {1: iter(_NARROW), 2: iter(_WIDE)}

    def replace(self, text: str) -> str:
        """``text`` as prompt_toolkit is to draw it where nothing is edited."""
        return "".join(map(self.of, graphemes(text)))

    def of(self, grapheme: str) -> str:
        """What stands for ``grapheme``: itself where prompt_toolkit draws it as wide as the terminal."""
        if grapheme.isascii() or not grapheme:
            return grapheme
        if (found := self._by_grapheme.get(grapheme)) is not None:
            return found
        width = cell_width(grapheme, ambiguous=self._ambiguous)
        single = len(grapheme) == 1 and width == cell_width(grapheme)
        number = None
        if width in self._free and (not single or _RESERVED.match(grapheme)):
            number = next(self._free[width], None)
        found = grapheme if number is None else chr(number)
        self._by_grapheme[grapheme] = found
        if number is not None:
            self._graphemes[found] = grapheme, width
        return found

    def draw_to(self, output: Output) -> None:
        """Let ``output`` write the graphemes in place of their stand-ins."""
        write, write_raw = output.write, output.write_raw

        def write_graphemes(data: str) -> None:
            if data in self._graphemes:
                grapheme, width = self._graphemes[data]
                # A terminal that draws it wider or narrower must not move what follows, nor leave old parts.
                write_raw(f"\x1b[{width}X\x1b7")
                write(grapheme)
                write_raw(f"\x1b8\x1b[{width}C")
            else:
                write(data)

        output.write = write_graphemes  # type: ignore[method-assign]


class GraphemeProcessor(Processor):
    """Puts the stand-ins in place of graphemes, and blanks in place of tabs."""

    def __init__(self, stand_ins: StandIns) -> None:
        self._stand_ins = stand_ins
        self._parts = lru_cache(maxsize=256)(self._find_parts)

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        """The line as it is drawn, with the way from its places to those on the screen and back."""
        fragments = transformation_input.fragments
        line = "".join(fragment[1] for fragment in fragments)
        if line.isascii() and "\t" not in line:
            return Transformation(fragments)
        parts = self._parts(line)
        styles = [fragment[0] for fragment in fragments for _character in fragment[1]]
        drawn = fragments[:0]
        shown_at: list[int] = []  # by place in the line
        place_of: list[int] = []  # by place on the screen
        for part, shown in parts:
            start = len(shown_at)
            shown_at += [len(place_of)] * len(part)
            place_of += [start] * len(shown)
            drawn.append((styles[start], shown))
        shown_at.append(len(place_of))
        place_of.append(len(shown_at) - 1)

        def source_to_display(place: int) -> int:
            last = len(shown_at) - 1
            return shown_at[place] if place <= last else shown_at[last] + place - last

        def display_to_source(place: int) -> int:
            last = len(place_of) - 1
            return place_of[place] if place <= last else place_of[last] + place - last

        return Transformation(drawn, source_to_display, display_to_source)

    def _find_parts(self, line: str) -> list[tuple[str, str]]:
        """Each grapheme, and what is drawn for it."""
        parts, column = [], 0
        for grapheme in graphemes(line):
            if grapheme == "\t":
                shown = " " * (_TAB_CELLS - column % _TAB_CELLS)
                column += len(shown)
            else:
                shown = self._stand_ins.of(grapheme)
                column += cell_width(shown)
            parts.append((grapheme, shown))
        return parts


def bounds(text: str, position: int) -> tuple[int, int]:
    """Start and end of the grapheme that ``position`` is in; both are ``position`` where one begins there."""
    if position <= 0 or position >= len(text) or (text[position].isascii() and text[position - 1].isascii()):
        return position, position
    start = max(0, position - _WINDOW, text.rfind("\n", 0, position) + 1)
    for grapheme in graphemes(text[start : position + _WINDOW]):
        end = start + len(grapheme)
        if end > position:
            return (start, end) if start < position else (position, position)
        start = end
    return position, position


def before(text: str, position: int) -> int:
    """Where the grapheme begins that ends at ``position``."""
    return bounds(text, max(0, position - 1))[0]


def after(text: str, position: int) -> int:
    """Where the grapheme ends that begins at ``position``."""
    return bounds(text, min(position + 1, len(text)))[1]


def keep_out_of_graphemes(buffer: Buffer) -> Callable[[Buffer], None]:
    """What moves the cursor of ``buffer`` on, the way it went, when it got into a grapheme; for its event."""
    last = buffer.cursor_position

    def moved(_buffer: Buffer) -> None:
        nonlocal last
        position = buffer.cursor_position
        start, end = bounds(buffer.text, position)
        went_right, last = position > last, position
        if start != end:
            last = end if went_right else start
            buffer.cursor_position = last

    return moved
