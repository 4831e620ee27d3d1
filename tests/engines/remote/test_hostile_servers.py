"""Servers that say too much, too little, the wrong thing, or what they must not: each test tries a kind."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.conversation import Message, Usage
from tanuki_cli.engines.answers import Chunk
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.remote.credentials import ApiKey
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.engines.remote.http import RemoteTimeouts
from tanuki_cli.engines.remote.opening import open_server
from tanuki_cli.errors import ExitCode, RemoteError
from tanuki_cli.prompt import SYSTEM_TEXT
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tanuki_cli.text.redaction import Redactor, redact, redact_json
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.chat_server import (
    DONE,
    ChatServer,
    Hang,
    Script,
    Status,
    chat,
    chat_answer,
    event,
    vllm,
    vllm_answer,
)
from tests.support.program import run

SECRET = "sk-hostile/0123456789\\abcdef"
QUESTION = [Message("user", "たぬきは?")]
SHORT = SamplingOptions(max_new_tokens=8, seed=7)


def open_engine(
    base_url: str, *, tokenizer: ChatTokenizer | None = None, timeouts: RemoteTimeouts | None = None
) -> RemoteEngine:
    return RemoteEngine(
        RemoteModel(name="lab", base_url=base_url),
        tokenizers=[tokenizer] if tokenizer else [],
        api_key=ApiKey(SECRET, "the test"),
        timeouts=timeouts,
    )


def ask(engine: RemoteEngine) -> tuple[str, Chunk | RemoteError]:
    """The answer's text, and how it ended."""
    text, last = "", Chunk()
    try:
        for last in engine.stream(QUESTION, SHORT):
            text += last.text
    except RemoteError as error:
        return text, error
    return text, last


# Secrets


def test_a_secret_is_redacted_however_the_text_is_cut() -> None:
    with ChatServer() as server, closing(open_engine(server.url)):
        pass  # now the key is known
    text = f"a {SECRET[:9]} {SECRET}{SECRET} b {SECRET[:-1]}"
    expected = f"a {SECRET[:9]} …… b {SECRET[:-1]}"
    assert redact(text) == expected
    assert redact(json.dumps(text)) == json.dumps(text).replace(json.dumps(SECRET)[1:-1], "…")
    assert redact_json({SECRET: [text, 1, None]}) == {"…": [expected, 1, None]}
    for size in range(1, len(text)):
        redactor = Redactor()
        pieces = [redactor.feed(text[at : at + size]) for at in range(0, len(text), size)]
        assert "".join(pieces) + redactor.finish() == expected


LIST = "/v1/models"


def escaped(text: str) -> str:
    """As JSON that has no character of ``text`` in it."""
    return "".join(f"\\u{ord(char):04x}" for char in text)


def models(*names: str) -> Status:
    return Status(200, json.dumps({"data": [{"id": name} for name in names]}).encode())


