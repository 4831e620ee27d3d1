"""Requests that nobody would send in good faith: each gets its 4xx, and the server lives."""

import json
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import openai
import psutil
import pytest

from tests.conftest import until
from tests.support.serving import ENDLESS, QUESTION, Serving, serving

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GOOD: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(autouse=True)
def alive(server: Serving) -> Iterator[None]:
    """After every test the server answers, and as before."""
    yield
    assert server.process.poll() is None
    assert server.chat(max_tokens=4)["choices"][0]["message"]["content"]


def head(field: str) -> bytes:
    """The head of a request for a chat."""
    return f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n".encode()


def asking(body: bytes) -> bytes:
    """A whole request for a chat."""
    return head(f"Content-Length: {len(body)}") + body


WRONG_CONTENTS: tuple[object, ...] = (1, {}, [1], [{"type": "text"}], [{"type": "text", "text": 1}])
WRONG: dict[str, tuple[object, ...]] = {
    "messages": ("x", 1, {}, [1], [[]], [None], [{}], [{"role": 1, "content": "x"}], [{"role": "user"}],
                 *([{"role": "user", "content": content}] for content in WRONG_CONTENTS),
                 [{"role": ["user"], "content": "x"}]),
    "model": (1, [], {}, True),
    "stream": ("true", 1, [], {}),
    "stream_options": ("x", 1, []),
    "temperature": ("1", [], {}, True, -1, 3, 1e300),
    "top_p": ("1", [], -0.1, 1.1),
    "top_k": ("1", 1.5, [], -2, True),
    "min_p": ("1", [], -0.1, 1.1),
    "repetition_penalty": ("1", [], 0, 11),
    "repeat_penalty": ("1", [], 0, 11),
    "max_tokens": ("1", 1.5, [], {}, 0, -1, True),
    "max_completion_tokens": ("1", 0, -1),
    "seed": ("1", 1.5, [], {}, 2**64, -(2**64)),
    "stop": (1, {}, [1], [""], "", [None], ["x"] * 1000),
    "n": ("1", 0, -1, 65, 1.5, []),
    "logprobs": ("x", [], {}),
    "top_logprobs": ("1", -1, 21, 3),
    "response_format": ("json", 1, [], {}, {"type": 1}, {"type": "json_schema"},
                        *({"type": "json_schema", "json_schema": schema} for schema in
                          (1, {"schema": 1}, {"schema": "{"}, {"schema": {"type": 1}}))),
    "guided_choice": (1, {}, [1], [], [""], ["x"] * 20000),
    "guided_regex": (1, [], "", "(", "(?=x)"),
    "guided_grammar": (1, "start: x"),
    "guided_json": (1, [], "x", {"type": "x"}, {"$ref": "#/nowhere"}),
    "structured_outputs": (1, [], {"choice": 1}, {"json": 1}, {"json_object": 1}),
    "continue_final_message": (True, 1, "x"),
    "truncation": (1, "middle"),
    "return_token_ids": (1, "x"),
    "tools": ([{}], "x"),
    "stop_token_ids": (1, "x", ["x"] * 1000),
}  # fmt: skip
WRONG_PROMPTS: tuple[object, ...] = (
    None, "missing", 1, {}, [], [[]], [1, "x"], ["x", 1], [1.5], [True], [-1], [4000], [2**70], [[1], [5000]],
    [[[1]]], [None], ["x"] * 100, list(range(5000)),
)  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_in_any_field(server: Serving, name: str) -> None:
    for value in WRONG[name]:
        response = server.post(CHAT, {**GOOD, name: value})
        assert response.status_code == 400, (name, value, response.text)
        assert response.json()["error"]["message"], (name, value)
        assert name.split("[")[0] in response.text, (name, value, response.text)


def test_a_wrong_prompt(server: Serving) -> None:
    for value in WRONG_PROMPTS:
        given = {} if value == "missing" else {"prompt": value}
        assert server.post(COMPLETIONS, {"max_tokens": 2, **given}).status_code == 400, value
    others: list[tuple[str, object]] = [
        ("/tokenize", {"prompt": 1}),
        ("/tokenize", {}),
        ("/detokenize", {"tokens": ["x"]}),
        ("/detokenize", {"tokens": [9999]}),
        ("/detokenize", {}),
    ]
    for path, other in others:
        assert server.post(path, other).status_code == 400, (path, other)


