"""A long text being read in parts: progress, the time it takes, and at Ctrl-C what was answered."""

import time
from collections.abc import Callable
from typing import Final

from tanuki_cli.batch.long_text import LongText, PartAnswer
from tanuki_cli.batch.wording import Wording
from tanuki_cli.errors import InterruptedByUser
from tanuki_cli.i18n import _
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.download import format_time
from tanuki_cli.terminal.step_progress import StepProgress
from tanuki_cli.text.sanitize import sanitize, sanitize_line

_LONG_S: Final = 60.0


def read_in_parts(
    console: Console,
    text: LongText,
    wording: Wording,
    *,
    places: int,
    told: Callable[[PartAnswer], None] | None = None,
) -> str:
    """Put the question to every part; returns the prompt that combines the answers.

    ``told`` gets each answer; without it those that are there are printed at Ctrl-C. Raises
    InterruptedByUser then, and what answering raises.
    """
    parts = text.parts()
    console.note(_("The text is read in {count} parts.").format(count=len(parts)))
    started = time.monotonic()
    try:
        with StepProgress(console) as progress:

            def keep(answer: PartAnswer) -> None:
                done = len(text.answers)
                seconds = (time.monotonic() - started) * -(-len(parts) // places)
                if done == 1 and seconds > _LONG_S:
                    console.note(_("This will take about {time}.").format(time=format_time(seconds)))
                progress.update(done, len(parts), answer.part.place)
                if told is not None:
                    told(answer)

            progress.update(0, len(parts))
            text.ask_each(parts, told=keep)
        console.note(_("The answers are combined with: {text}").format(text=sanitize_line(wording.combine)))
        return text.combined(
            round_begins=lambda groups: console.note(
                _("They do not fit into one prompt: combined in {count} groups first.").format(count=groups)
            )
        )
    except (InterruptedByUser, KeyboardInterrupt):
        for answer in text.answers if told is None else ():
            part = answer.part
            head = f"[{part.number}/{part.count}] {part.place}"
            console.write(sanitize(f"{head}\n{answer.text.strip()}\n\n"))
        raise
