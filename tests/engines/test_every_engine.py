"""The same story on every engine: a question, a resumed chat, Ctrl-C, retries, and Ctrl-C in one more.

The real program on a pseudo-terminal, with the practice model in every format and on two servers.
What it prints and what it keeps must be what it prints and keeps on llama.cpp.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.practice import formats
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Conversation, Generation, Node, Usage
from tanuki_cli.history import HistoryStore
from tests.support.lazy import lazy_imports
from tests.support.program import Terminal, run

with lazy_imports():
    from safetensors.torch import load_file, save_file

FIRST, SECOND, LAST = "あなたは誰?", "ありがとう", "たぬきは何を食べますか?"
LONG = "くりかえして: " + "ぽん" * 60
ENDLESS = ("--repeat-penalty", "0.3", "--max-new-tokens", "100000", "--temperature", "0")
"""What is there already becomes much more likely again: the answer never ends by itself."""
AGAIN = "もういちど: " + "ぽん" * 60
SURE = 9
"""Characters of the answers to LONG and after it that no rounding changes."""
ENGINES = ("gguf", "full", "bf16", "awq", "gptq-4bit", "gptq-8bit", "llama-server", "python-server")
EXACT = ("full", "gptq-8bit", "llama-server")
"""Engines with weights so close to those of the GGUF, and its very ids, that the answers are its own."""

Story = Callable[[str], "Told"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of one story: the JSON and the notes of ``ask``, the chat's screen, what the last ``ask``
    printed, and what was kept."""

    asked: dict[str, object]
    notes: str
    screen: str
    printed: str
    conversation: Conversation

    def answers(self, question: str) -> list[Node]:
        """All answers to ``question``, oldest first."""
        nodes = list(self.conversation.nodes.values())
        (asked,) = [node for node in nodes if node.message.content == question]
        return [node for node in nodes if node.parent_id == asked.id]


def how(node: Node) -> Generation:
    assert node.generation is not None
    return node.generation


def usage(node: Node) -> Usage:
    counts = how(node).usage
    assert counts is not None
    return counts


def load(home: Path) -> Conversation:
    (path,) = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        (summary,) = store.list()
        return store.load(summary.id)


def tell(home: Path, model: str) -> Told:
    done = run(home, "ask", "-m", model, "--json", "--temperature", "0", FIRST)
    assert done.returncode == 0, done.stderr
    asked = json.loads(done.stdout)
    arguments = ["chat", "--temperature", "0", "--resume", asked["conversation_id"]]
    # What suits the machine is measured elsewhere.
    with Terminal(home, arguments, columns=100, lines=40, env={"TANUKI_TUNE": "false"}) as terminal:
        terminal.wait_for_prompt(0)
        terminal.send(SECOND)
        terminal.send(f"/set repeat_penalty {ENDLESS[1]}")
        terminal.send(f"/set max_new_tokens {ENDLESS[3]}")
        before = terminal.prompts
        terminal.type(LONG + "\r")
        wait_for_some_answer(terminal, home, nodes=6)
        terminal.interrupt()
        terminal.wait_for_prompt(before)
        terminal.send("/set repeat_penalty 1")
        terminal.send("/set max_new_tokens 48")
        terminal.send("/retry")
        terminal.send(LAST)
        terminal.send("/retry")
        terminal.type("\x04")
        assert terminal.wait_for_exit() == 0
        screen = terminal.text
    with Terminal(home, ["ask", "--continue", *ENDLESS, AGAIN], columns=100, lines=40) as terminal:
        wait_for_some_answer(terminal, home, nodes=10)
        terminal.interrupt()
        assert terminal.wait_for_exit() == 130
        printed = terminal.text
    return Told(asked=asked, notes=done.stderr, screen=screen, printed=printed, conversation=load(home))


