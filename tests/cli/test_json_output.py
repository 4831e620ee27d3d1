"""What programs read on stdout: the same values in every encoding, and nothing that acts on a terminal."""

import ast
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.evaluation.arena.votes import Turn, Vote, VoteFile
from tanuki_cli.history import HistoryStore
from tests.support.program import COMMAND, ROOT, Terminal, environment

TITLE = "信楽焼の狸 🍃 ①～¥"
ODD = "絵文字🦝と\u202e逆さと\x9b2J と \U000e0041。"
COMMANDS = (
    ("ask", "-m", "mame", "--no-save", "--json", "--temperature", "0", "--stop", "①🍃", "こんにちは"),
    ("ask", "-m", "mame", "--no-save", "--jsonl", "--temperature", "0", "--stop", "①🍃", "こんにちは"),
    ("models", "--json"),
    ("doctor", "--offline", "--json"),
    ("bench", "-m", "mame", "--json"),
    ("pull", "--json", "--offline", "tanuki-8b:q4_k_m"),
    ("history", "list", "--json"),
    ("history", "show", "--json"),
    ("history", "search", "--json", "絵文字"),
    ("history", "export", "--all", "--format", "json"),
    ("history", "export", "--all", "--format", "jsonl"),
    ("arena", "export"),
)
VARIES = {"id", "conversation_id", "detail", "reason", "status", "fix"}
"""Keys whose texts differ from run to run, or because the encoding is one of doctor's findings."""
NO_TEXT_OF_OTHERS = {"bench"}
"""Commands whose JSON is ASCII by itself."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    conversation = Conversation(title=TITLE, system=ODD)
    conversation.append(Message("user", ODD))
    with HistoryStore(home / "data" / "history.sqlite3") as store:
        store.add([conversation])
    turn = Turn(question=ODD, answers=(ODD, TITLE))
    vote = Vote(time=None, models=(ODD, "mame"), verdict="first", turns=(turn,))
    VoteFile(home / "data" / "arena" / "votes.jsonl").add([vote])
    return home


def printed(home: Path, arguments: tuple[str, ...], encoding: str) -> tuple[bytes, list[Any]]:
    """What stdout got, and the JSON values in it."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(home, PYTHONIOENCODING=encoding, LANG="ja_JP.UTF-8"),
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.stdout, list(values(done.stdout.decode(encoding)))


def values(text: str) -> Iterator[Any]:
    decoder, start = json.JSONDecoder(), 0
    while start < len(text):
        value, end = decoder.raw_decode(text, start)
        yield value
        start = end + 1


def texts(value: Any) -> Iterator[str]:
    """Every string that does not differ from run to run."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            if key not in VARIES:
                yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:3]))
def test_no_encoding_of_stdout_loses_a_character(home: Path, arguments: tuple[str, ...]) -> None:
    as_utf_8, expected = printed(home, arguments, "utf-8")
    assert not as_utf_8.isascii() or arguments[0] in NO_TEXT_OF_OTHERS
    for encoding in ("ascii", "cp932"):
        escaped, found = printed(home, arguments, encoding)
        assert escaped.isascii()
        assert "?" not in json.dumps(found, ensure_ascii=False)
        assert sorted({text for value in found for text in texts(value)}) == sorted(
            {text for value in expected for text in texts(value)}
        )


def test_what_could_act_on_a_terminal_is_escaped(home: Path) -> None:
    with Terminal(home, ["history", "show", "--json"], columns=200) as terminal:
        assert terminal.wait_for_exit() == 0
        assert "\\u202e" in terminal.text
        assert "\\u009b2J" in terminal.text
        assert json.loads("".join(terminal.text.splitlines()))["title"] == TITLE


@pytest.mark.parametrize(
    "arguments",
    [
        ("history", "export"),
        ("arena", "results", "--csv"),
        ("batch", "{home}/questions.txt", "--csv", "-m", "mame", "--max-new-tokens", "4"),
    ],
)
def test_a_terminal_gets_no_text_that_could_act_on_it(home: Path, arguments: tuple[str, ...]) -> None:
    (home / "questions.txt").write_text(f"{ODD}\n", encoding="utf-8")
    with Terminal(home, [word.format(home=home) for word in arguments], columns=200) as terminal:
        assert terminal.wait_for_exit() == 0
        shown = terminal.raw.decode()
        assert "<U+202E>" in shown
        assert not {"\u202e", "\x9b"} & set(shown)


def test_a_lone_surrogate_is_escaped_in_every_encoding(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from tanuki_cli.terminal.console import Console\nfrom tanuki_cli.terminal.streams import Streams\n"
        "Console(Streams.of_process(), os.environ).write_json({'a': 'x\\udcff狸'})"
    )
    for encoding in ("utf-8", "ascii", "utf-16"):
        done = subprocess.run(
            [COMMAND[0], "-c", code],
            capture_output=True,
            env=environment(tmp_path, PYTHONIOENCODING=encoding),
            check=True,
        )
        assert json.loads(done.stdout.decode(encoding)) == {"a": "x\udcff狸"}


def test_json_reaches_stdout_in_one_way_only() -> None:
    for folder in ("cli", "terminal"):
        for path in (ROOT / "tanuki_cli" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Attribute) or node.attr not in {"dumps", "dump"}:
                    continue
                by_json = isinstance(node.value, ast.Name) and node.value.id == "json"
                # first_model writes a file.
                assert not by_json or path.name in {"console.py", "first_model.py"}, path
