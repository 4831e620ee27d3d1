"""What to do about a model that is not here yet: one screen, one key."""

import math
from typing import Final, Literal

from tanuki_cli.i18n import N_, _, active_language
from tanuki_cli.loading import Offer
from tanuki_cli.machine.hardware import Machine, format_bytes
from tanuki_cli.options import fold
from tanuki_cli.terminal.console import NO, YES, Console
from tanuki_cli.text.counts import about

Choice = Literal["meanwhile", "first", "practice", "none", "language"]

_TYPICAL_BITS_PER_S: Final = 100e6
_CHARACTERS_PER_TOKEN: Final = 1.7
"""Of Japanese text in Tanuki's vocabulary."""
_CHOICES: Final[tuple[tuple[Choice, str], ...]] = (
    ("meanwhile", N_("download; practice model meanwhile")),
    ("first", N_("download first, then chat")),
    ("practice", N_("practice model only, no download")),
    ("none", N_("quit")),
)
_WORDS: Final[dict[str, Choice]] = {
    **{str(number): choice for number, (choice, _label) in enumerate(_CHOICES, 1)},
    **dict.fromkeys(("", *YES), "meanwhile"),
    **dict.fromkeys((*NO, "q"), "none"),
    **dict.fromkeys(("l", "en", "ja", "english", "日本語"), "language"),
}


def choose(console: Console, offer: Offer) -> Choice:
    """Show ``offer`` and ask; Enter chats with the practice model while the download runs.

    Raises InterruptedByUser at Ctrl-C. Call only if ``console.can_ask``.
    """
    show_offer(console, offer)
    for number, (_choice, label) in enumerate(_CHOICES, 1):
        console.show(f" {number}  {_(label)}")
    console.show(" l  English" if active_language() == "ja" else " l  日本語")
    while True:
        answer = console.read_answer(_("Which? [1] "))
        if not answer:  # Ctrl-D
            return "none"
        if (word := fold(answer).lower()) in _WORDS:
            return _WORDS[word]
        console.show(_("Please answer 1, 2, 3, 4 or l."))


def show_offer(console: Console, offer: Offer) -> None:
    """Print what a question about ``offer`` needs to know."""
    for line in describe_offer(offer):
        console.show(line)
    if offer.obstacle:
        console.show(offer.obstacle, style="warning")


def describe_offer(offer: Offer) -> list[str]:
    """The machine, the model with its size and how long that takes, and why this one."""
    name = _("Recommended: {name}") if offer.reason else _("Not installed: {name}")
    lines = [describe_machine(offer.machine), name.format(name=offer.name), _describe_download(offer)]
    if offer.expected_tokens_per_s is not None:
        lines.append(
            _("Speed here, by its memory: about {count} characters a minute").format(
                count=about(max(offer.expected_tokens_per_s * _CHARACTERS_PER_TOKEN * 60, 1))
            )
        )
    return [*lines, offer.reason] if offer.reason else lines


def describe_machine(machine: Machine) -> str:
    """E.g. ``This machine: 8 cores · 16.0 GB of memory · no GPU``."""
    gpus = " · ".join(gpu.name for gpu in machine.gpus) or _("no GPU")
    return _("This machine: {cores} cores · {memory} of memory · {gpus}").format(
        cores=machine.physical_cores, memory=format_bytes(machine.ram_bytes), gpus=gpus
    )


def _describe_download(offer: Offer) -> str:
    free = format_bytes(offer.free_disk_bytes)
    if offer.bytes_to_receive is None:
        return _("Download: unknown size · {free} of disk free").format(free=free)
    sentence = (
        _("Download, rest: {size}, {time} · {free} of disk free")
        if offer.begun
        else _("Download: about {size}, {time} · {free} of disk free")
    )
    return sentence.format(
        size=format_bytes(offer.bytes_to_receive),
        time=estimate_time(offer.bytes_to_receive, offer.bytes_per_s),
        free=free,
    )


def estimate_time(size: int, bytes_per_s: float | None) -> str:
    """How long ``size`` bytes take at the last download's speed, else on a typical line, which it names."""
    if bytes_per_s is None:
        return _("about {time} at 100 Mbps").format(time=_rough(size * 8 / _TYPICAL_BITS_PER_S))
    return _("about {time} at the last speed, {speed}/s").format(
        time=_rough(size / bytes_per_s), speed=format_bytes(bytes_per_s)
    )


def _rough(seconds: float) -> str:
    """In whole minutes, rounded up: nobody is angry about an early end."""
    hours, minutes = divmod(max(math.ceil(seconds / 60), 1), 60)
    if hours >= 10 or (hours and not minutes):
        return _("{hours} h").format(hours=hours + (minutes >= 30))
    if hours:
        return _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)
    return _("{minutes} min").format(minutes=minutes)
