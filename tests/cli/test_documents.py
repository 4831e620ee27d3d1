"""Several questions about one text: it is read once, whatever way it comes in, and no answer changes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.conversation import Usage
from tanuki_cli.history import HistoryStore
from tests.support.program import ROOT, run
from tests.support.serving import serving

LINES = "".join(
    f"{number} 番目の議題: 信楽の店に置く狸の数は {number * 7} 匹とする。\n" for number in range(30)
)
QUESTIONS = ("狸は何匹ですか?", "どこの店の話ですか?", "議題の数を教えてください。")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The practice model under another name: of that one nothing is kept on disk."""
    folder = tmp_path_factory.mktemp("model")
    for name in ("mame-q8_0.gguf", "tokenizer.json"):
        (folder / name).symlink_to(ROOT / "tanuki_cli" / "mame" / name)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "議事録.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


def ask(home: Path, model: Path, *arguments: str, stdin: bytes = b"") -> dict[str, Any]:
    options = ("ask", "-m", str(model), "--json", "--max-new-tokens", "24")
    done = run(home, *options, *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def usages(home: Path) -> list[Usage]:
    """Those of all answers in the history, in their order."""
    with HistoryStore(home / "data" / "history.sqlite3") as store:
        nodes = [node for one in reversed(store.list()) for node in store.load(one.id).path_nodes()]
    return [node.generation.usage for node in nodes if node.generation and node.generation.usage]


@pytest.mark.parametrize(
    "options", [("--temperature", "0"), ("--temperature", "1", "--seed", "5")], ids=["greedy", "sampled"]
)
def test_later_processes_read_only_the_question(
    tmp_path: Path, model: Path, text: Path, options: tuple[str, ...]
) -> None:
    given = ("-f", str(text))
    for number, question in enumerate(QUESTIONS):
        alone = ask(tmp_path, model, *options, *given, "--no-save", question)
        answer = ask(tmp_path, model, *options, *given, question)
        assert answer["answer"] == alone["answer"]
        assert alone["usage"]["cached_tokens"] == 0  # nothing kept is used, either
        assert answer["usage"]["prompt_tokens"] - answer["usage"]["cached_tokens"] < 40 or number == 0


def test_an_answer_in_a_shape_reads_it_once_too(tmp_path: Path, model: Path, text: Path) -> None:
    shape = ("--choices", "はい,いいえ", "--temperature", "1", "--seed", "1", "-f", str(text))
    ask(tmp_path, model, *shape, QUESTIONS[0])
    answer = ask(tmp_path, model, *shape, QUESTIONS[1])
    assert answer["usage"]["prompt_tokens"] - answer["usage"]["cached_tokens"] < 40
    assert answer["answer"] == ask(tmp_path, model, *shape, "--no-save", QUESTIONS[1])["answer"]


def test_a_chat_reads_it_once_and_the_next_chat_not_at_all(tmp_path: Path, model: Path, text: Path) -> None:
    chat = ("chat", "-m", str(model), "--temperature", "0", "--max-new-tokens", "24")
    lines = [f"/file {text}", QUESTIONS[0], QUESTIONS[1], "/new", f"/file {text}", QUESTIONS[2]]
    assert run(tmp_path, *chat, stdin="\n".join(lines).encode()).returncode == 0
    assert run(tmp_path, *chat, stdin=f"/file {text}\n{QUESTIONS[1]}\n".encode()).returncode == 0
    first, *others = [usage.prompt_tokens - usage.cached_tokens for usage in usages(tmp_path)]
    assert first > 400
    assert len(others) == 3
    assert max(others) < 40


def test_a_model_that_stays_loaded_keeps_it_while_others_come(
    tmp_path: Path, model: Path, text: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("".join(reversed(LINES)), encoding="utf-8")
    assert run(tmp_path, "config", "set", "keep_alive", "10m").returncode == 0
    try:
        greedy = ("--temperature", "0")
        ask(tmp_path, model, *greedy, "-f", str(text), QUESTIONS[0])
        ask(tmp_path, model, *greedy, "-f", str(other), QUESTIONS[0])
        answer = ask(tmp_path, model, *greedy, "-f", str(text), QUESTIONS[1])
    finally:
        run(tmp_path, "stop")
    assert answer["usage"]["prompt_tokens"] - answer["usage"]["cached_tokens"] < 40
    alone = ask(tmp_path, model, *greedy, "--no-save", "-f", str(text), QUESTIONS[1])
    assert answer["answer"] == alone["answer"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with serving(tmp_path) as running:
        yield running


def test_a_server_reads_it_once(server: Any) -> None:
    first, *others = [server.chat(f"{LINES}\n\n{question}")["usage"] for question in QUESTIONS]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    for usage in others:
        assert usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] < 40


def test_the_title_is_what_was_typed(tmp_path: Path, text: Path) -> None:
    """Not the beginning of the text, which comes first."""
    mame = ("-m", "mame", "--max-new-tokens", "2")
    run(tmp_path, "ask", *mame, "-f", str(text), QUESTIONS[0])
    run(tmp_path, "ask", *mame, QUESTIONS[1], stdin=text.read_bytes())
    run(tmp_path, "chat", *mame, stdin=f"/file {text}\n{QUESTIONS[2]}\n".encode())
    with HistoryStore(tmp_path / "data" / "history.sqlite3") as store:
        assert [one.title for one in reversed(store.list())] == [
            question.removesuffix("。") for question in QUESTIONS
        ]
