"""``ask --chunked`` and ``--find`` at work: what a model is asked about a text longer than its context."""

from msgspec import to_builtins

from tanuki_cli.batch.long_text import LongText, PartAnswer
from tanuki_cli.batch.wording import COMBINE, Document, Wording
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.long_text import LongTextOptions
from tanuki_cli.cli.question import Question
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.i18n import _
from tanuki_cli.session import ChatSession
from tanuki_cli.terminal.long_text import read_in_parts
from tanuki_cli.text.sanitize import sanitize_line


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
        question=question.asked,
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
    told = (lambda answer: context.console.write_json(_json(answer))) if as_jsonl else None
    return read_in_parts(context.console, text, wording, places=answerer.places, told=told)


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
        "usage": None if answer.usage is None else to_builtins(answer.usage),
    }
