"""Real clients, none of them changed, against the real server. Those that are not installed are left out."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import openai
import pytest

from tests.conftest import until
from tests.support.program import Terminal, run
from tests.support.serving import QUESTION, Serving, serving

NODE_MODULES = os.environ.get("TANUKI_TEST_NODE_MODULES", "")
"""A folder in which `npm install openai` was run."""
OTERM = os.environ.get("TANUKI_TEST_OTERM", "")
"""A Python in whose environment oterm is installed: it holds its libraries at versions of its own."""
OTERM_CHAT = """
import asyncio
from oterm.store.store import Store
from oterm.types import ChatModel
chat = ChatModel(name="x", model="mame", provider="openai-compat/tanuki", parameters={"temperature": 0.0})
async def main():
    await (await Store.get_store()).save_chat(chat)
asyncio.run(main())
"""
NAMED = json.dumps(
    {
        "type": "object",
        "properties": {"名前": {"type": "string", "maxLength": 6}},
        "required": ["名前"],
        "additionalProperties": False,
    }
)
LITELLM = """
import sys, litellm
where = {"model": "openai/tanuki", "api_base": sys.argv[1], "api_key": "any", "temperature": 0}
messages = [{"role": "user", "content": sys.argv[2]}]
print(litellm.completion(messages=messages, **where).choices[0].message.content)
pieces = litellm.completion(messages=messages, stream=True, **where)
print("".join(piece.choices[0].delta.content or "" for piece in pieces))
"""
NODE = """
const OpenAI = require("openai");
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any" });
(async () => {
  const messages = [{ role: "user", content: process.argv[3] }];
  const whole = await client.chat.completions.create({ model: "tanuki", messages, temperature: 0 });
  console.log(whole.choices[0].message.content);
  const asked = { model: "tanuki", messages, temperature: 0, stream: true };
  const stream = await client.chat.completions.create(asked);
  let text = "";
  for await (const piece of stream) text += piece.choices[0]?.delta?.content ?? "";
  console.log(text);
  try {
    await client.chat.completions.create({ model: "tanuki", messages, max_tokens: "x" });
  } catch (error) {
    console.log(error.constructor.name, error.status, error.param);
  }
})();
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def expected(server: Serving) -> str:
    return str(server.chat()["choices"][0]["message"]["content"])


def test_openai_of_python(server: Serving, expected: str) -> None:
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="any")
    [model] = client.models.list().data
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(
        model=model.id, messages=messages, temperature=0, logprobs=True, top_logprobs=2
    )
    assert whole.choices[0].message.content == expected
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert "".join(token.token for token in logprobs.content or ()) == expected
    stream = client.chat.completions.create(
        model=model.id,
        messages=messages,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces = list(stream)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == expected
    assert pieces[-1].usage == whole.usage
    text = client.completions.create(model=model.id, prompt=[1, 5, 300], max_tokens=3, temperature=0)
    assert text.usage is not None
    assert text.usage.prompt_tokens == 3


def test_its_errors(server: Serving) -> None:
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="any", max_retries=0)
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-4", prompt="x")
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="mame", prompt="たぬき" * 5000)
    assert caught.value.code == "context_length_exceeded"


def test_its_shapes(server: Serving) -> None:
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="any")
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"年齢": {"type": "integer"}},
        "required": ["年齢"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="mame",
        messages=[{"role": "user", "content": QUESTION}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": schema, "strict": True},
        },
        max_tokens=300,
        seed=1,
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["年齢"], int)


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_many_at_once_are_not_mixed(server: Serving, temperature: float) -> None:
    """Every answer is the one that its question has alone, drawn ones too."""
    questions = [QUESTION, "たぬきとは?", "こんにちは", "ありがとう", "1+1は?", "好きな食べ物は?"]
    requests = [(question, seed) for question in questions for seed in range(4)]
    options = {"temperature": temperature, "max_tokens": 40}

    def alone(question: str, seed: int) -> str:
        return str(server.chat(question, seed=seed, **options)["choices"][0]["message"]["content"])

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="any") as client:

            async def ask(question: str, seed: int) -> str:
                stream = await client.chat.completions.create(
                    model="mame",
                    messages=[{"role": "user", "content": question}],
                    temperature=temperature,
                    max_tokens=40,
                    seed=seed,
                    stream=True,
                )
                return "".join([piece.choices[0].delta.content or "" async for piece in stream])

            return await asyncio.gather(*(ask(*request) for request in requests))

    assert asyncio.run(ask_all()) == [alone(*request) for request in requests]


