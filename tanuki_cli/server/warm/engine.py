"""An engine whose model is in the keeper."""

import json
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from typing import Any

from tanuki_cli.catalog import LocalModel
from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import PLAIN, AnswerForm, AnswerScore, Chunk, PromptPlan
from tanuki_cli.engines.base import Answerer, EngineInfo, GenerationCancelled
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.engines.opening import read_tokenizer
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _, active_language
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.server.warm.wire import (
    MAX_LINE,
    Json,
    chunk_of,
    encode_request,
    error_of,
    form_json,
    messages_json,
    options_json,
    plan_of,
    score_of,
)
from tanuki_cli.tokenizer import ChatTokenizer


class WarmEngine:
    """Implements :class:`~tanuki_cli.engines.base.Engine` with the model that a keeper has.

    ``hold`` gives a connection that keeps it from being idle, and what it says of itself; it starts the
    keeper again where it is gone. Nothing of an answer is lost by that: it is only done before one begins.
    """

    def __init__(
        self,
        target: LocalModel,
        hold: Callable[[], tuple[socket.socket, Json]],
        connect: Callable[[], socket.socket],
    ) -> None:
        self._target = target
        self._hold = hold
        self._connect = connect
        self._holding, self._status = hold()
        self._tokenizer: ChatTokenizer | None = None
        self._running: socket.socket | None = None
        self._cancelled = False

    @property
    def info(self) -> EngineInfo:
        """What runs where; the model under the name that it was asked for by."""
        status = self._status
        return EngineInfo(model=self._target.name, engine=str(status["engine"]), device=str(status["device"]))

    @property
    def tokenizer(self) -> ChatTokenizer:
        """What makes the ids; read when somebody wants it."""
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self._target)
        return self._tokenizer

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer share."""
        return int(self._status["context_length"])

    @property
    def notes(self) -> Sequence[str]:
        """What was to be said when the model was loaded."""
        return tuple(self._status["notes"])

    def plan(self, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        """What of ``messages`` would be sent; see :class:`~tanuki_cli.engines.base.Engine`."""
        request = {"op": "plan", "messages": messages_json(messages), "options": options_json(options)}
        return plan_of(next(self._lines(request))["plan"])

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Answer the last message; see :class:`~tanuki_cli.engines.base.Engine`."""
        return self._chunks({"op": "stream", "messages": messages_json(messages)}, options, form)

    def complete(
        self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Go on from ``prompt_ids``; see :class:`~tanuki_cli.engines.base.Engine`."""
        return self._chunks({"op": "complete", "prompt_ids": list(prompt_ids)}, options, form)

    def score(
        self, messages: Sequence[Message], answers: Sequence[str], *, alternatives: int = 0
    ) -> list[AnswerScore]:
        """How likely ``answers`` are; see :class:`~tanuki_cli.engines.base.Engine`."""
        self._cancelled = False
        request = {"op": "score", "messages": messages_json(messages), "answers": list(answers)}
        line = next(self._lines({**request, "alternatives": alternatives}))
        if "scores" not in line:
            raise GenerationCancelled
        return [score_of(score) for score in line["scores"]]

    def answerer(self, places: int | None = None, *, interactive: bool = False) -> Answerer:
        """One answer after another: a keeper is for one user."""
        return OneByOne(self)

    def cancel(self) -> None:
        """Ask the running stream to stop; safe in a signal handler."""
        self._cancelled = True
        if self._running is not None:
            with suppress(OSError):
                self._running.send(b"\n")

    def close(self) -> None:
        """Let the model go; it stays loaded for the next command."""
        self._holding.close()

    def _chunks(
        self, request: Json, options: SamplingOptions, form: AnswerForm
    ) -> Generator[Chunk, None, None]:
        self._cancelled = False
        request = {**request, "options": options_json(options), "form": form_json(form)}
        with closing(self._lines(request)) as lines:
            for line in lines:
                chunk = chunk_of(line["chunk"])
                yield chunk
                if chunk.finish_reason is not None:
                    return

    def _lines(self, request: Json) -> Generator[Json, None, None]:
        """The answer's lines. A keeper that is gone before the first is replaced without a word."""
        content = encode_request({**request, "lang": active_language()})
        for replaces in (True, False):
            begun = False
            with suppress(ConnectionError), closing(self._connected()) as connection:
                self._running = connection
                try:
                    connection.sendall(content + (b"\n" if self._cancelled else b""))
                    with connection.makefile("rb") as file:
                        while received := file.readline(MAX_LINE):
                            begun = True
                            answer = json.loads(received)
                            if "error" in answer:
                                raise error_of(answer["error"])
                            yield answer
                    if begun:
                        break
                finally:
                    self._running = None
            if begun or not replaces:
                break
            self._holding.close()
            self._holding, self._status = self._hold()
        raise EngineError(_("The model in the background ended before its answer did."), hint=_("Ask again."))

    def _connected(self) -> socket.socket:
        try:
            return self._connect()
        except OSError as exc:
            raise ConnectionError from exc


def read_status(connection: socket.socket, request: Json) -> dict[str, Any]:
    """What the keeper says to ``request``. Raises OSError where it says nothing."""
    connection.sendall(encode_request(request))
    line = connection.makefile("rb").readline(MAX_LINE)
    if not line:
        raise ConnectionError
    found: dict[str, Any] = json.loads(line)
    return found
