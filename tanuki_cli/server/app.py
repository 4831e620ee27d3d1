"""The application: its routes, its errors, and its checks around them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tanuki_cli.server.access import Access, Guard
from tanuki_cli.server.answering import Answering
from tanuki_cli.server.asides import Asides
from tanuki_cli.server.draining import Drained
from tanuki_cli.server.engine_thread import EngineThread
from tanuki_cli.server.faults import ApiError
from tanuki_cli.server.saving import Saver
from tanuki_cli.server.sending import ClientGone, nobody_there
from tanuki_cli.server.served import ServedModel

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(
    model: ServedModel, engine: EngineThread, access: Access, *, saver: Saver | None = None
) -> Starlette:
    """The application that serves ``model``; it starts ``engine``, and closes it at its end. Chats
    are kept with ``saver``."""
    answering = Answering(model, engine, saver)
    asides = Asides(model, engine, access)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        engine.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            await asyncio.to_thread(engine.close)

    return Starlette(
        routes=[
            _post("/v1/chat/completions", answering.chat),
            _post("/v1/completions", answering.completion),
            _get("/v1/models", asides.models),
            _get("/v1/models/{name:path}", asides.one_model),
            _post("/tokenize", asides.tokenize),
            _post("/detokenize", asides.detokenize),
            _get("/health", asides.health),
            _get("/version", asides.version),
            _get("/metrics", asides.metrics),
            _get("/", asides.page),
        ],
        middleware=[
            Middleware(Drained),
            *(_cors(access.origins) if access.origins else []),
            Middleware(Guard, access=access),
        ],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            ClientGone: _client_gone,
            Exception: _unexpected,
        },
        lifespan=lifespan,
    )


def _get(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["GET"])


def _post(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["POST"])


def _cors(origins: tuple[str, ...]) -> list[Middleware]:
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    ]


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status, headers=dict(error.headers))


async def _http_error(_request: Request, error: Exception) -> Response:
    """A path or a method that is not there."""
    assert isinstance(error, HTTPException)
    fault = ApiError(error.status_code, error.detail)
    return JSONResponse(fault.body, status_code=error.status_code, headers=error.headers)


async def _client_gone(_request: Request, _error: Exception) -> Response:
    return nobody_there()


async def _unexpected(_request: Request, _error: Exception) -> Response:
    """A fault of this program: the client learns that it is one, and nothing of its texts is shown."""
    fault = ApiError(500, "Unexpected error in the server.", kind="server_error")
    return JSONResponse(fault.body, status_code=500)