def test_null_is_absent(server: Serving) -> None:
    assert server.post(CHAT, {**dict.fromkeys(WRONG), **GOOD}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"1", b"null", b'"x"', b'{"messages": [', b"\xff\xfe{}", b'{"a": "\xed\xa0\x80"}',
        b'{"a": NaN}', b'{"a": 1e999}', b'{"a": ' + b"1" * 5000 + b"}", b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'"' + b'\\"' * 500_000, b'{"messages": ' + b"[" * 65 + b"]" * 65 + b"}",
    ],
    ids=range(16),
)  # fmt: skip
def test_a_body_that_is_no_json_object(server: Serving, body: bytes) -> None:
    for path in (CHAT, COMPLETIONS, "/tokenize", "/detokenize"):
        response = server.post(path, body)
        assert response.status_code == 400
        assert response.json()["error"]["message"]


def test_half_characters_and_control_spellings_are_text(server: Serving) -> None:
    spellings = "</s><s><unk><EOD><0x41>＜／ｓ＞\x00\x1b[2J\u202e"
    for content in (spellings, "\ud83d", "x" * 1000):
        body = json.dumps(
            {**GOOD, "messages": [{"role": "user", "content": content}], "user": content}
        ).encode()
        assert server.post(CHAT, body).status_code == 200
    ids = server.post("/tokenize", {"messages": [{"role": "user", "content": spellings}]}).json()["tokens"]
    plain = server.post("/tokenize", {"messages": [{"role": "user", "content": "x"}]}).json()["tokens"]
    assert [id_ for id_ in ids if id_ < 8] == [id_ for id_ in plain if id_ < 8]  # <s> alone
    for name in ("stop", "guided_choice", "model"):
        assert (
            server.post(CHAT, {**GOOD, name: [spellings] if name != "model" else spellings}).status_code < 500
        )


def answer_to(server: Serving, head: str, parts: Iterable[bytes]) -> bytes:
    """What a client gets that sends everything before it reads anything."""
    with server.connect() as connection:
        connection.sendall(head.encode())
        for part in parts:
            connection.sendall(part)
        received = b""
        while b"\r\n\r\n" not in received or b"}" not in received:
            received += connection.recv(4096)
    return received


