"""``/v1/chat/completions`` and ``/v1/completions``: from a request to its reply."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tanuki_cli.engines.answers import Chunk
from tanuki_cli.errors import TanukiError
from tanuki_cli.protocol.fields import Fields
from tanuki_cli.server.answers import Answers, joined
from tanuki_cli.server.asking import Wanted, read_chat, read_completion
from tanuki_cli.server.engine_thread import EngineThread
from tanuki_cli.server.faults import ApiError, translated, wrong
from tanuki_cli.server.replies import ChatReply, CompletionReply, Form, total_usage, without_text
from tanuki_cli.server.saving import Saver
from tanuki_cli.server.sending import END, PING, PING_S, EventStream, event, read_body, while_connected
from tanuki_cli.server.served import ServedModel

TRUNCATION: Final = "x-tanuki-truncation"
Reader = Callable[[Fields, ServedModel], Wanted]


class Answering:
    """The two endpoints that generate."""

    def __init__(self, model: ServedModel, engine: EngineThread, saver: Saver | None) -> None:
        self._model = model
        self._engine = engine
        self._saver = saver

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        wish = request.headers.get(TRUNCATION, "disabled").lower()
        if wish not in ("auto", "disabled"):
            raise wrong(TRUNCATION, f"The header '{TRUNCATION}' must be one of: auto, disabled.")
        wanted = await self._read(
            request, lambda fields, model: read_chat(fields, model, truncates=wish == "auto")
        )
        return await self._reply(request, wanted, self._chat_reply(wanted))

    async def completion(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        wanted = await self._read(request, read_completion)
        return await self._reply(request, wanted, self._completion_reply(wanted))

    async def _read(self, request: Request, reader: Reader) -> Wanted:
        fields = await read_body(request)
        try:
            # Tokenising a long prompt and compiling a schema take a while: not in the event loop.
            return await asyncio.to_thread(reader, fields, self._model)
        except TanukiError as error:
            raise translated(error) from error

    def _chat_reply(self, wanted: Wanted) -> Form:
        identity = f"chatcmpl-{secrets.token_hex(12)}"
        return ChatReply(identity=identity, created=int(time.time()), model=self._model, wanted=wanted)

    def _completion_reply(self, wanted: Wanted) -> Form:
        identity = f"cmpl-{secrets.token_hex(12)}"
        return CompletionReply(identity=identity, created=int(time.time()), model=self._model, wanted=wanted)

    async def _reply(self, request: Request, wanted: Wanted, form: Form) -> Response:
        answers = self._engine.submit(wanted.jobs)
        if wanted.stream:
            return EventStream(self._events(answers, wanted, form), headers=_headers(wanted))
        chunks = await while_connected(request.receive, self._collected(answers, wanted))
        return JSONResponse(form.whole(chunks), headers=_headers(wanted))

    async def _collected(self, answers: Answers, wanted: Wanted) -> list[Chunk]:
        """The whole answers, in their order."""
        found: dict[int, Chunk] = {}
        try:
            while not answers.done:
                for index, chunk in (await answers.take()).items():
                    _check_whole(chunk, wanted)
                    found[index] = joined(found[index], chunk) if index in found else chunk
        finally:
            self._engine.drop(answers)
            self._save(wanted, found)
        return [found[index] for index in range(len(wanted.jobs))]

    async def _events(self, answers: Answers, wanted: Wanted, form: Form) -> AsyncIterator[bytes]:
        """The events of the answers, as they come; the last is an error where one failed."""
        last: dict[int, Chunk] = {}
        whole: dict[int, Chunk] = {}
        try:
            for content in form.opening():
                yield event(content)
            while not answers.done:
                news = await answers.take(timeout_s=PING_S)
                if not news:
                    yield PING
                for index, chunk in news.items():
                    _check_whole(chunk, wanted)
                    if self._saver is not None:
                        whole[index] = joined(whole[index], chunk) if index in whole else chunk
                    if chunk.finish_reason is not None:
                        last[index] = without_text(chunk)
                    if chunk.text or chunk.tokens or chunk.finish_reason:
                        for content in form.piece(index, chunk):
                            yield event(content)
            chunks = [last[index] for index in range(len(wanted.jobs))]
            for content in form.closing(total_usage(chunks, wanted)):
                yield event(content)
            yield END
        except ApiError as error:
            yield event(error.body)
        finally:
            self._engine.drop(answers)
            self._save(wanted, whole)

    def _save(self, wanted: Wanted, answers: Mapping[int, Chunk]) -> None:
        """Keep a chat, also one whose client left before its end."""
        if self._saver is not None and wanted.turns is not None and answers:
            begun = wanted.turns.begun
            whole = [replace(answers[index], text=begun + answers[index].text) for index in sorted(answers)]
            self._saver.save(wanted.turns.messages, whole)


def _check_whole(chunk: Chunk, wanted: Wanted) -> None:
    """Another server's tokens are counted there: what it does not take is found out late."""
    if chunk.plan is not None and chunk.plan.dropped and not wanted.truncates:
        raise ApiError(
            400,
            f"The prompt is too long: the oldest {chunk.plan.dropped} messages would have to be dropped. "
            'To allow that: "truncation": "auto".',
            param="messages",
            code="context_length_exceeded",
        )


def _headers(wanted: Wanted) -> dict[str, str]:
    """What was done to the request, and what of it was not."""
    headers: dict[str, str] = {}
    if wanted.dropped:
        headers["x-tanuki-dropped-messages"] = str(wanted.dropped)
    if wanted.guarded:
        headers["x-tanuki-guarded-lines"] = str(wanted.guarded)
    if wanted.ignored:
        headers["x-tanuki-ignored"] = ",".join(wanted.ignored)
    return headers
