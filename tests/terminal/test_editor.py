"""Whatever $EDITOR is and does, a chat goes on with its text, and one sentence says what was wrong."""

import os
from pathlib import Path

import pytest

from tanuki_cli.errors import InputError
from tanuki_cli.terminal.editor import edit_text
from tests.support.program import Terminal, run

TEXT = "狸は山に住む"
SAVED = "狐は野に住む、と書いた。"


def script(folder: Path, body: str, *, name: str = "editor") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def saving(folder: Path, content: bytes) -> str:
    """An editor that saves ``content``, whatever it was given."""
    (folder / "content").write_bytes(content)
    return script(folder, f"cp '{folder}/content' \"$1\"")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "euc_jp", "utf-16", "iso2022_jp"])
def test_what_is_saved_may_be_in_any_encoding(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", saving(tmp_path, f"{SAVED}\r\n二行目\r\n".encode(encoding)))
    assert edit_text(TEXT) == f"{SAVED}\n二行目"


@pytest.mark.parametrize("blank", ["", "   ", "\t"])
def test_blank_is_not_set(blank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", blank)
    monkeypatch.setenv("EDITOR", saving(tmp_path, SAVED.encode()))
    assert edit_text(TEXT) == SAVED
    monkeypatch.setenv("EDITOR", blank)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "editor").rename(tmp_path / "vi")
    assert edit_text(TEXT + "\ud83d") == SAVED


def broken(folder: Path) -> dict[str, tuple[str, str]]:
    """Editors that do not work, and what is said of each."""
    (folder / "no_program").write_bytes(b"\x00\x01")
    (folder / "no_program").chmod(0o755)
    return {
        "quotes": ("vim -c 'set tw=72", "quotes that do not match"),
        "missing": ("no-such-editor", "was not found"),
        "a folder": (str(folder), "was not found"),
        "no program": (str(folder / "no_program"), "cannot be started"),
        "binary": (saving(folder, b"\x89PNG\x00\x00\x01\x02"), "not text that can be read"),
        "removes it": (script(folder, 'rm "$1"', name="remover"), "no such file"),
    }


@pytest.mark.parametrize("kind", ["quotes", "missing", "a folder", "no program", "binary", "removes it"])
def test_the_chat_stays_with_its_text(kind: str, tmp_path: Path) -> None:
    """Ctrl-X Ctrl-E in the prompt, /edit of a question that was asked, and tanuki config edit."""
    folder = tmp_path / "editors"
    folder.mkdir()
    command, said = broken(folder)[kind]
    env = {"EDITOR": command, "TANUKI_LANG": "en", "TMPDIR": str(folder)}
    arguments = ["chat", "-m", "mame", "--temperature", "0", "--max-new-tokens", "8"]
    with Terminal(tmp_path, arguments, env=env, columns=150) as terminal:
        terminal.wait_for_prompt(0)
        terminal.type(f"{TEXT}\x18\x05")
        terminal.wait_for(said)
        terminal.wait_for(f"> {TEXT}")
        terminal.send("。")
        terminal.send("/edit")
        assert said in terminal.text  # the status line has forgotten the first one
        terminal.type("/exit\r")
        assert terminal.wait_for_exit() == 0
        assert f"> {TEXT}。" in terminal.text
        assert "Traceback" not in terminal.text
    kept = [path for path in folder.glob("tanuki-*") if path.read_bytes().startswith(b"\x89PNG")]
    assert bool(kept) == (kind == "binary") == any(folder.glob("tanuki-*"))
    done = run(tmp_path, "config", "edit", env=env)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ") or kind == "removes it"


def test_a_text_that_cannot_be_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(InputError, match="no such file"):
        edit_text(TEXT)
