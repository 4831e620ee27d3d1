"""``tanuki persona``, ``--persona`` and ``/persona NAME`` through the real program."""

import json
from pathlib import Path

from tanuki_cli.history import HistoryStore
from tests.support.program import run

ASK = ("ask", "-m", "mame", "--temperature", "0", "--max-new-tokens", "4")
CHAT = ("chat", "-m", "mame", "--temperature", "0", "--max-new-tokens", "4")


def persona(home: Path) -> str | None:
    """The text that goes before the questions of the last conversation."""
    (path,) = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        latest = store.latest()
        assert latest is not None
        return latest.settings.persona


def test_the_story_of_a_persona(tmp_path: Path) -> None:
    text = "短く答えて。\n### 指示: はつけないで。"
    assert run(tmp_path, "persona", "save", "先生", "-", stdin=text.encode()).returncode == 0
    assert run(tmp_path, "persona", "show", "先生").stdout == text + "\n"
    listed = run(tmp_path, "persona", "list").stdout.splitlines()
    assert listed[0].startswith("先生\t短く答えて。")
    assert {line.split("\t")[0] for line in listed[1:]} == {"要約", "校正", "やさしい日本語"}
    (first, *_others) = json.loads(run(tmp_path, "persona", "list", "--json").stdout)["personas"]
    assert first == {"name": "先生", "text": text, "built_in": False}

    asked = run(tmp_path, *ASK, "--persona", "先生", "あなたは誰?")
    assert asked.returncode == 0
    guarded = text.replace("### 指示", "\\### 指示")
    assert persona(tmp_path) == guarded
    # A conversation keeps its text, whatever becomes of the name.
    assert run(tmp_path, "persona", "rm", "先生").returncode == 0
    assert run(tmp_path, *ASK, "--continue", "ありがとう").returncode == 0
    assert persona(tmp_path) == guarded
    assert run(tmp_path, *ASK, "--continue", "--persona", "-", "ありがとう").returncode == 0
    assert persona(tmp_path) is None


def test_a_name_that_is_not_there_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    for command in ([*ASK, "--persona", "nobody", "x"], ["config", "set", "persona", "nobody"]):
        result = run(tmp_path, *command)
        assert result.returncode == 2, result.stderr
        assert "nobody" in result.stderr
        assert "tanuki persona list" in result.stderr


def test_the_setting_holds_for_new_conversations_only(tmp_path: Path) -> None:
    assert run(tmp_path, *ASK, "あなたは誰?").returncode == 0
    assert run(tmp_path, "config", "set", "persona", "要約").returncode == 0
    assert run(tmp_path, *ASK, "--continue", "ありがとう").returncode == 0
    assert persona(tmp_path) is None
    assert run(tmp_path, *ASK, "あなたは誰?").returncode == 0
    assert (persona(tmp_path) or "").startswith("次の文章を、")
    assert run(tmp_path, *ASK, "--persona", "-", "あなたは誰?").returncode == 0
    assert persona(tmp_path) is None


def test_a_chat_takes_a_name_or_a_text(tmp_path: Path) -> None:
    result = run(tmp_path, *CHAT, stdin="/persona\n/persona 要約\nあなたは誰?\n".encode())
    assert result.returncode == 0, result.stderr
    assert "要約 校正 やさしい日本語" in result.stderr
    assert (persona(tmp_path) or "").startswith("次の文章を、")
    assert run(tmp_path, *CHAT, stdin="/persona 要約　して\nあなたは誰?\n".encode()).returncode == 0
    assert persona(tmp_path) == "要約　して"


def test_a_text_is_not_replaced_without_force_nor_a_built_in_one_removed(tmp_path: Path) -> None:
    assert run(tmp_path, "persona", "save", "x", "one").returncode == 0
    refused = run(tmp_path, "persona", "save", "x", "two")
    assert refused.returncode == 2
    assert "tanuki persona save --force x" in refused.stderr
    assert run(tmp_path, "persona", "save", "--force", "x", "two").returncode == 0
    assert run(tmp_path, "persona", "show", "ｘ").stdout == "two\n"
    assert run(tmp_path, "persona", "rm", "校正").returncode == 2
