"""Reading the texts of a comparison: files, folders, chats; what cannot be used is named."""

import json
from pathlib import Path

import pytest

from tanuki_cli.conversation import Message
from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.compare.texts import BUILT_IN, Chat, Document, built_in_texts, read_texts
from tanuki_cli.jsonl import LeftOut


def test_a_file_is_a_document_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "古典.txt").write_bytes("春はあけぼの。\n".encode("cp932"))
    assert read_texts(tmp_path / "古典.txt") == [Document("古典", "古典.txt", "春はあけぼの。")]


def test_a_folder_is_its_files_by_their_folders(tmp_path: Path) -> None:
    for name in ("a.txt", "詩/b.txt", "詩/深い/c.md", ".hidden/d.txt", ".e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    found = {(text.category, text.text) for text in read_texts(tmp_path) if isinstance(text, Document)}
    assert found == {(tmp_path.name, "a.txt"), ("詩", "詩/b.txt"), ("詩", "詩/深い/c.md")}


def test_lines_are_chats_or_documents_and_others_are_named(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "問い"}, {"role": "assistant", "content": "答え"}]
    lines = [
        json.dumps({"messages": chat}),
        json.dumps({"text": "本文"}),
        "{",
        json.dumps({"messages": chat[:1]}),
        json.dumps({"messages": chat[::-1]}),
        json.dumps({"messages": [{"role": "tool", "content": "x"}]}),
        json.dumps({"messages": [1]}),
        json.dumps({"messages": []}),
        json.dumps({"prompt": "x"}),
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    first, second, *rest = read_texts(path)
    assert first == Chat("chats", "chats.jsonl:1", (Message("user", "問い"), Message("assistant", "答え")))
    assert second == Document("chats", "chats.jsonl:2", "本文")
    assert [one.line for one in rest if isinstance(one, LeftOut)] == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_nothing_to_score_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "empty.txt").write_text(content, encoding="utf-8")
    for path in (tmp_path / "empty.txt", tmp_path):
        with pytest.raises(InputError, match="no text"):
            read_texts(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_texts(tmp_path / "missing.txt")


def test_the_built_in_texts_are_whole() -> None:
    texts = built_in_texts()
    assert not any(isinstance(text, LeftOut) for text in read_texts(BUILT_IN))
    assert {text.category for text in texts} == {"prose", "dialogue", "code", "english"}
    assert all(isinstance(text, Chat) == (text.category == "dialogue") for text in texts)
