"""The ways a server is asked: llama-server's and vLLM's with token ids, Tanuki's own prompt as text, and the
chat endpoint.

A dialect turns one prompt into the JSON that its server wants, and each event of the answer into a
:class:`~tanuki_cli.engines.remote.events.Delta`. It knows no network.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.conversation import Message
from tanuki_cli.engines.remote.events import Delta, llama_server_end, openai_delta, text_of
from tanuki_cli.engines.remote.failures import JsonObject, as_count
from tanuki_cli.engines.remote.probe import Server
from tanuki_cli.engines.remote.tokens import llama_server_tokens
from tanuki_cli.engines.stops import OWN_STOP
from tanuki_cli.prompt import segments
from tanuki_cli.sampling import SamplingOptions

MAX_CHAT_STOPS: Final = 4
"""How many stop texts the OpenAI chat endpoint takes; the engine itself looks for all of them."""

_OPTIONAL_FIELDS: Final = frozenset(
    ("cache_prompt", "return_token_ids", "return_tokens", "seed", "stop_token_ids", "stream_options")
)
_EOS: Final = "</s>"
_CONTROL: Final = re.compile(
    r"<(/?s>|unk>|pad>|CLS>|SEP>|EOD>|MASK>|/?llm-code(?:-output)?>|0x[0-9A-Fa-f]{2}>)"
)
_OFF: Final[Mapping[str, Sequence[float]]] = {
    "top_p": (1.0,),
    "min_p": (0.0,),
    "repeat_penalty": (1.0,),
    "repetition_penalty": (1.0,),
    "top_k": (0, -1),
}


class RemotePrompt(Struct, frozen=True, kw_only=True):
    """A prompt ready to be sent: its messages, and their ids where ids are sent.

    ``begun`` is how the answer begins, the last of ``ids``; ``begun_text`` the same for a server that takes
    text.
    """

    messages: tuple[Message, ...]
    ids: tuple[int, ...] | None
    max_new_tokens: int
    begun: tuple[int, ...] = ()
    begun_text: str = ""
    end_ids: tuple[int, ...] = ()


class Dialect(Protocol):
    """How one kind of server is asked."""

    @property
    def url(self) -> str:
        """Where requests go."""

    def body(self, prompt: RemotePrompt, options: SamplingOptions) -> dict[str, object]:
        """The JSON of a request; ``options.seed`` is set."""

    def parse(self, event: JsonObject) -> Delta:
        """What ``event`` adds. Fields of a wrong type count as absent."""


class LlamaServerIds:
    """llama-server's ``/completion``, which takes ids and gives one event per token or character.

    Tokens for the first bytes of a character are left out of the stream: ``tokens_predicted`` then
    grows by more than the event's tokens, and the event's text is the whole character.
    """

    def __init__(self, server: Server) -> None:
        self.url = server.address.own("/completion")
        self._server = server
        self._received = 0

    def body(self, prompt: RemotePrompt, options: SamplingOptions) -> dict[str, object]:
        """See :meth:`Dialect.body`."""
        self._received = 0
        return {
            "model": self._server.model,
            "prompt": list(prompt.ids or ()),
            "n_predict": prompt.max_new_tokens,
            "stream": True,
            "return_tokens": True,
            "cache_prompt": True,
            "stop": [OWN_STOP, *options.stop],
            **_sampling_fields("llama-server", options),
        }

    def parse(self, event: JsonObject) -> Delta:
        """See :meth:`Dialect.parse`."""
        if event.get("stop") is True:
            return llama_server_end(event)
        predicted = as_count(event.get("tokens_predicted"))
        tokens = llama_server_tokens(event)
        left_out = 0
        if tokens is not None:
            self._received += len(tokens)
            if predicted is not None and predicted != self._received:
                left_out, self._received = predicted - self._received, predicted
        return Delta(
            text=text_of(event.get("content")),
            tokens=tokens,
            left_out=left_out,
            prompt_tokens=as_count(event.get("tokens_evaluated")),
            completion_tokens=predicted,
        )


class VllmIds:
    """vLLM's ``/v1/completions``, which takes ids, and gives them where the version can."""

    def __init__(self, server: Server) -> None:
        self.url = server.address.api("/completions")
        self._server = server

    def body(self, prompt: RemotePrompt, options: SamplingOptions) -> dict[str, object]:
        """See :meth:`Dialect.body`."""
        return {
            "model": self._server.model,
            "prompt": list(prompt.ids or ()),
            "max_tokens": prompt.max_new_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "stop": [OWN_STOP, *options.stop],
            "stop_token_ids": list(prompt.end_ids),
            **_sampling_fields("vllm", options),
        }

    def parse(self, event: JsonObject) -> Delta:
        """See :meth:`Dialect.parse`."""
        return openai_delta(event)


