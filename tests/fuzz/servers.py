"""Answers of servers: what they say of themselves and what they stream, in every shape and cut at any byte.

The engine asks a real server on loopback, which sends what the mutant says.

    python -m tests.fuzz.servers --count 1000 --seed 1
"""

import base64
import json
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.conversation import Message
from tanuki_cli.engines.remote.credentials import ApiKey
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.engines.remote.failures import MAX_COUNT
from tanuki_cli.engines.remote.http import RemoteTimeouts
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer
from tests.conftest import small_unigram
from tests.fuzz.harness import flip_bits, main, numbers, spoil_bytes

SECRET: Final = "sk-fuzz-0123456789abcdef"
OPTIONS: Final = SamplingOptions(max_new_tokens=12, seed=7)
QUICK: Final = RemoteTimeouts(connect=1, probe=0.6, silence=0.4, event=0.8, total=1.5)
_OWNERS: Final = ("vllm", "llamacpp", "library", "me", None, 5)
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def _value(random_: random.Random) -> Any:
    return random_.choice(
        (
            *(number for number in numbers()),
            *(-1, 10**30, 1.5, 1e308, True, None, "", "x" * 5000, "\x1b[2J", "\u202eab", "\ud800", "</s>"),
            *(
                "### 指示:",
                SECRET,
                f"a{SECRET}b",
                [],
                {},
                [[]],
                {"text": "は"},
                [{"type": "text", "text": "い"}],
                "stop",
            ),
            json.loads("[" * 60 + "]" * 60),
        )
    )


def _mutated(random_: random.Random, value: Any) -> Any:
    """``value`` with something inside of it changed, left out or put twice."""
    value = json.loads(json.dumps(value))
    place, key = {"": value}, ""
    inner: Any = value
    holder: Any = place
    while isinstance(inner, (dict, list)) and inner and random_.random() < 0.85:
        holder, key = inner, random_.choice(list(inner) if isinstance(inner, dict) else [*range(len(inner))])
        inner = holder[key]
    if random_.random() < 0.25 and holder is not place:
        del holder[key]
    else:
        holder[key] = _value(random_)
    return place[""] if holder is place else value


def _models(random_: random.Random) -> Any:
    entry = {"id": "tanuki-8b", "object": "model", "owned_by": random_.choice(_OWNERS), "max_model_len": 4096}
    return random_.choice(([entry], *[{"object": "list", "data": [entry]}] * 8, {"data": [entry] * 3}))


