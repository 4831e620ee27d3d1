"""``ask --chunked`` and ``--find`` at work: what a model is asked about a text longer than its context."""

import time
from dataclasses import asdict
from typing import Final

from tanuki_cli.batch.long_text import COMBINE, Document, LongText, PartAnswer, Wording
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.long_text import LongTextOptions
from tanuki_cli.cli.question import Question
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.errors import InterruptedByUser
from tanuki_cli.i18n import _
from tanuki_cli.session import ChatSession
from tanuki_cli.terminal.download import format_time
from tanuki_cli.terminal.step_progress import StepProgress
from tanuki_cli.text.sanitize import sanitize, sanitize_line

_LONG_S: Final = 60.0


def long_question(
    context: CommandContext,
    options: LongTextOptions,
    session: ChatSession,
    question: Question,
    *,
    as_jsonl: bool,
) -> str:
    """What the model is asked at last: about all of the text where it fits, about the best passages, or to
    combine the answers about its parts, which are asked for here.

    Raises InterruptedByUser at Ctrl-C, with what was answered printed, and what answering raises.
    """
    conversation = session.conversation
    engine = session.engine
    answerer = engine.answerer() if options.chunked else OneByOne(engine)  # which is not used then
    wording = Wording(
        question=question.typed,
        combine=options.combine or COMBINE,
        system=conversation.system,
        persona=conversation.settings.persona,
    )
    documents = [Document(name=one.name, text=one.text) for one in question.attachments]
    text = LongText(engine, answerer, wording, session.options, documents)
    if text.fits_whole():
        return question.text
    if options.find:
        passages = text.best_passages()
        places = ", ".join(passage.place for passage in passages)
        context.console.note(_("Read: {places}").format(places=sanitize_line(places)))
        return wording.about(passages)
    return _combined(context, text, wording, places=answerer.places, as_jsonl=as_jsonl)


def _combined(
    context: CommandContext, text: LongText, wording: Wording, *, places: int, as_jsonl: bool
) -> str:
    console = context.console
    parts = text.parts()
    console.note(_("The text is read in {count} parts.").format(count=len(parts)))
    started = time.monotonic()
    try:
        with StepProgress(console) as progress:

            def told(answer: PartAnswer) -> None:
                done = len(text.answers)
                if done == 1:
                    _foretell(context, (time.monotonic() - started) * -(-len(parts) // places))
                progress.update(done, len(parts), answer.part.place)
                if as_jsonl:
                    console.write_json(_json(answer))

            progress.update(0, len(parts))
            text.ask_each(parts, told=told)
        console.note(_("The answers are combined with: {text}").format(text=sanitize_line(wording.combine)))
        return text.combined(
            round_begins=lambda groups: console.note(
                _("They do not fit into one prompt: combined in {count} groups first.").format(count=groups)
            )
        )
    except (InterruptedByUser, KeyboardInterrupt):
        if not as_jsonl:
            _print_parts(context, text.answers)
        raise


def _foretell(context: CommandContext, seconds: float) -> None:
    if seconds > _LONG_S:
        context.console.note(_("This will take about {time}.").format(time=format_time(seconds)))


def _print_parts(context: CommandContext, answers: list[PartAnswer]) -> None:
    """What was answered before Ctrl-C."""
    for answer in answers:
        part = answer.part
        context.console.write(
            sanitize(f"[{part.number}/{part.count}] {part.place}\n{answer.text.strip()}\n\n")
        )


def _json(answer: PartAnswer) -> dict[str, object]:
    part = answer.part
    return {
        "part": {
            "name": part.name,
            "number": part.number,
            "count": part.count,
            "start": part.start,
            "end": part.end,
            "lines": [part.first_line, part.last_line],
        },
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": None if answer.usage is None else asdict(answer.usage),
    }
