"""What a server is, which model it serves, and whether its token ids are ours."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from tanuki_cli.engines.remote.address import Address
from tanuki_cli.engines.remote.failures import JsonObject, RequestFailed, as_count
from tanuki_cli.engines.remote.http import RemoteConnection
from tanuki_cli.errors import RemoteError
from tanuki_cli.i18n import _
from tanuki_cli.text.sanitize import sanitize_line
from tanuki_cli.tokenizer import ChatTokenizer

ServerKind = Literal["tanuki", "llama-server", "vllm", "ollama", "openai"]

_SAMPLE: Final = (
    "信楽焼のたぬきは、商売繁盛の縁起物です。\n\nHello, raccoon dog! 3.14 × 2 = 6.28、“引用”と「括弧」。\n"
    "def greet(name):\n    return f'こんにちは、{name}さん'\n"
)
_USUAL_PLACES: Final[Mapping[ServerKind, int]] = {"tanuki": 8, "vllm": 16, "ollama": 2, "openai": 8}
_MOST_PLACES: Final = 64
_MAX_NAMES: Final = 8
_MAX_NAME_LENGTH: Final = 512
_SHOWN_LENGTH: Final = 80
_TANUKI: Final = re.compile(r"tanuki|\bmame\b", re.IGNORECASE)


class Server(Struct, frozen=True, kw_only=True):
    """A server that answered: its kind, how it calls itself, and the model that was chosen.

    ``context_length`` None means that it does not say. ``is_tanuki`` is whether one of the model's names says
    that it is one, so that Tanuki's prompt may be sent as text where ``takes_text``. ``usual_places`` is how
    many answers it is asked for at once: those beyond what it can do wait, and for too long if they are many.
    """

    kind: ServerKind
    software: str
    model: str
    context_length: int | None
    address: Address
    is_tanuki: bool = False
    takes_text: bool = False
    usual_places: int = 1

    @property
    def speaks_vllm(self) -> bool:
        """Whether the server understands what vLLM added to OpenAI's protocol."""
        return self.kind in ("tanuki", "vllm")

    @property
    def takes_ids(self) -> bool:
        """Whether servers of this kind take token ids."""
        return self.kind in ("tanuki", "llama-server", "vllm")


def probe(connection: RemoteConnection, served_name: str | None) -> Server:
    """Ask a server what it is.

    Raises RemoteError if it cannot be reached, serves no model, does not serve ``served_name``, or
    serves several and ``served_name`` is None.
    """
    models = _models(connection, served_name)
    model = _choose(models, served_name, connection)
    kind, software = _identify(model, connection)
    return Server(
        kind=kind,
        software=software,
        model=str(model["id"]),
        context_length=_context_length(kind, model, connection),
        address=connection.address,
        is_tanuki=any(map(_TANUKI.search, (*_names(model), str(model.get("root", ""))))),
        takes_text=_takes_text(kind, connection),
        usual_places=_slots(connection) if kind == "llama-server" else _USUAL_PLACES[kind],
    )


def matching_tokenizer(
    server: Server, tokenizers: Iterable[ChatTokenizer], connection: RemoteConnection
) -> ChatTokenizer | None:
    """The first tokenizer whose ids mean the same to the server, or None.

    The server turns the ids of a sample back into text, which must be the sample's. Only tanuki,
    llama-server and vLLM take ids at all; for others ``tokenizers`` is not even looked at.
    """
    if not server.takes_ids:
        return None
    for tokenizer in tokenizers:
        ids = tokenizer.encode(_SAMPLE)
        try:
            answer = connection.post(
                server.address.own("/detokenize"), {"model": server.model, "tokens": ids}
            )
        except RequestFailed:
            continue  # an id that the server does not have, or a gateway that hides this endpoint
        text = answer.get("content", answer.get("prompt"))
        if isinstance(text, str) and text.strip() == tokenizer.decode(ids).strip():
            return tokenizer
    return None