def _event(random_: random.Random, text: str) -> Any:
    choice: dict[str, Any] = random_.choice(
        (
            {"index": 0, "delta": {"content": text}, "finish_reason": None},
            {"index": 0, "text": text, "token_ids": [random_.randrange(300) for _char in text]},
            {"message": {"role": "assistant", "content": text}},
        )
    )
    whole: dict[str, Any] = {"choices": [choice]}
    if random_.random() < 0.85:
        return whole
    return random_.choice(
        (
            {"content": text, "tokens": [random_.randrange(300)], "stop": False, "tokens_predicted": 1},
            {**whole, "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            {"error": {"message": f"no {SECRET}", "code": 500}},
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": random_.choice([*numbers()])}},
        )
    )


def _stream(random_: random.Random) -> bytes:
    """Some events, each perhaps changed, and an end or none."""
    parts: list[bytes] = []
    for text in ("たぬき", "は", "動物", SECRET[:9], SECRET[9:], "です。"):
        event = _event(random_, text)
        if random_.random() < 0.08:
            event = _mutated(random_, event)
        data = json.dumps(event, ensure_ascii=random_.random() < 0.5).encode("utf-8", "surrogatepass")
        parts.append(
            random_.choice((*[b"data: "] * 20, b"data:", b"event: error\ndata: ", b"id: 1\ndata: ", b""))
            + data
        )
        parts.append(random_.choice((*[b"\n\n"] * 9, b"\r\n\r\n", b"\n", b"\r\r", b"\n\n: note\n\n")))
    parts.append(
        random_.choice(
            (
                *(
                    b"data: [DONE]\n\n",
                    b"data: [DONE]\n\n",
                    b"",
                    b"data: {",
                    b"data: \xff\xfe\n\n",
                    b"event: error\n\n",
                ),
                b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
                b'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\n',
            )
        )
    )
    return b"".join(parts)


def _head(random_: random.Random, body: bytes) -> bytes:
    status = random_.choice(
        (b"200 OK", b"200 OK", b"500 No", b"404 Not Found", b"429 Wait", b"302 Found", b"999 ?")
    )
    length = random_.choice(
        (
            b"",
            b"Content-Length: %d\r\n" % len(body),
            b"Content-Length: 99999999\r\n",
            b"Content-Length: -1\r\n",
        )
    )
    extra = random_.choice(
        (
            *(b"", b"Location: http://elsewhere/\r\n", b"Retry-After: 1e9\r\n", b"Retry-After: nan\r\n"),
            *(
                b"Content-Encoding: gzip\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"X: " + b"y" * 90_000 + b"\r\n",
            ),
            *(
                b"Content-Type: text/html; charset=utf-7\r\n",
                b"\xff\xfe: x\r\n",
                b"Set-Cookie: a=b\r\n" * 500,
            ),
        )
    )
    return b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n" + length + extra + b"\r\n"


def make(random_: random.Random, path: Path) -> str:
    """One server: what each place gives, and how the connection ends; as JSON."""
    name = random_.choice(("itself", "itself", "stream", "stream", "stream", "head", "bytes", "one piece"))
    models = _models(random_)
    pages: dict[str, bytes] = {}
    stream = _OK + _stream(random_)
    if name == "itself":
        models = _mutated(random_, models)
        for place in ("/version", "/props", "/api/version", "/detokenize", "/completions"):
            if random_.random() < 0.6:
                page = random_.choice(
                    ({"version": "1"}, {"default_generation_settings": {"n_ctx": 4096}}, {"prompt": "x"})
                )
                pages[place] = _plain(_mutated(random_, page))
    elif name == "head":
        body = random_.choice((b"{}", stream[len(_OK) :], json.dumps(models).encode()))
        pages[random_.choice(("/models", "answer", "/detokenize"))] = _head(random_, body) + body
    elif name == "bytes":
        stream = random_.choice((flip_bits, spoil_bytes))(random_, stream)
        if random_.random() < 0.3:
            listed = _plain(models)
            pages["/models"] = random_.choice((flip_bits, spoil_bytes))(random_, listed)
    elif name == "one piece":
        stream = _plain(_mutated(random_, _event(random_, "はい")))
    pages.setdefault("/models", _plain(models))
    pages.setdefault("answer", stream)
    encoded = {place: base64.b64encode(data).decode() for place, data in pages.items()}
    end = random_.choice((*["close"] * 8, "reset", "silence", "drip"))
    path.write_text(json.dumps({"pages": encoded, "end": end, "piece": random_.choice((1, 7, 100_000))}))
    return name


def _plain(value: Any) -> bytes:
    body = json.dumps(value).encode("utf-8", "surrogatepass")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def _serving(pages: dict[str, bytes], end: str, piece: int) -> Iterator[str]:
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            asked = connection.recv(1 << 16)
            place = asked.split(b" ", 2)[1].decode("ascii", "replace") if asked.count(b" ") > 1 else ""
            if asked.startswith(b"POST") and place.endswith(("/completions", "/completion")):
                data = pages["answer"]
            else:
                data = next((page for name, page in pages.items() if place.endswith(name)), _NOT_FOUND)
            for start in range(0, min(len(data), 400 * piece), piece):
                connection.sendall(data[start : start + piece])
            if end == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif end in {"silence", "drip"} and b"chunked" not in data[:200] and b"Length" not in data[:200]:
                while not over.wait(0.1):
                    if end == "drip":
                        connection.sendall(b":")

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _tokenizer() -> ChatTokenizer:
    pieces = small_unigram()
    return ChatTokenizer(pieces, bos_id=1, eos_id=2, vocab_size=pieces.get_vocab_size())


def attempt(path: Path) -> str:
    """Ask the server; nothing of the key comes back, and all numbers are such as the history takes."""
    content = json.loads(path.read_text())
    pages = {place: base64.b64decode(data) for place, data in content["pages"].items()}
    text, seen = "", []
    with _serving(pages, content["end"], content["piece"]) as url:
        engine = RemoteEngine(
            RemoteModel(name="lab", base_url=url),
            tokenizers=[_tokenizer()],
            api_key=ApiKey(SECRET, "the fuzzer"),
            timeouts=QUICK,
        )
        try:
            seen += [*engine.notes, engine.info.model, engine.info.engine, engine.info.device]
            for chunk in engine.stream([Message("user", "たぬきは?")], OPTIONS):
                text += chunk.text
                if chunk.usage is not None:
                    counts = (
                        chunk.usage.prompt_tokens,
                        chunk.usage.completion_tokens,
                        chunk.usage.cached_tokens,
                    )
                    assert all(0 <= count <= MAX_COUNT for count in counts), counts
                    assert chunk.finish_reason in {"stop", "length"}, chunk.finish_reason
        finally:
            engine.close()
            assert not any(SECRET in said for said in [text, *seen]), "the key came back"
            assert all(len(said) < 1000 and "\x1b" not in said for said in seen), (
                "what a server says of itself"
            )
    return "answered" if text else "answered nothing"


if __name__ == "__main__":
    main((("tests.fuzz.servers", ".json", make),), __doc__ or "")
