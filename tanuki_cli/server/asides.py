"""The endpoints that generate nothing: models, tokens, health, metrics, and a page for people."""

import asyncio
import html
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any, Final

import psutil
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from tanuki_cli import __version__
from tanuki_cli.errors import TanukiError
from tanuki_cli.i18n import active_language
from tanuki_cli.protocol.fields import Fields
from tanuki_cli.server.access import Access
from tanuki_cli.server.asking import is_ids, read_chat, read_completion
from tanuki_cli.server.engine_thread import EngineThread
from tanuki_cli.server.faults import ApiError, translated, wrong
from tanuki_cli.server.sending import read_body
from tanuki_cli.server.served import ServedModel

OWNER: Final = "tanuki"
"""By this our own remote engine knows the server; vLLM and llama-server have theirs."""
_PAGE: Final = Path(__file__).parent
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class Asides:
    """Everything but the answers."""

    def __init__(self, model: ServedModel, engine: EngineThread, access: Access) -> None:
        self._model = model
        self._engine = engine
        self._access = access

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        return JSONResponse({"object": "list", "data": [self._listed()]})

    async def one_model(self, request: Request) -> Response:
        """``GET /v1/models/NAME``."""
        self._model.check_name(request.path_params["name"])
        return JSONResponse(self._listed())

    def _listed(self) -> dict[str, Any]:
        return {
            "id": self._model.name,
            "object": "model",
            "created": self._model.created,
            "owned_by": OWNER,
            "max_model_len": self._model.context_length,
        }

    async def health(self, request: Request) -> Response:
        """``GET /health``: whether answers can be had."""
        if self._engine.ended:
            error = ApiError(503, "The engine has ended.", kind="server_error")
            return JSONResponse(error.body, status_code=503)
        return JSONResponse({"status": "ok"})

    async def version(self, request: Request) -> Response:
        """``GET /version``."""
        return JSONResponse({"version": __version__})

    async def tokenize(self, request: Request) -> Response:
        """``POST /tokenize``: vLLM's ``prompt`` or ``messages``, llama-server's ``content``."""
        return JSONResponse(await self._converted(request, self._tokens))

    async def detokenize(self, request: Request) -> Response:
        """``POST /detokenize``: the text, under vLLM's name and llama-server's."""
        return JSONResponse(await self._converted(request, self._text))

    async def _converted(
        self, request: Request, convert: Callable[[Fields], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        fields = await read_body(request)
        try:
            return await asyncio.to_thread(convert, fields)
        except TanukiError as error:
            raise translated(error) from error

    def _tokens(self, fields: Fields) -> dict[str, Any]:
        tokenizer = self._model.exact
        if fields.has("messages"):
            prompt = read_chat(fields, self._model).prompts[0]
            ids = [*prompt.ids, *tokenizer.encode(prompt.begun)]
        elif fields.has("prompt") or fields.has("content"):
            name, special = ("prompt", True) if fields.has("prompt") else ("content", False)
            fields.text(name)
            values = {"prompt": fields.raw(name), "model": fields.raw("model")}
            begun, *rest = read_completion(Fields(values), self._model).prompts[0].ids
            wants_special = fields.flag("add_special_tokens" if special else "add_special", default=special)
            ids = [begun, *rest] if wants_special else rest
        else:
            raise wrong("prompt", "'prompt', 'messages' or 'content' is needed.")
        pieces = [tokenizer.piece(id_) for id_ in ids]
        found = {"count": len(ids), "max_model_len": self._model.context_length, "tokens": ids}
        return {**found, "token_strs": pieces} if fields.flag("return_token_strs") else found

    def _text(self, fields: Fields) -> dict[str, Any]:
        tokenizer, ids = self._model.exact, fields.raw("tokens")
        if ids and (not is_ids(ids) or not all(0 <= id_ < tokenizer.vocab_size for id_ in ids)):
            raise wrong("tokens", "'tokens' must be a list of token ids of the model.")
        if not isinstance(ids, list):
            raise wrong("tokens", "'tokens' must be a list of token ids of the model.")
        text = tokenizer.decode(ids)
        return {"prompt": text, "content": text}

    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``, as Prometheus reads it."""
        load = self._engine.load
        rows: list[tuple[str, str, str, float]] = [
            ("requests_held", "gauge", "Answers that are worked on or wait.", load.running + load.waiting),
            ("requests_running", "gauge", "Answers that are worked on.", load.running),
            ("requests_waiting", "gauge", "Answers that wait for a place.", load.waiting),
            ("places", "gauge", "Answers that are worked on at a time, at most.", self._engine.places),
            ("answers_total", "counter", "Answers that were finished.", load.finished),
            ("dropped_total", "counter", "Answers whose client left.", load.dropped),
            ("failed_total", "counter", "Answers that failed.", load.failed),
            ("refused_total", "counter", "Requests that found the queue full.", load.refused),
            ("prompt_tokens_total", "counter", "Tokens of prompts.", load.prompt_tokens),
            ("cached_tokens_total", "counter", "Tokens of prompts not computed again.", load.cached_tokens),
            ("completion_tokens_total", "counter", "Tokens of answers.", load.completion_tokens),
            ("context_tokens", "gauge", "Tokens that prompt and answer share.", self._model.context_length),
            ("model_loaded", "gauge", "Whether the model is in memory.", not self._engine.asleep),
            ("memory_bytes", "gauge", "Resident memory.", psutil.Process(os.getpid()).memory_info().rss),
        ]
        lines = [
            f"# HELP tanuki_{name} {text}\n# TYPE tanuki_{name} {kind}\ntanuki_{name} {value:.17g}\n"
            for name, kind, text, value in rows
        ]
        return PlainTextResponse("".join(lines), media_type="text/plain; version=0.0.4")

    async def page(self, request: Request) -> Response:
        """``GET /``: what this is and how to connect. Of the model it tells those who have a key."""
        known = self._access.knows(request.headers)
        base = f"{request.url.scheme}://{request.headers.get('host', '')}/v1"
        name = self._model.name if known else "…"
        values = {
            "name": name,
            "engine": f"{self._model.engine} · {self._model.device}" if known else "",
            "context": str(self._model.context_length) if known else "",
            "running": str(self._engine.load.running),
            "waiting": str(self._engine.load.waiting),
            "base": base,
            "key": "…" if self._access.keys else "tanuki",
        }
        template = Template((_PAGE / f"page_{active_language()}.html").read_text(encoding="utf-8"))
        safe = {key: html.escape(value) for key, value in values.items()}
        return HTMLResponse(template.substitute(safe), headers={"content-security-policy": _POLICY})