class OwnText:
    """Plain completions: Tanuki's own prompt as text, which the server only tokenises, ``<s>`` before it."""

    def __init__(self, server: Server) -> None:
        self.url = server.address.api("/completions")
        self._server = server

    def body(self, prompt: RemotePrompt, options: SamplingOptions) -> dict[str, object]:
        """See :meth:`Dialect.body`."""
        return {
            "model": self._server.model,
            "prompt": _EOS.join(segments([_without_controls(message) for message in prompt.messages]))
            + _without_controls(Message("assistant", prompt.begun_text)).content,
            "max_tokens": prompt.max_new_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": [OWN_STOP, *options.stop][:MAX_CHAT_STOPS],
            **_sampling_fields(self._server.kind, options),
        }

    def parse(self, event: JsonObject) -> Delta:
        """See :meth:`Dialect.parse`."""
        return openai_delta(event)


class ChatText:
    """The chat endpoint that every OpenAI-compatible server has; the server makes the prompt."""

    def __init__(self, server: Server) -> None:
        self.url = server.address.api("/chat/completions")
        self._server = server

    def body(self, prompt: RemotePrompt, options: SamplingOptions) -> dict[str, object]:
        """See :meth:`Dialect.body`."""
        messages = list(prompt.messages)
        going_on: dict[str, object] = {}
        if prompt.begun_text:
            messages.append(Message("assistant", prompt.begun_text))
            if self._server.speaks_vllm:  # llama-server goes on with a last message that is an answer
                going_on = {"add_generation_prompt": False, "continue_final_message": True}
        return {
            "model": self._server.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            **going_on,
            "max_tokens": prompt.max_new_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": [OWN_STOP, *options.stop][:MAX_CHAT_STOPS],
            **_sampling_fields(self._server.kind, options),
        }

    def parse(self, event: JsonObject) -> Delta:
        """See :meth:`Dialect.parse`."""
        return openai_delta(event)


def dispensable(body: JsonObject) -> frozenset[str]:
    """The fields of a request that may be left out for a server that refuses them by name.

    Old servers know fewer. What the user chose is not among them: that must not be ignored silently.
    """
    off = {name for name, values in _OFF.items() if body.get(name) in values}
    return frozenset(body.keys() & (_OPTIONAL_FIELDS | off))


def _sampling_fields(kind: str, options: SamplingOptions) -> dict[str, object]:
    """How tokens are chosen. Servers of known kinds are told what is off too: their defaults are not."""
    fields: dict[str, object] = {
        "temperature": options.temperature,
        "seed": options.seed,
    }
    known = kind in ("tanuki", "llama-server", "vllm")
    if known or options.top_p != 1.0:
        fields["top_p"] = options.top_p
    if known or options.top_k:
        # Off is -1 for every vLLM; only newer ones take 0.
        fields["top_k"] = -1 if kind == "vllm" and not options.top_k else options.top_k
    if known or options.min_p:
        fields["min_p"] = options.min_p
    if known or options.repeat_penalty != 1.0:
        name = "repetition_penalty" if kind == "vllm" else "repeat_penalty"
        fields[name] = options.repeat_penalty
    return fields


def _without_controls(message: Message) -> Message:
    """What spells a control piece would be one to the server: a backslash keeps it text."""
    return replace(message, content=_CONTROL.sub(r"<\\\1", message.content))