ECHOES: Sequence[tuple[str, dict[str, Status], list[Script]]] = [
    ("model", {"/v1/models": models(f"m-{SECRET}")}, [chat_answer("はい")]),
    ("models", {"/v1/models": models(f"m-{SECRET}", SECRET)}, []),
    ("model escaped", {LIST: Status(200, f'[{{"id": "{escaped(SECRET)}"}}]'.encode())}, [chat_answer("x")]),
    ("version", {"/api/version": Status(200, json.dumps({"version": SECRET}).encode())}, [chat_answer("x")]),
    ("status", {"/v1/models": Status(500, f'{{"error": "{escaped(SECRET)}"}}'.encode())}, []),
    ("text", {"/v1/models": Status(418, SECRET.encode())}, []),
    ("elsewhere", {"/v1/models": Status(302, headers={"Location": f"http://x/?{SECRET}"})}, []),
    ("nonsense", {"/v1/models": Status(200, SECRET.encode())}, []),
    ("answer", {}, [chat_answer("はい ", SECRET, SECRET[:5], SECRET[5:], *SECRET, " です")]),
    ("error", {}, [[chat("はい"), b"event: error\ndata: " + SECRET.encode() + b"\n\n"]]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pages", "scripts"), [case[1:] for case in ECHOES], ids=[case[0] for case in ECHOES]
)
def test_a_key_that_a_server_echoes_is_nowhere(
    pages: dict[str, Status], scripts: list[Script], tmp_path: Path
) -> None:
    """In nothing that is printed, with --debug or without, and in no file."""
    env = {"TANUKI_API_KEY_LAB": SECRET, "HF_HUB_OFFLINE": "1"}
    with ChatServer(*scripts, pages=pages) as server:
        run(tmp_path, "config", "set", "remotes.lab", server.url)
        done = [run(tmp_path, "ask", "--debug", "-m", "lab", "誰?", env=env)]
        done += [run(tmp_path, *command, env=env) for command in (("doctor",), ("history", "list"))]
        assert server.headers_seen[0]["authorization"] == f"Bearer {SECRET}"
    kept = [path.read_bytes().decode("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    spellings = (SECRET, json.dumps(SECRET)[1:-1])
    for text in [*kept, *(program.stdout + program.stderr for program in done)]:
        assert not any(spelling in text for spelling in spellings)
    assert "lab" in done[1].stdout


def test_no_escape_of_a_server_or_a_setting_reaches_the_terminal(tmp_path: Path) -> None:
    act = "\x1b]0;title\x07\x9b31m\x1b[2J"
    pages = {"/v1/models": models(f"a{act}", f"b{act}")}
    config = tmp_path / "config" / "config.toml"
    config.parent.mkdir()
    with ChatServer(Status(400, act.encode()), pages=pages) as server:
        table = json.dumps({f"x{act}": f"{server.url}#a{act}"})
        name, url = next(iter(json.loads(table).items()))
        config.write_text(
            f"[remotes]\n{json.dumps(name)} = {json.dumps(url)}\nlab = {json.dumps(server.url)}\n"
        )
        commands = (
            ("ask", "--debug", "-m", "lab", "誰?"),
            ("ask", "--debug", "-m", f"{server.url}#a{act}", "誰?"),
            ("config", "list"),
            ("doctor",),
        )
        outputs = [run(tmp_path, *command, env={"HF_HUB_OFFLINE": "1"}) for command in commands]
    assert "Traceback" in outputs[0].stderr
    for output in outputs:
        shown = output.stdout + output.stderr
        assert not {"\x1b", "\x07", "\x9b"} & set(shown), output.args


# Bounds


@contextmanager
def raw_server(head: bytes, *, again: bytes, every_s: float | None) -> Iterator[str]:
    """Sends ``head``, then ``again`` without end: at once, or every so many seconds."""
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not over.is_set():
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(1 << 16)
                    connection.sendall(head)
                    while not over.is_set():
                        connection.sendall(again if every_s else again * 4096)
                        if every_s and over.wait(every_s):
                            return
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
QUICK = RemoteTimeouts(connect=2, probe=0.5, silence=0.3, event=0.5, total=1.0)


@pytest.mark.parametrize(
    ("head", "again", "every_s"),
    [
        (OK, b" ", None),
        (OK + b"[", b"[", None),
        (OK, b" ", 0.05),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", None),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.05),
        (b"HTTP/1.1 500 No\r\n\r\n", b"<", None),
        (b"HTTP/1.1 500 No\r\n\r\n", b"<", 0.05),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    ],
)
def test_a_list_of_models_without_end(head: bytes, again: bytes, every_s: float | None) -> None:
    with raw_server(head, again=again, every_s=every_s) as url, pytest.raises(RemoteError) as caught:
        open_engine(url, timeouts=QUICK)
    assert len(caught.value.message) < 500


class Endless(list[bytes]):
    """A script that never ends."""

    def __init__(self, step: bytes, pause_s: float = 0) -> None:
        super().__init__()
        self._step, self._pause = step, threading.Event()
        self._pause_s = pause_s

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self._step
            if self._pause_s:
                self._pause.wait(self._pause_s)


@pytest.mark.parametrize(
    "script",
    [
        Endless(b": alive\n\n" * 1000),
        Endless(b": alive\n\n", 0.05),
        Endless(b"x", 0.05),
        Endless(b"data: " + b"x" * 10_000),
        Endless(b"data: {}\n\n"),
        Endless(event({"choices": []}), 0.05),
        Endless(event({"choices": [{"delta": {"reasoning_content": "x"}}]})),
    ],
)
def test_an_answer_without_end(script: Endless) -> None:
    with ChatServer(script) as server, closing(open_engine(server.url, timeouts=QUICK)) as engine:
        text, end = ask(engine)
    assert text == ""
    assert isinstance(end, RemoteError)


def test_the_most_new_tokens_hold_for_a_server_that_does_not_care(small_tokenizer: ChatTokenizer) -> None:
    ids = small_tokenizer.encode("日本の昔話によく出てくる動物です。" * 9)
    with (
        ChatServer(Endless(chat("あ")), chat_answer(*"あいうえおかきく")) as plain,
        ChatServer(vllm_answer(ids), [vllm("?", ids), DONE], kind="vllm", tokenizer=small_tokenizer) as exact,
    ):
        answers = [ask(open_engine(plain.url)) for _ in range(2)]
        answers += [ask(open_engine(exact.url, tokenizer=small_tokenizer)) for _ in range(2)]
    whole = small_tokenizer.decode(ids[:8])
    assert [text for text, _last in answers] == ["あ" * 8, "あいうえおかきく", whole, whole]
    ends = [last.finish_reason for _text, last in answers if isinstance(last, Chunk)]
    assert ends == ["length", "stop", "length", "length"]


# Absent is not success


def delta(content: object, **more: object) -> bytes:
    return event({"choices": [{"delta": {"content": content, **more}}]})


PART = {"type": "text", "text": "はい"}
FAILING: Sequence[tuple[str, Script]] = [
    ("", [DONE]),
    ("", [event({}), DONE]),
    ("", [chat(), DONE]),
    ("", Status(200, b"{}")),
    ("", Status(200, b"[]")),
    ("", Status(200, b'{"detail": "no"}')),
    ("", Status(200, b'{"choices": [{"message": {"content": {"a": 1}}, "finish_reason": "stop"}]}')),
    ("", Status(200, b'{"error": {"message": "no"}}')),
    ("", Status(200, b'{"object": "error", "message": "no"}')),
    ("", [event({"error": "no"})]),
    ("", [b"event: error\n\ndata:\n\n"]),
    ("", [delta(None, tool_calls=[{"id": 1}]), chat(finish="tool_calls"), DONE]),
    ("", [delta({"text": "x"}), chat(finish="stop"), DONE]),
    ("", [event({"choices": [], "usage": {"completion_tokens": 5}}), chat(finish="stop"), DONE]),
    ("はい", [chat("はい"), b"event: error\ndata: no\n\n", DONE]),
    ("はい", [chat("はい"), b'event: error\ndata: {"message": "no"}\n\n', chat(finish="stop"), DONE]),
    ("はい", [chat("はい"), event({"choices": [{"error": {"message": "no"}, "finish_reason": "error"}]})]),
    ("はい", [chat("はい"), chat(finish="abort"), DONE]),
    ("はい", [chat("はい")]),
]
READ: Sequence[Script] = [
    [delta([PART]), chat(finish="stop"), DONE],
    [delta(["は", {"text": "い"}]), DONE],
    [event({"choices": [{"message": {"content": "はい"}, "finish_reason": "stop"}]}), DONE],
    [event({"choices": [{"text": "はい", "finish_reason": "stop"}]}), DONE],
    [chat("はい"), DONE],
    Status(
        200, json.dumps({"choices": [{"message": {"content": "はい"}, "finish_reason": "stop"}]}).encode()
    ),
    Status(200, json.dumps({"choices": [{"message": {"content": [PART]}}]}).encode()),
]


@pytest.mark.parametrize(("text", "script"), FAILING)
def test_an_answer_that_is_none_is_a_failure_with_what_came(text: str, script: Script) -> None:
    with ChatServer(script) as server, closing(open_engine(server.url)) as engine:
        came, end = ask(engine)
    assert came == text
    assert isinstance(end, RemoteError)
    assert end.exit_code == ExitCode.REMOTE


@pytest.mark.parametrize("script", READ)
def test_an_answer_in_another_shape_is_read(script: Script) -> None:
    with ChatServer(script) as server, closing(open_engine(server.url)) as engine:
        text, end = ask(engine)
    assert (text, isinstance(end, Chunk)) == ("はい", True)


def test_a_failure_in_mid_answer_leaves_what_came(tmp_path: Path) -> None:
    with ChatServer([chat("はい、"), b"event: error\ndata: out of memory\n\n"]) as server:
        done = run(tmp_path, "ask", "-m", server.url, "誰?")
    assert (done.returncode, done.stdout.strip()) == (7, "はい、")
    assert "out of memory" in done.stderr


# What servers differ in


@pytest.mark.parametrize("count", [10**30, -1, 2**31, 1.5, "7", True, None, [], {}])
def test_counts_that_are_none_count_as_absent(count: object) -> None:
    usage = {
        "prompt_tokens": count,
        "completion_tokens": count,
        "prompt_tokens_details": {"cached_tokens": count},
    }
    script = [*map(chat, "はい"), chat(finish="stop"), event({"choices": [], "usage": usage}), DONE]
    with ChatServer(script) as server, closing(open_engine(server.url)) as engine:
        text, end = ask(engine)
    assert text == "はい"
    assert isinstance(end, Chunk)
    assert end.usage == Usage(prompt_tokens=0, completion_tokens=2, cached_tokens=0)


@pytest.mark.parametrize(
    "listing",
    [b'[{"id": "m"}]', b'{"data": [{"id": "m", "max_model_len": -5}]}', b'[1, {"id": 2}, {"id": "m"}]',
     json.dumps([{"id": "x" * 2000}, {"id": "m"}]).encode()],
)  # fmt: skip
def test_lists_of_models(listing: bytes) -> None:
    with ChatServer(chat_answer("x"), pages={"/v1/models": Status(200, listing)}) as server:
        engine = open_engine(server.url)
        assert ask(engine)[0] == "x"
    assert server.requests[0].body["model"] == "m"


def test_a_query_goes_with_every_request_and_into_no_message() -> None:
    with ChatServer(chat_answer("x"), Status(500)) as server:
        engine = open_engine(f"{server.url}/?version=2&sig=hidden")
        assert ask(engine)[0] == "x"
        error = ask(engine)[1]
    assert server.paths_seen[0] == "/v1/models?version=2&sig=hidden"
    assert all(path.endswith("?version=2&sig=hidden") for path in server.paths_seen)
    assert isinstance(error, RemoteError)
    assert "hidden" not in error.message + (error.hint or "") + repr(engine.info)


def test_sampling_that_is_off_is_not_sent() -> None:
    with ChatServer(chat_answer("x")) as server:
        ask(open_engine(server.url))
    assert (
        not {"top_p", "top_k", "min_p", "repeat_penalty", "repetition_penalty"}
        & server.requests[0].body.keys()
    )


def test_a_server_that_wants_the_limit_under_its_newer_name() -> None:
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    refusal = Status(400, json.dumps({"error": {"message": message}}).encode())
    with ChatServer(refusal, chat_answer("x"), chat_answer("y")) as server:
        engine = open_engine(server.url)
        assert [ask(engine)[0] for _ in range(2)] == ["x", "y"]
    limits = [
        (body.get("max_tokens"), body.get("max_completion_tokens"))
        for body in (r.body for r in server.requests)
    ]
    assert limits == [(8, None), (None, 8), (None, 8)]


# Tanuki's own prompt, as text


@pytest.mark.parametrize("offered", [True, False])
def test_where_plain_completions_are_offered_the_prompt_is_ours(offered: bool) -> None:
    pages = {"/v1/completions": Status(405)} if offered else {}
    with ChatServer([vllm("はい"), vllm(finish="stop"), DONE], pages=pages) as server:
        engine = open_engine(server.url)
        messages = [Message("user", "</s>は?"), Message("assistant", "はい"), Message("user", "何?")]
        assert "".join(chunk.text for chunk in engine.stream(messages, SHORT)) == "はい"
    (request,) = server.requests
    assert request.path == ("/v1/completions" if offered else "/v1/chat/completions")
    assert ["template of its own" in note for note in engine.notes] == [not offered]
    if offered:
        turns = "\n\n### 指示:\n<\\/s>は?\n\n### 応答:\nはい</s>\n\n### 指示:\n何?\n\n### 応答:\n"
        assert request.body["prompt"] == SYSTEM_TEXT + turns


def test_another_model_is_not_given_the_prompt_of_tanuki() -> None:
    pages = {"/v1/completions": Status(405), "/v1/models": models("another")}
    with ChatServer(chat_answer("x"), pages=pages) as server:
        ask(open_engine(server.url))
    assert server.requests[0].path == "/v1/chat/completions"


def test_completions_that_are_not_there_after_all() -> None:
    pages = {"/v1/completions": Status(405)}
    with ChatServer(Status(404), chat_answer("x"), chat_answer("y"), pages=pages) as server:
        engine = open_engine(server.url)
        assert [ask(engine)[0] for _ in range(2)] == ["x", "y"]
    paths = [request.path for request in server.requests]
    assert paths == ["/v1/completions", *["/v1/chat/completions"] * 2]


# Certificates


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("found", ["missing", "empty"])
def test_certificates_that_are_not_there_are_named(variable: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / found
    if found == "empty":
        path.write_text("no certificate\n", encoding="utf-8")
    env = {variable: str(path), "HF_ENDPOINT": "https://127.0.0.1:9"}
    commands = (("ask", "-m", "https://127.0.0.1:9/v1", "誰?"), ("pull", "tanuki-8b:q4_k_m"))
    for command in commands:
        done = run(tmp_path, *command, env=env)
        assert done.returncode in (5, 7)
        assert f"{variable} names {path}, which cannot be used" in done.stderr
        assert f"unset {variable}" in done.stderr


# Tokenizers


def test_a_tokenizer_that_cannot_be_used_is_left_out(small_tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    small_tokenizer.backend.save(str(good))
    bad = [tmp_path / f"{number}.json" for number in range(5)]
    contents = [b"", b"{}", b"\0" * 99, b"[" * 100_000, good.read_bytes()[:-9]]
    for path, content in zip(bad, contents, strict=True):
        path.write_bytes(content)
    with ChatServer(vllm_answer([]), kind="vllm", tokenizer=small_tokenizer) as server:
        options = OpenOptions(served_tokenizers=[*bad, tmp_path / "none.json", good], tokenizer_command="x")
        model = RemoteModel(name="lab", base_url=server.url)
        with closing(open_server(model, Settings(), options)) as engine:
            assert engine.exact
    assert sum("left out" in note for note in engine.notes) == 6


def test_how_long_a_server_was_silent_is_told() -> None:
    with (
        ChatServer([chat("はい"), Hang()]) as server,
        closing(open_engine(server.url, timeouts=QUICK)) as engine,
    ):
        text, end = ask(engine)
    assert text == "はい"
    assert isinstance(end, RemoteError)
    assert "0.3" in end.message


def test_the_query_of_an_address_is_shown_and_kept_nowhere(tmp_path: Path) -> None:
    """It may hold a key; only config.toml has it, where the user put it, and requests."""
    echo = Status(500, SECRET.encode())
    with ChatServer(*[chat_answer("はい")] * 3, echo) as server:
        url = f"{server.url}?api-version=1&key={SECRET.replace(chr(92), '')}"
        secret = SECRET.replace(chr(92), "")
        done = [run(tmp_path, "config", "set", "remotes.lab", url)]
        done += [run(tmp_path, "ask", "--debug", "-m", model, "誰?") for model in (url, "lab", url)]
        done += [run(tmp_path, "ask", "--debug", "-m", url, "誰?")]
        done += [run(tmp_path, command, "-m", url) for command in ("pull", "rm")]
        done += [run(tmp_path, *words) for words in (["config", "list"], ["doctor"], ["history", "list"])]
        done += [run(tmp_path, "rm", url), run(tmp_path, "ask", "-m", f"ftp://h/v1?key={secret}", "誰?")]
        assert all(secret in path for path in server.paths_seen)
        assert run(tmp_path, "config", "get", "remotes.lab").stdout.strip() == url  # this is asked for
    for one in done:
        assert secret not in one.stdout + one.stderr, one.args
    assert "remotes.lab\thttp://" in done[-5].stdout
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert kept == [tmp_path / "config" / "config.toml"]


def test_two_servers_never_share_the_variable_of_a_key(tmp_path: Path) -> None:
    config = tmp_path / "config" / "config.toml"
    config.parent.mkdir()
    with ChatServer(chat_answer("はい")) as server:
        config.write_text(f'[remotes]\ngpu-1 = "{server.url}"\ngpu_1 = "http://127.0.0.1:1/v1"\n')
        without = run(tmp_path, "ask", "-m", "gpu-1", "誰?")
        refused = run(tmp_path, "ask", "-m", "gpu-1", "誰?", env={"TANUKI_API_KEY_GPU_1": SECRET})
        assert len(server.requests) == 1
    assert without.returncode == 0, "without a key there is nothing to mistake"
    assert refused.returncode == 3
    assert "gpu_1 would both take their key from TANUKI_API_KEY_GPU_1" in refused.stderr
    assert "tanuki config unset remotes.gpu_1" in refused.stderr
    added = run(tmp_path, "config", "set", "remotes.Gpu--1", "http://h/v1")
    assert (added.returncode, "Gpu--1" in config.read_text()) == (3, False)
