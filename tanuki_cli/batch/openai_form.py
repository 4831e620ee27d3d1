"""Requests in the form of OpenAI's Batch API: a row is one of them."""

from collections.abc import Mapping
from typing import Any, Final

from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_, _
from tanuki_cli.protocol.chat import ChatRequest, read_chat_request
from tanuki_cli.protocol.fields import Fields, RequestError
from tanuki_cli.sampling import SamplingOptions

ENDPOINT: Final = "/v1/chat/completions"


def read_request(row: Mapping[str, Any], defaults: SamplingOptions) -> ChatRequest:
    """The request in ``row``, with ``defaults`` where it says nothing.

    Raises InputError for what it asks that cannot be done.
    """
    if row.get("url", ENDPOINT) != ENDPOINT or row.get("method", "POST") != "POST":
        raise InputError(_("only POST {url} is answered").format(url=ENDPOINT))
    body = row.get("body")
    if not isinstance(body, Mapping):
        raise InputError(_("it has no body"))
    asked = read_chat_request(Fields(body), defaults)
    if asked.n != 1:
        raise RequestError("n", N_("'{name}': a row has one answer."))
    if asked.stream:
        raise RequestError("stream", N_("'{name}': the answer to a row is written when it is whole."))
    return asked
