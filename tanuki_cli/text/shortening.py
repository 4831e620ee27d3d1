"""Texts without their middle, where they are too long for a prompt."""

from typing import Final

SHORTEST: Final = 40
"""Characters of a text that is not shortened any more."""
_ELLIPSIS: Final = "\n\n[…]\n\n"


def without_middle(text: str, excess: int) -> tuple[str, int]:
    """``text`` with at least ``excess`` characters fewer, the middle left out; and how many went."""
    keep = max(len(text) - excess - len(_ELLIPSIS), SHORTEST - len(_ELLIPSIS))
    head, tail = text[: (keep + 1) // 2], text[len(text) - keep // 2 :]
    return head.removesuffix(_ELLIPSIS) + _ELLIPSIS + tail.removeprefix(_ELLIPSIS), len(text) - keep