def test_llm(server: Serving, expected: str, tmp_path: Path) -> None:
    entry = f"- model_id: tanuki\n  model_name: tanuki\n  api_base: {server.address}/v1\n"
    (tmp_path / "extra-openai-models.yaml").write_text(entry, encoding="utf-8")
    env = {**os.environ, "LLM_USER_PATH": str(tmp_path), "PYTHONUTF8": "1"}
    env.pop("OPENAI_API_KEY", None)
    for more in ([], ["--no-stream"]):
        command = [sys.executable, "-m", "llm", "-m", "tanuki", "-o", "temperature", "0", *more, QUESTION]
        done = subprocess.run(command, capture_output=True, env=env, check=False, timeout=120)
        assert done.stdout.decode().strip() == expected, done.stderr.decode()


def test_litellm(server: Serving, expected: str, tmp_path: Path) -> None:
    if find_spec("litellm") is None:
        pytest.skip("litellm is not installed")
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", LITELLM, f"{server.address}/v1", QUESTION]
    done = subprocess.run(command, capture_output=True, env=env, check=False, timeout=240, cwd=tmp_path)
    assert done.stdout.decode().split("\n")[:2] == [expected] * 2, done.stderr.decode()


def test_openai_of_node(server: Serving, expected: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not NODE_MODULES:
        pytest.skip("TANUKI_TEST_NODE_MODULES does not name a folder with the package openai")
    program = tmp_path / "ask.js"
    program.write_text(NODE, encoding="utf-8")
    env = {**os.environ, "NODE_PATH": str(Path(NODE_MODULES) / "node_modules")}
    command = [node, str(program), f"{server.address}/v1", QUESTION]
    done = subprocess.run(command, capture_output=True, env=env, check=False, timeout=120)
    lines = done.stdout.decode().splitlines()
    assert lines == [expected, expected, "BadRequestError 400 max_tokens"], done.stderr.decode()


@pytest.mark.timeout(900)
def test_oterm(server: Serving, expected: str, tmp_path: Path) -> None:
    """The program itself at a terminal, with the settings of the help page."""
    if not OTERM:
        pytest.skip("TANUKI_TEST_OTERM does not name a Python with oterm")
    connection = {"tanuki": {"base_url": f"{server.address}/v1", "api_key": "tanuki"}}
    config = {"splash-screen": False, "openaiCompatible": connection}
    (tmp_path / "config.json").write_text(json.dumps(config))
    env = {"OTERM_DATA_DIR": str(tmp_path), "PYTHONUTF8": "1", "TERM": "xterm-256color"}
    subprocess.run([OTERM, "-c", OTERM_CHAT], env={**os.environ, **env}, check=True, timeout=400)
    command = (OTERM, "-m", "oterm.cli.oterm")
    with Terminal(tmp_path, [], command=command, columns=120, lines=40, env=env) as terminal:
        terminal.wait_for("submit", timeout_s=400)  # it imports much
        terminal.wait_for("❯")
        terminal.type(f"{QUESTION}\r")
        answer = "".join(expected.split())
        until(lambda: terminal.pump(0.1) or answer in "".join(terminal.text.split()), timeout_s=200)
        terminal.wait_for("/ 4.1k")  # of what /v1/models says of the context


def test_our_own_engine_sends_exact_ids(server: Serving, expected: str, tmp_path: Path) -> None:
    remote = f"{server.address}/v1"
    done = run(tmp_path, "ask", "--json", "--temperature", "0", "-m", remote, QUESTION)
    assert done.stderr == ""  # where the server tokenises, a note says so
    answer = json.loads(done.stdout)
    assert answer["answer"] == expected
    assert answer["usage"]["prompt_tokens"] == server.chat()["usage"]["prompt_tokens"]
    done = run(tmp_path, "ask", "--choices", "はい,いいえ", "-m", remote, QUESTION)
    assert done.stdout.strip() in ("はい", "いいえ")
    seeds = [
        run(tmp_path, "ask", "--seed", "5", "--temperature", "2", "-m", remote, QUESTION).stdout for _ in "12"
    ]
    assert seeds[0] == seeds[1]


def test_log_probabilities_through_our_own_engine_are_those_without_a_server(
    server: Serving, tmp_path: Path
) -> None:
    def tokens(*model: str) -> list[dict[str, object]]:
        asked = ("ask", *model, "--json", "--no-save", "--temperature", "0", "--logprobs", "2", QUESTION)
        found: list[dict[str, object]] = json.loads(run(tmp_path, *asked).stdout)["logprobs"]
        return found

    assert tokens("-m", f"{server.address}/v1") == tokens("-m", "mame")


@pytest.mark.parametrize(
    "shape",
    [
        ("--json-schema", NAMED),
        ("--choices", "たぬき,きつね"),
        ("--regex", "[0-9]{3}年"),
    ],
    ids=["schema", "choices", "pattern"],
)
def test_a_shape_through_our_own_engine_is_the_same_without_a_server(
    server: Serving, tmp_path: Path, shape: tuple[str, str]
) -> None:
    def answer(model: str) -> str:
        asked = ("ask", "-m", model, *shape, "--no-save", "--temperature", "0", QUESTION)
        done = run(tmp_path, *asked)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert answer(f"{server.address}/v1") == answer("mame") != ""