BIG = 10 << 20
PIECE = b" " * (1 << 16)
REFUSED_UNREAD: dict[str, tuple[str, str, bytes]] = {
    **{path: (f"POST {path}", "Host: localhost", b"413") for path in
       (CHAT, COMPLETIONS, "/tokenize", "/detokenize")},
    "no such path": ("POST /nothing", "Host: localhost", b"404"),
    "no such method": ("POST /health", "Host: localhost", b"405"),
    "another host": (f"POST {CHAT}", "Host: evil.example", b"403"),
    "closing": (f"POST {CHAT}", "Host: localhost\r\nConnection: close", b"413"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_UNREAD)
def test_a_client_that_sends_too_much_reads_why_it_is_refused(server: Serving, name: str) -> None:
    """Whatever it asks for: a connection that is closed with something unread is reset."""
    line, field, status = REFUSED_UNREAD[name]
    start = f"{line} HTTP/1.1\r\n{field}\r\n"
    counted = answer_to(server, f"{start}Content-Length: {BIG}\r\n\r\n", [PIECE] * (BIG // len(PIECE)))
    chunk = b"10000\r\n" + PIECE + b"\r\n"
    chunked = answer_to(
        server, f"{start}Transfer-Encoding: chunked\r\n\r\n", [*[chunk] * (BIG // len(PIECE)), b"0\r\n\r\n"]
    )
    for answer in (counted, chunked):
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
        assert b'"message"' in answer


def test_real_clients_read_why_a_body_is_too_large(server: Serving) -> None:
    for path in (CHAT, COMPLETIONS, "/tokenize", "/detokenize"):
        assert server.post(path, PIECE * 160).status_code == 413
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="any", max_retries=0)
    with pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(model="mame", prompt="た" * BIG)
    assert caught.value.status_code == 413
    request = urllib.request.Request(server.address + CHAT, data=PIECE * 160)
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(request, timeout=60)


def send_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(PIECE)


def test_a_body_without_an_end_is_not_read_for_ever(server: Serving) -> None:
    """It is answered before it is sent, and the connection closed at some time."""
    with server.connect() as connection:
        connection.sendall(head("Content-Length: 999999999999"))
        assert b" 413 " in connection.recv(4096)
        with pytest.raises(ConnectionError):
            send_for_ever(connection)


@pytest.mark.parametrize(
    "lines",
    [
        "GET / HTTP/1.1\r\nHost: localhost\r\n" + "".join(map("X-{}: 1\r\n".format, range(10_000))) + "\r\n",
        "GET /" + "x" * 100_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 100_000 + "\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "NONSENSE\r\n\r\n",
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}",
    ],
    ids=["headers", "path", "header", "host", "tls", "nonsense", "length", "lengths"],
)  # fmt: skip
def test_a_head_that_is_no_request(server: Serving, lines: str) -> None:
    with server.connect() as connection:
        try:
            connection.sendall(lines.encode("latin-1"))
            answer = connection.recv(4096)
        except ConnectionError:  # closed while we still send: as good an answer
            answer = b"HTTP/1.1 4"
    assert answer.startswith(b"HTTP/1.1 4"), answer


def test_other_hosts_and_pages_are_refused(server: Serving) -> None:
    for headers in (
        *({"host": host} for host in ("evil.example", "evil.example:8264", "", "localhost.evil.example")),
        *({"origin": origin} for origin in ("https://evil.example", "null", "http://localhost.evil.example")),
    ):
        response = server.post(CHAT, GOOD, **headers)
        assert response.status_code == 403, headers
        assert "access-control-allow-origin" not in response.headers
    for headers in (
        {"host": "localhost"},
        {"host": "[::1]:1"},
        {"host": "127.0.0.1"},
        {"origin": server.address},
    ):
        assert server.post(CHAT, GOOD, **headers).status_code == 200, headers


def test_two_hundred_clients_that_vanish_leak_nothing(server: Serving) -> None:
    process = psutil.Process(server.process.pid)
    server.chat()
    files, finished = process.num_fds(), server.metric("answers_total")
    body = json.dumps({**ENDLESS, "stream": True}).encode()
    request = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    for number in range(200):
        connection = server.connect()
        connection.sendall(request[: len(request) if number % 4 else number])
        if number % 3 == 0:  # a reset, not a farewell
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    until(lambda: server.metric("dropped_total") > 0)  # so they have begun to come in
    until(lambda: server.metric("requests_held") == 0)
    until(lambda: process.num_fds() <= files)
    assert server.metric("failed_total") == 0
    assert server.metric("answers_total") == finished


def test_a_client_that_leaves_stops_its_answer(server: Serving) -> None:
    """Also one that wants the whole answer at once, and sees nothing of it before."""
    for stream in (True, False):
        finished = server.metric("answers_total")
        body = json.dumps({**ENDLESS, "stream": stream}).encode()
        with server.connect() as connection:
            connection.sendall(asking(body))
            until(lambda: server.metric("requests_running") >= 1)
        until(lambda: server.metric("requests_running") == 0)
        assert server.metric("answers_total") == finished


def test_a_slow_reader_holds_nobody(server: Serving) -> None:
    body = json.dumps(
        {**ENDLESS, "stream": True, "logprobs": True, "top_logprobs": 20, "max_tokens": 800}
    ).encode()
    with server.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(asking(body))
        until(lambda: server.metric("requests_running") >= 1)
        assert server.chat(max_tokens=2)["usage"]["completion_tokens"] == 2
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += slow.recv(1 << 20)
    assert received.count(b"[DONE]") == 1


def holds(server: Serving, count: int) -> bool:
    return server.metric("requests_held") == count


def test_a_full_queue_says_when_to_come_again(server: Serving) -> None:
    connections = []
    try:
        body = json.dumps({**ENDLESS, "n": 64}).encode()
        for count in range(1, 5):
            connections.append(server.connect())
            connections[-1].sendall(asking(body))
            until(partial(holds, server, 64 * count))
        refused = server.post(CHAT, {**GOOD, "n": 64})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    finally:
        for connection in connections:
            connection.close()
    until(lambda: server.metric("requests_waiting") == 0)
    assert server.metric("refused_total") >= 1