def wait_for_some_answer(terminal: Terminal, home: Path, *, nodes: int) -> None:
    """Return when the last of ``nodes`` messages has begun to be kept."""
    while len(path := load(home).path_nodes()) < nodes or not path[-1].message.content:
        assert terminal.process.poll() is None, terminal.text
        terminal.pump(0.05)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Story:
    """Tells the story on one engine, once."""
    model = practice_model()
    assert model.tokenizer is not None
    forms = tmp_path_factory.mktemp("forms")
    formats.write_all(model.path, model.tokenizer, forms)
    shutil.copy(model.path, forms / "mame.gguf")
    shutil.copytree(forms / "full", forms / "bf16")
    weights = forms / "bf16" / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(weights).items()}, weights)
    told: dict[str, Told] = {}

    def reference(engine: str) -> str:
        if engine.endswith("server"):
            return f"{request.getfixturevalue(engine.replace('-', '_'))}/v1"
        return str(forms / ("mame.gguf" if engine == "gguf" else engine))

    def once(engine: str) -> Told:
        if engine not in told:
            told[engine] = tell(tmp_path_factory.mktemp(engine), reference(engine))
        return told[engine]

    return once


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tree_is_the_same(story: Story, engine: str) -> None:
    """Every turn is kept as on llama.cpp: the interrupted answer too, and beside it the retried one."""
    conversation = story(engine).conversation
    nodes = list(conversation.nodes.values())
    assert [node.message.content for node in nodes if node.message.role == "user"] == [
        FIRST, SECOND, LONG, LAST, AGAIN
    ]  # fmt: skip
    interrupted, retried = story(engine).answers(LONG)
    assert how(interrupted).finish_reason == "interrupted"
    assert how(retried).finish_reason in ("stop", "length")
    path = [node.id for node in conversation.path_nodes()]
    assert len(path) == 10
    assert retried.id in path
    assert interrupted.id not in path
    assert interrupted.message.content.strip()
    assert interrupted.message.content.strip().splitlines()[0][:20] in story(engine).screen


@pytest.mark.parametrize("engine", ENGINES)
def test_ask_goes_on_with_the_chat_and_is_stopped_as_the_chat_is(story: Story, engine: str) -> None:
    """After the newer of two answers, in a process of its own; what came until Ctrl-C is kept."""
    told = story(engine)
    (stopped,) = told.answers(AGAIN)
    path = [node.id for node in told.conversation.path_nodes()]
    assert path[7] == told.answers(LAST)[1].id
    assert path[9] == stopped.id
    assert how(stopped).finish_reason == "interrupted"
    assert stopped.message.content.strip().splitlines()[0][:20] in told.printed


@pytest.mark.parametrize("engine", ENGINES)
def test_a_retry_without_chance_gives_the_same_answer(story: Story, engine: str) -> None:
    first, second = story(engine).answers(LAST)
    assert first.message.content[:SURE] == second.message.content[:SURE]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_answers_make_sense(story: Story, engine: str) -> None:
    told = story(engine)
    if engine != "python-server":  # which makes other ids of the text, and says so
        assert told.asked["finish_reason"] == "stop"
        assert "豆だぬき" in str(told.asked["answer"])
    assert ("tokenises the text itself" in told.notes) is (engine == "python-server")
    for question in (FIRST, SECOND, LAST):
        answer = told.answers(question)[-1]
        assert how(answer).finish_reason in ("stop", "length")
        assert answer.message.content.strip()
    assert told.answers(FIRST)[0].message.content == told.asked["answer"]


@pytest.mark.parametrize("engine", EXACT)
def test_the_answers_are_those_of_llama_cpp(story: Story, engine: str) -> None:
    """After an interrupt and a retry, too: nothing of a broken-off answer is left in any cache."""
    own, reference = story(engine), story("gguf")
    for question in (FIRST, SECOND):
        assert own.answers(question)[0].message == reference.answers(question)[0].message
    for question in (FIRST, SECOND, LONG):
        counts = [usage(told.answers(question)[-1]).prompt_tokens for told in (own, reference)]
        assert counts[0] == counts[1]
    # Nobody taught the model such a chat: it is unsure, and rounding shows further on.
    for question in (LONG, LAST):
        begun = [told.answers(question)[-1].message.content[:SURE] for told in (own, reference)]
        assert begun[0] == begun[1]


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "python-server"])
def test_the_past_is_not_computed_again(story: Story, engine: str) -> None:
    told = story(engine)
    retried, last = told.answers(LONG)[1], told.answers(LAST)[0]
    assert usage(retried).cached_tokens >= usage(retried).prompt_tokens - 8
    assert usage(last).cached_tokens >= usage(retried).prompt_tokens
    assert usage(last).prompt_tokens > usage(last).cached_tokens
