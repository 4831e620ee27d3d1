"""How a piece of text looks; what a terminal makes of it is the terminal's business."""

from typing import Final

from msgspec import Struct


class Style(Struct, frozen=True):
    """How a piece of text looks; ``color`` is a colour of the theme's, 0 for the text's own."""

    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    strike: bool = False
    color: int = 0

    def over(self, base: "Style") -> "Style":
        """This style on top of ``base``: attributes add up, an own colour wins."""
        return Style(
            self.bold or base.bold,
            self.dim or base.dim,
            self.italic or base.italic,
            self.underline or base.underline,
            self.strike or base.strike,
            self.color or base.color,
        )


PLAIN: Final = Style()
