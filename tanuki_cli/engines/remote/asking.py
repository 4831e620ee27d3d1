"""Asking a server for one answer: in its words, again where that may help, without what it refuses."""

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Final

from msgspec import Struct, field

from tanuki_cli.engines.remote.dialects import (
    ChatText,
    Dialect,
    LlamaServerIds,
    OwnText,
    RemotePrompt,
    VllmIds,
    dispensable,
)
from tanuki_cli.engines.remote.events import Delta, reported_error
from tanuki_cli.engines.remote.failures import RequestFailed
from tanuki_cli.engines.remote.http import END, RemoteConnection, StreamLimits
from tanuki_cli.engines.remote.probe import Server
from tanuki_cli.engines.remote.shapes import RESPONSE_FORMAT, cannot_be_asked
from tanuki_cli.engines.remote.sockets import CancelFlag
from tanuki_cli.sampling import SamplingOptions

_RETRY_WAITS_S: Final = (0.25, 0.5, 1.0)
_LONGEST_WAIT_S: Final = 30.0
_LIMIT: Final = "max_tokens"
_NEWER_LIMIT: Final = "max_completion_tokens"
"""The name that some servers want instead."""


class Learnt(Struct):
    """What a server turned out to take: the same for all connections to it.

    ``own_text`` is whether Tanuki's prompt is sent as text where no ids are, ``refused`` names the fields
    that are left out from now on.
    """

    own_text: bool
    refused: set[str] = field(default_factory=set)


class Asking(Struct, frozen=True, kw_only=True):
    """One connection to ``server``, which is sent ids where ``exact``. ``flag`` stops what runs."""

    connection: RemoteConnection
    server: Server
    exact: bool
    learnt: Learnt
    flag: CancelFlag

    def deltas(
        self,
        prompt: RemotePrompt,
        options: SamplingOptions,
        fields: Mapping[str, object],
        alternatives: int,
    ) -> Generator[Delta, None, None]:
        """The answer's deltas; asks again while nothing of the answer has come.

        Raises RequestFailed and GenerationCancelled.
        """
        waits = iter(_RETRY_WAITS_S)
        begun = False
        while True:
            dialect = self._dialect(prompt, fields)
            body = {**dialect.body(prompt, options), **fields}
            for name in tuple(self.learnt.refused):
                value = body.pop(name, None)
                if name == _LIMIT and value is not None:
                    body[_NEWER_LIMIT] = value
            limits = StreamLimits(tokens=prompt.max_new_tokens, alternatives=alternatives)
            try:
                with closing(self._deltas_once(dialect, body, limits)) as deltas:
                    for delta in deltas:
                        begun = begun or delta.has_content
                        yield delta
                return
            except RequestFailed as failure:
                if begun:
                    raise
                if not self._learn_refused(failure, body):
                    self._wait(failure, next(waits, None))

    def _deltas_once(
        self, dialect: Dialect, body: dict[str, object], limits: StreamLimits
    ) -> Generator[Delta, None, None]:
        finished = ended = content = unread = False
        with closing(self.connection.events(dialect.url, body, limits)) as events:
            try:
                for event in events:
                    if event is END:
                        ended = True
                        break
                    if (error := reported_error(event)) is not None:
                        raise self.connection.failures.reported(error)
                    delta = dialect.parse(event)
                    finished = finished or delta.finish_reason is not None
                    content = content or delta.has_content
                    unread = unread or delta.unread or (delta.completion_tokens or 0) > 1
                    yield delta
            except RequestFailed:
                if not finished:  # what comes after the finish reason is only statistics
                    raise
        if not finished and not ended:
            raise self.connection.failures.cut()
        if not content and (unread or not finished):  # absent is not the same as empty
            raise self.connection.failures.empty()

    def _dialect(self, prompt: RemotePrompt, fields: Mapping[str, object]) -> Dialect:
        if not self.exact:
            if self.learnt.own_text and RESPONSE_FORMAT not in fields:
                return OwnText(self.server)
            if prompt.begun_text and not (self.server.speaks_vllm or self.server.kind == "llama-server"):
                raise cannot_be_asked(self.server, "--prefill, --continue-answer", host=self.connection.host)
            return ChatText(self.server)
        return LlamaServerIds(self.server) if self.server.kind == "llama-server" else VllmIds(self.server)

    def _learn_refused(self, failure: RequestFailed, body: Mapping[str, object]) -> bool:
        """Whether the server refused what can be left out, or put otherwise, as it is from now on."""
        if self.learnt.own_text and not self.exact and failure.status in (404, 405, 501):
            self.learnt.own_text = False
            return True
        if failure.status not in (400, 422):
            return False
        refused = {name for name in dispensable(body) if name in failure.detail}
        if _LIMIT in body and _NEWER_LIMIT in failure.detail:
            refused.add(_LIMIT)
        self.learnt.refused |= refused
        return bool(refused)

    def _wait(self, failure: RequestFailed, seconds: float | None) -> None:
        """Wait before the next try; raises ``failure`` if there is none."""
        if not failure.retryable or seconds is None:
            raise failure
        seconds = max(seconds, failure.retry_after or 0.0)
        if seconds > _LONGEST_WAIT_S:
            raise failure
        self.flag.sleep(seconds)
