"""How full the context of a chat is."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from tanuki_cli.conversation import Message
from tanuki_cli.engines.local import prompt_limit
from tanuki_cli.errors import EngineError, RemoteError, TanukiError
from tanuki_cli.session import ChatSession

_SHORT_OF_SPACE: Final = 0.75


class ContextMeter:
    """Counts what is sent of the conversation of ``session``; once, until something of it changes."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._state: object = None
        self._counted: tuple[int | None, int] = (None, 0)

    @property
    def limit(self) -> int:
        """Tokens that the prompt may have: the rest of the context is for the answer."""
        return prompt_limit(self._session.engine.context_length, self._session.options.max_new_tokens)

    @property
    def used(self) -> int | None:
        """Tokens of the conversation so far; None where nobody has counted them."""
        return self._count()[0]

    @property
    def characters_left(self) -> int | None:
        """About how many characters still fit the prompt, once three quarters of it are used.

        By what this conversation's characters took so far; None where there is room, or nobody has counted.
        """
        used, characters = self._count()
        if not used or used < self.limit * _SHORT_OF_SPACE:
            return None
        return max(self.limit - used, 0) * characters // used

    def check(self, texts: Sequence[str]) -> None:
        """Raise PromptTooLongError if ``texts`` cannot go along with the next message, short as it may be."""
        message = Message("user", "\n\n".join(texts))
        with suppress(EngineError, RemoteError):  # no model, or no server: the message itself will tell
            self._session.engine.plan(self._session.prompt_messages(message), self._session.options)

    def _count(self) -> tuple[int | None, int]:
        """The tokens of what is sent, and its characters."""
        session, conversation = self._session, self._session.conversation
        state = (
            conversation.id,
            conversation.tip,
            conversation.system,
            conversation.settings.persona,
            session.reference,
            session.options.max_new_tokens,
        )
        if state != self._state:
            self._state, self._counted = state, self._count_anew()
        return self._counted

    def _count_anew(self) -> tuple[int | None, int]:
        session = self._session
        if session.conversation.tip is None:
            return 0, 0
        try:
            plan = session.engine.plan(session.prompt_messages(), session.options)
        except TanukiError:
            return None, 0
        tokens, turn = plan.prompt_tokens, session.last_turn
        if tokens is None and turn is not None and turn.usage.prompt_tokens:  # else the server tells nothing
            tokens = turn.usage.prompt_tokens + turn.usage.completion_tokens
        return tokens, sum(len(message.content) for message in plan.messages)
