"""Completion of slash commands and of what they take."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from tanuki_cli.catalog import FAMILIES, PRACTICE_NAME, VARIANTS
from tanuki_cli.errors import HistoryError
from tanuki_cli.i18n import LANGUAGES, _
from tanuki_cli.machine.hardware import format_bytes
from tanuki_cli.options import fold
from tanuki_cli.sampling import SAMPLING_SPECS
from tanuki_cli.terminal.chat.chat import Chat
from tanuki_cli.terminal.chat.commands import COMMANDS, Completes, is_command
from tanuki_cli.text.sanitize import sanitize

_MOST, _MOST_QUESTIONS = 50, 10


class ChatCompleter(Completer):
    """Completes only where a command is being typed: a message is nobody's business.

    ``draw`` prepares a description for prompt_toolkit.
    """

    def __init__(self, chat: Chat, *, draw: Callable[[str], str]) -> None:
        self._chat = chat
        self._draw = draw
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Names after ``/``, then the argument by its kind."""
        before = document.text_before_cursor
        if not is_command(before) or "\n" in before:
            return
        word, space, argument = [*re.split(r"(\s)", before[1:], maxsplit=1), "", ""][:3]
        word = fold(word).lower()
        if not space:
            for command in COMMANDS:
                if command.name.startswith(word):
                    yield Completion(
                        f"/{command.name}", start_position=-len(before), display_meta=_(command.summary)
                    )
            return
        kind: Completes = next((command.completes for command in COMMANDS if command.name == word), "")
        wanted = unicodedata.normalize("NFKC", argument).lower()  # a blank at its end counts
        for text, meta in self._values(kind):
            # Nobody knows the ids of conversations by heart: words of their titles find them, too.
            by_title = kind == "conversation" and wanted in unicodedata.normalize("NFKC", meta).lower()
            if by_title or text.lower().startswith(wanted):
                yield Completion(text, start_position=-len(argument), display_meta=self._draw(sanitize(meta)))
        if kind in {"path", "attachment"}:
            yield from self._paths.get_completions(Document(argument), complete_event)

    def _values(self, kind: Completes) -> Iterable[tuple[str, str]]:
        if kind == "command":
            return [(command.name, _(command.summary)) for command in COMMANDS]
        if kind == "model":
            return self._models()
        if kind == "setting":
            return [(f"{spec.key} ", _(spec.help)) for spec in SAMPLING_SPECS]
        if kind == "language":
            return [(language, "") for language in LANGUAGES]
        if kind == "persona":
            return [(name, "") for name in self._chat.personas.names()]
        if kind == "switch":
            return [("on", ""), ("off", "")]
        if kind == "node":
            nodes = enumerate(self._chat.conversation.nodes.values(), 1)
            return [(str(number), node.message.content[:40]) for number, node in nodes]
        if kind == "conversation":
            return self._conversations()
        if kind == "attachment" and (names := [one.name for one in self._chat.attachments]):
            return [("-", _("drop everything attached")), *((f"- {name}", _("drop this")) for name in names)]
        return []

    def _models(self) -> list[tuple[str, str]]:
        names = [(name, url) for name, url in self._chat.settings.remotes]
        names.append((PRACTICE_NAME, _("the practice model")))
        names += [(family.name, family.title) for family in FAMILIES]
        usable = [variant for variant in VARIANTS if not variant.refused]
        return names + [(variant.name, f"≈{format_bytes(variant.approximate_bytes)}") for variant in usable]

    def _conversations(self) -> list[tuple[str, str]]:
        try:
            digits = self._chat.history.id_digits()
            found = self._chat.history.offered(chats=_MOST, questions=_MOST_QUESTIONS)
            return [(one.id[:digits], one.label) for one in found]
        except HistoryError:
            return []
