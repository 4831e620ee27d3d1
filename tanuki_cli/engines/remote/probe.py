"""What a server is, which model it serves, and whether its token ids are ours."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tanuki_cli.engines.remote.failures import JsonObject, RequestFailed
from tanuki_cli.engines.remote.http import RemoteConnection
from tanuki_cli.errors import RemoteError
from tanuki_cli.i18n import _
from tanuki_cli.tokenizer import ChatTokenizer

ServerKind = Literal["llama-server", "vllm", "ollama", "openai"]

_SAMPLE: Final = (
    "信楽焼のたぬきは、商売繁盛の縁起物です。\n\nHello, raccoon dog! 3.14 × 2 = 6.28、“引用”と「括弧」。\n"
    "def greet(name):\n    return f'こんにちは、{name}さん'\n"
)
_MAX_NAMES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answered: its kind, how it calls itself, and the model that was chosen.

    ``context_length`` None means that it does not say. ``root`` is ``base_url`` without ``/v1``.
    """

    kind: ServerKind
    software: str
    model: str
    context_length: int | None
    base_url: str
    root: str


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
        base_url=connection.base_url,
        root=connection.root,
    )


def matching_tokenizer(
    server: Server, tokenizers: Iterable[ChatTokenizer], connection: RemoteConnection
) -> ChatTokenizer | None:
    """The first tokenizer whose ids mean the same to the server, or None.

    The server turns the ids of a sample back into text, which must be the sample's. Only llama-server
    and vLLM take ids at all; for others ``tokenizers`` is not even looked at.
    """
    if server.kind not in ("llama-server", "vllm"):
        return None
    for tokenizer in tokenizers:
        ids = tokenizer.encode(_SAMPLE)
        try:
            answer = connection.post(f"{server.root}/detokenize", {"model": server.model, "tokens": ids})
        except RequestFailed:
            continue  # an id that the server does not have, or a gateway that hides this endpoint
        text = answer.get("content", answer.get("prompt"))
        if isinstance(text, str) and text.strip() == tokenizer.decode(ids).strip():
            return tokenizer
    return None


def _models(connection: RemoteConnection, served_name: str | None) -> list[JsonObject]:
    try:
        listed = connection.get(f"{connection.base_url}/models").get("data")
    except RequestFailed as failure:
        # A gateway may serve a model without listing it.
        if failure.status not in (404, 405, 501) or served_name is None:
            raise
        return [{"id": served_name}]
    models = [model for model in listed if _names(model)] if isinstance(listed, list) else []
    if not models:
        raise RemoteError(
            _("{host} serves no model.").format(host=connection.host),
            hint=_("See what it says: curl {url}").format(url=f"{connection.base_url}/models"),
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
    shown = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
    raise RemoteError(
        message.format(host=connection.host, name=served_name, names=shown),
        hint=f"tanuki chat -m '{connection.base_url}#{names[0]}'",
    )


def _names(model: object) -> list[str]:
    """The id of a listed model, then its other names; empty if it is not one."""
    if not isinstance(model, dict) or not isinstance(model.get("id"), str) or not model["id"]:
        return []
    aliases = model.get("aliases")
    others = [alias for alias in aliases if isinstance(alias, str)] if isinstance(aliases, list) else []
    return [model["id"], *others]


def _identify(model: JsonObject, connection: RemoteConnection) -> tuple[ServerKind, str]:
    owner = model.get("owned_by")
    if owner == "llamacpp":
        return "llama-server", "llama-server"
    if owner == "vllm":
        return "vllm", f"vLLM {_version(connection, '/version')}".rstrip()
    if version := _version(connection, "/api/version"):
        return "ollama", f"Ollama {version}"
    return "openai", "OpenAI API"


def _version(connection: RemoteConnection, path: str) -> str:
    version = _optional(connection, path).get("version")
    return version if isinstance(version, str) else ""


def _context_length(kind: ServerKind, model: JsonObject, connection: RemoteConnection) -> int | None:
    """Tokens of one conversation on the server, which may be fewer than the model was made for."""
    found: object = None
    if kind == "vllm":
        found = model.get("max_model_len")
    elif kind == "llama-server":
        defaults = _optional(connection, "/props").get("default_generation_settings")
        found = defaults.get("n_ctx") if isinstance(defaults, dict) else None
    return found if isinstance(found, int) and found > 0 else None


def _optional(connection: RemoteConnection, path: str) -> JsonObject:
    """What ``path`` gives, or nothing where the server or a gateway before it does not have it."""
    try:
        return connection.get(f"{connection.root}{path}")
    except RequestFailed:
        return {}
