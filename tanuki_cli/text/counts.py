"""Numbers that nobody counted exactly, as a person says them."""

from typing import Final, Literal

from tanuki_cli.i18n import active_language

_MYRIADS: Final = ((10**8, "億"), (10**4, "万"))
_THOUSAND: Final = 1000


def about(count: float, *, rounded: Literal["nearest", "up", "down"] = "nearest") -> str:
    """``count`` in two digits: ``35,000``, in Japanese ``3 万 5 千``. What has at most two digits stays.

    In Japanese a counter follows at once: digits bring the blank before it along, 万 and 千 need none.

    It is rounded ``up`` or ``down`` where too little, or too much, would do harm.
    """
    whole = round(count)
    step = 10 ** max(len(str(whole)) - 2, 0)
    added = {"nearest": step // 2, "up": step - 1, "down": 0}[rounded]
    number = (whole + added) // step * step
    return _in_japanese(number) if active_language() == "ja" else f"{number:,}"


def _in_japanese(number: int) -> str:
    for size, name in _MYRIADS:
        if number >= size:
            high, low = divmod(number, size)
            thousands, rest = divmod(low * 10_000 // size, _THOUSAND)
            below = f" {thousands} 千" if thousands and not rest else ""
            return f"{high} {name}{below}" + ("万" if below and size > 10_000 else "")
    return f"{number} "
