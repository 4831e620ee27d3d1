"""What clients send that are not installed here, replayed as their public source makes it.

Open WebUI: backend/open_webui/routers/openai.py and utils/payload.py. Continue: core/llm/llms/OpenAI.ts and
core/llm/openaiTypeConverters.ts. aichat: src/client/openai.rs and openai_compatible.rs.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.serving import QUESTION, Serving, events, serving

CHAT = "/v1/chat/completions"
KEY = "flows-of-other-clients"
SYSTEM = {"role": "system", "content": "短く答えてください。"}
ASKED = {"role": "user", "content": QUESTION}
EARLIER = [{"role": "user", "content": "こんにちは"}, {"role": "assistant", "content": "こんにちは。"}]
OPEN_WEBUI = {
    "Content-Type": "application/json",
    "Authorization": f"Bearer {KEY}",
    "X-OpenWebUI-User-Name": "me",
    "X-OpenWebUI-User-Id": "1",
    "X-OpenWebUI-User-Email": "me@example.com",
    "X-OpenWebUI-User-Role": "admin",
}
CONTINUE = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}", "api-key": KEY}
AICHAT = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
FLOWS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "Open WebUI, a chat": (OPEN_WEBUI, {
        "stream": True, "model": "mame", "messages": [SYSTEM, *EARLIER, ASKED],
        "stream_options": {"include_usage": True},
    }),
    "Open WebUI, with all its settings": (OPEN_WEBUI, {
        "stream": True, "model": "mame", "messages": [ASKED], "temperature": 0.8, "top_p": 0.9,
        "max_tokens": 128, "frequency_penalty": 0.0, "presence_penalty": 0.0, "seed": 0, "stop": ["###"],
        "logit_bias": {}, "reasoning_effort": "medium", "response_format": {"type": "text"}, "top_k": 40,
        "min_p": 0.0, "repeat_penalty": 1.1,
    }),
    "Open WebUI, an attached text": (OPEN_WEBUI, {
        "stream": True, "model": "mame",
        "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
    }),
    "Open WebUI, an answer goes on": (OPEN_WEBUI, {
        "stream": True, "model": "mame", "stream_options": {"include_usage": True},
        "messages": [ASKED, {"role": "assistant", "content": "わたし"}],
    }),
    "Open WebUI, a title": (OPEN_WEBUI, {
        "model": "mame", "stream": False, "max_completion_tokens": 1000,
        "messages": [{"role": "user", "content": "### Task:\nGenerate a concise title.\n### Output:\nJSON"}],
    }),
    "Continue, a chat": (CONTINUE, {
        "messages": [SYSTEM, *EARLIER, {"role": "user", "content": " "}], "model": "mame",
        "max_tokens": 1024, "stream": True,
    }),
    "Continue, with all its options": (CONTINUE, {
        "messages": [ASKED], "model": "mame", "max_tokens": 4096, "temperature": 0.2, "top_p": 1,
        "frequency_penalty": 0, "presence_penalty": 0, "stream": True, "stop": ["\n\n\n"] * 16,
        "prediction": {"type": "content", "content": "x"},
    }),
    "aichat, streamed": (AICHAT, {
        "model": "mame", "messages": [SYSTEM, ASKED], "temperature": 0.5, "top_p": 0.9, "stream": True,
    }),
    "aichat, whole": (AICHAT, {"model": "mame", "messages": [ASKED]}),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("home"), env={"TANUKI_SERVER_API_KEY": KEY}) as running:
        yield running


@pytest.mark.parametrize("headers", [OPEN_WEBUI, CONTINUE, AICHAT], ids=["Open WebUI", "Continue", "aichat"])
def test_they_find_the_model(server: Serving, headers: dict[str, str]) -> None:
    [model] = server.get("/v1/models", **headers).json()["data"]
    assert model["id"] == "mame"
    refused = server.get("/v1/models", **{**headers, "Authorization": "Bearer wrong", "authorization": "x"})
    assert (refused.status_code, bool(refused.json()["error"]["message"])) == (401, True)


@pytest.mark.parametrize("name", FLOWS)
def test_they_get_their_answer(server: Serving, name: str) -> None:
    headers, body = FLOWS[name]
    response = server.post(CHAT, body, **headers)
    assert response.status_code == 200, response.text
    assert "x-tanuki-ignored" not in response.headers or "reasoning_effort" in body
    if not body.get("stream"):
        [choice] = response.json()["choices"]
        assert choice["message"]["content"]
        return
    pieces = events(response)
    # Each of them reads choices[0].delta.content of what has choices, and leaves the rest alone.
    deltas = [piece["choices"][0]["delta"] for piece in pieces if piece["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas)
    reasons = [piece["choices"][0]["finish_reason"] for piece in pieces if piece["choices"]]
    assert [reason for reason in reasons if reason] in (["stop"], ["length"])
    usage = [piece["usage"] for piece in pieces if piece.get("usage")]
    assert len(usage) == ("stream_options" in body)


def test_what_they_cannot_have_is_an_error_that_they_show(server: Serving) -> None:
    """All of them print ``error.message``; none of it may be an answer that ignored half of the request."""
    tool = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    for wanted in (
        {"tools": [tool], "tool_choice": "auto"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "これは?"}, image]}]},
        {"messages": [ASKED, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}, ASKED]},
        {"frequency_penalty": 1.0},
    ):
        body = {"model": "mame", "messages": [ASKED], "stream": True, **wanted}
        response = server.post(CHAT, body, **OPEN_WEBUI)
        assert response.status_code == 400
        assert response.json()["error"]["message"]