def _models(connection: RemoteConnection, served_name: str | None) -> list[JsonObject]:
    try:
        answer = connection.get_value(connection.address.api("/models"))
    except RequestFailed as failure:
        # A gateway may serve a model without listing it.
        if failure.status not in (404, 405, 501) or served_name is None:
            raise
        return [{"id": served_name}]
    listed = answer
    if isinstance(answer, dict):
        if answer.get("error"):
            raise connection.failures.reported(answer["error"])
        listed = answer.get("data")
    models = [model for model in listed if _names(model)] if isinstance(listed, list) else []
    if not models:
        raise RemoteError(
            _("{host} serves no model.").format(host=connection.host),
            hint=_("See what it says: curl {url}").format(url=f"{connection.address}/models"),
        )
    return models


def _choose(
    models: Sequence[JsonObject], served_name: str | None, connection: RemoteConnection
) -> JsonObject:
    names = [_names(model)[0] for model in models]
    if served_name is not None:
        for model in models:
            if served_name in _names(model):
                return {**model, "id": served_name}
        message = _("{host} does not serve {name}; it serves: {names}")
    elif len(models) == 1:
        return models[0]
    else:
        message = _("{host} serves several models; name one of: {names}")
    shown = ", ".join(map(_shown, names[:_MAX_NAMES])) + (", …" if len(names) > _MAX_NAMES else "")
    raise RemoteError(
        message.format(host=connection.host, name=_shown(served_name or ""), names=shown),
        hint=f"tanuki chat -m {shlex.quote(f'{connection.address}#{names[0]}')}",
    )


def _names(model: object) -> list[str]:
    """The id of a listed model, then its other names; empty if it is not one."""
    if not isinstance(model, dict) or not _is_name(model.get("id")):
        return []
    aliases = model.get("aliases")
    others = [alias for alias in aliases if _is_name(alias)] if isinstance(aliases, list) else []
    return [model["id"], *others]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME_LENGTH


def _shown(name: str) -> str:
    return name if len(name) <= _SHOWN_LENGTH else f"{name[: _SHOWN_LENGTH - 1]}…"


def _takes_text(kind: ServerKind, connection: RemoteConnection) -> bool:
    """Whether ``/completions`` takes a prompt as text, to which the server adds no template.

    Ollama has the endpoint, but puts a template around what comes; tanuki's chat endpoint makes the exact
    prompt itself. Others are asked in a way that generates
    nothing: 405 says that the place is there, but for another method.
    """
    if kind in ("tanuki", "llama-server", "vllm", "ollama"):
        return kind in ("llama-server", "vllm")
    try:
        connection.get_value(connection.address.api("/completions"))
    except RequestFailed as failure:
        return failure.status == 405
    return False


def _identify(model: JsonObject, connection: RemoteConnection) -> tuple[ServerKind, str]:
    owner = model.get("owned_by")
    if owner == "tanuki":
        return "tanuki", f"tanuki {_version(connection, '/version')}".rstrip()
    if owner == "llamacpp":
        return "llama-server", "llama-server"
    if owner == "vllm":
        return "vllm", f"vLLM {_version(connection, '/version')}".rstrip()
    if version := _version(connection, "/api/version"):
        return "ollama", f"Ollama {version}"
    return "openai", "OpenAI API"


def _version(connection: RemoteConnection, path: str) -> str:
    version = _optional(connection, path).get("version")
    return sanitize_line(_shown(version)) if isinstance(version, str) else ""


def _context_length(kind: ServerKind, model: JsonObject, connection: RemoteConnection) -> int | None:
    """Tokens of one conversation on the server, which may be fewer than the model was made for."""
    found: object = None
    if kind in ("tanuki", "vllm"):
        found = model.get("max_model_len")
    elif kind == "llama-server":
        defaults = _optional(connection, "/props").get("default_generation_settings")
        found = defaults.get("n_ctx") if isinstance(defaults, dict) else None
    return as_count(found) or None


def _slots(connection: RemoteConnection) -> int:
    """How many answers llama-server works on at once."""
    return min(as_count(_optional(connection, "/props").get("total_slots")) or 1, _MOST_PLACES)


def _optional(connection: RemoteConnection, path: str) -> JsonObject:
    """What ``path`` gives, or nothing where the server or a gateway before it does not have it."""
    try:
        return connection.get(connection.address.own(path))
    except RequestFailed:
        return {}
