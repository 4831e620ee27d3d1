"""``/file --chunked``: a message about files longer than the context."""

from collections.abc import Mapping

from tanuki_cli.batch.long_text import LongText
from tanuki_cli.batch.wording import Document, Wording
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.errors import InterruptedByUser
from tanuki_cli.i18n import _
from tanuki_cli.session import ChatSession
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.long_text import read_in_parts


def question_about(console: Console, session: ChatSession, question: str, files: Mapping[str, str]) -> str:
    """The message about ``files``, texts by name: all of them where they fit, else what combines the answers
    about their parts.

    Raises InterruptedByUser at Ctrl-C, InputError where the question leaves no room, and what answering
    raises.
    """
    conversation = session.conversation
    wording = Wording(question=question, system=conversation.system, persona=conversation.settings.persona)
    documents = [Document(name=name, text=text) for name, text in files.items()]
    # One after another: the model is the chat's, and goes on with it.
    text = LongText(session.engine, OneByOne(session.engine), wording, session.options, documents)
    if text.fits_whole():
        return wording.about(text.whole())
    if session.interrupted:
        raise InterruptedByUser(_("Interrupted."))
    return read_in_parts(console, text, wording, places=1)
