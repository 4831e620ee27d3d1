"""The command line around the commands: version, help in two languages, its errors, first use."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tanuki_cli import __version__
from tanuki_cli.cli import commands
from tests.support.program import COMMAND, Terminal, environment, run

COMMANDS = tuple(row.name for row in commands.COMMANDS)
JAPANESE = re.compile("[ぁ-んァ-ン一-龠]")


def test_version(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tanuki {__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_help_groups_the_commands(tmp_path: Path) -> None:
    headings = {
        "talk": "会話",
        "many": "まとめて質問・ほかのプログラムから",
        "know": "比較と測定",
        "models": "モデル",
        "house": "設定とヘルプ",
    }
    page = run(tmp_path, "--help", "--lang", "ja").stdout
    starts = [page.index(f"\n{heading}:\n") for heading in headings.values()]
    ends = [*starts[1:], page.index("\n例:\n")]
    assert [*starts, ends[-1]] == sorted([*starts, ends[-1]])
    for group, start, end in zip(headings, starts, ends, strict=True):
        section = page[start:end]
        listed = re.findall(r"^  (\w+) ", section, re.MULTILINE)
        assert listed == [row.name for row in commands.COMMANDS if row.group == group]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_begins_with_what_it_does_and_examples(tmp_path: Path, command: str) -> None:
    english = run(tmp_path, command, "--help")
    japanese = run(tmp_path, command, "--help", env={"LANG": "ja_JP.UTF-8"})
    assert english.returncode == japanese.returncode == 0, english.stderr
    assert f"  tanuki {command}" in english.stdout.split("Usage:")[0]
    assert not JAPANESE.search(re.sub(r"^  .*$", "", english.stdout, flags=re.MULTILINE))
    # Every description is translated: outside names and examples nothing is left in English.
    descriptions = re.findall(r"^  -.*?  (\S.*)$", japanese.stdout, re.MULTILINE)
    assert descriptions
    assert all(JAPANESE.search(text) for text in descriptions), descriptions


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_help_fits_the_window(tmp_path: Path, columns: str) -> None:
    from wcwidth import wcswidth

    done = run(tmp_path, "models", "--help", "--lang", "ja", env={"COLUMNS": columns})
    examples_apart = [
        line for line in done.stdout.splitlines() if "tanuki " not in line and "  -" not in line
    ]
    assert all(wcswidth(line) <= int(columns) for line in examples_apart)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cat"], "tanuki chat"),
        (["hstory"], "tanuki history"),
        (["xyzzy"], "tanuki --help"),
        (["chat", "--modle", "mame"], "--model"),
        (["models", "extra"], "extra"),
        (["rm"], "MODEL"),
        (["ask", "--top-k", "-3", "x"], "--top-k cannot be '-3': allowed is 0 to 100000."),
        (["ask", "--top-k", "many", "x"], "Hint: --top-k 40"),
        (["ask", "--threads", "4", "x"], "Hint: tanuki config set threads 4"),
        (["ask", "--kv-type", "foo", "x"], "--kv-type cannot be 'foo': allowed is f16, q8_0."),
        (["ask", "--lang", "fr", "x"], "--lang cannot be 'fr': allowed is ja, en."),
        (["--lang", "fr", "ask", "x"], "--lang cannot be 'fr': allowed is ja, en."),
    ],
)
def test_misspelled_command_lines_say_what_was_meant(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")


def test_every_language_choice(tmp_path: Path) -> None:
    for env, expected in [
        ({"LANG": "ja_JP.UTF-8"}, "使い方"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "Usage"),
        ({"LANG": "C", "LC_MESSAGES": "ja_JP.UTF-8"}, "使い方"),
        ({"LANG": "ja_JP.UTF-8", "TANUKI_LANG": "en"}, "Usage"),
        ({"LANG": "fr_FR.UTF-8"}, "Usage"),
    ]:
        assert expected in run(tmp_path, "--help", env=env).stdout
    assert "Usage" in run(tmp_path, "--lang", "en", "--help", env={"LANG": "ja_JP.UTF-8"}).stdout
    for command in COMMANDS:
        assert "使い方" in run(tmp_path, command, "--help", "--lang=ja").stdout
    assert run(tmp_path, "history", "--lang", "ja", "list").stderr == "会話はまだありません。\n"
    assert "allowed is ja, en." in run(tmp_path, "history", "--lang", "fr").stderr


def test_broken_config_is_named_with_line_and_column(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "config.toml").write_text("temperature = 0.5\ntop_p = = 1\n", encoding="utf-8")
    done = run(tmp_path, "ask", "-m", "mame", "x")
    assert done.returncode == 3
    assert "config.toml" in done.stderr
    assert "line 2" in done.stderr


def test_a_home_that_is_no_folder_is_named(tmp_path: Path) -> None:
    block = tmp_path / "block"
    block.touch()
    for home in (block, block / "below"):
        done = run(home, "ask", "-m", "mame", "x")
        assert done.returncode == 3
        sentence, hint = done.stderr.splitlines()
        assert "[Errno" not in sentence
        assert f"{block} is not a folder" in hint
        assert "export TANUKI_HOME=" in hint
    checks = json.loads(run(block, "doctor", "--offline", "--json").stdout)["checks"]
    statuses = {check["name"]: check["status"] for check in checks}
    assert (statuses["settings"], statuses["history"]) == ("fail", "fail")


@pytest.mark.parametrize("arguments", [("config", "list"), ("--help",)])
def test_output_that_cannot_be_written_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tanuki_cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tmp_path),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The standard output cannot be written: the disk is full\n")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_resume_names_one_conversation(tmp_path: Path, command: str) -> None:
    empty = run(tmp_path, command, "-m", "mame", "--resume", "", stdin=b"x\n")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert empty.stderr.endswith("tanuki history list\n")
    both = run(tmp_path, command, "-m", "mame", "--resume", "ab", "--continue", stdin=b"x\n")
    assert both.returncode == 2
    assert both.stderr.endswith(f"tanuki {command} --continue\n")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_reasons_of_the_system_are_in_the_language_of_the_messages(tmp_path: Path, language: str) -> None:
    env = {"TANUKI_LANG": language, "HF_ENDPOINT": "http://127.0.0.1:9"}
    for arguments in (
        ["ask", "-f", "missing.txt", "x"],
        ["pull", "tanuki-8b:q4_k_m"],
        ["history", "import", "."],
    ):
        done = run(tmp_path, *arguments, env=env)
        sentence = done.stderr.splitlines()[0].rpartition(": ")[2]
        assert bool(JAPANESE.search(sentence)) == (language == "ja"), done.stderr
        assert "Errno" not in done.stderr


def test_precedence_of_settings(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "config.toml").write_text("max_new_tokens = 0\n", encoding="utf-8")
    assert run(tmp_path, "ask", "-m", "mame", "x").returncode == 3
    (config / "config.toml").write_text("max_new_tokens = 9999999\n", encoding="utf-8")
    assert "max_new_tokens" in run(tmp_path, "ask", "-m", "mame", "x").stderr
    (config / "config.toml").write_text("model = 'mame'\n", encoding="utf-8")
    assert run(tmp_path, "ask", "こんにちは").returncode == 0
    assert run(tmp_path, "ask", "こんにちは", env={"TANUKI_MODEL": "no-such"}).returncode == 4
    assert run(tmp_path, "ask", "-m", "mame", "こんにちは", env={"TANUKI_MODEL": "no-such"}).returncode == 0


def test_first_use_asks_before_it_downloads(tmp_path: Path) -> None:
    with Terminal(tmp_path, ["chat"], env={"HF_ENDPOINT": "http://127.0.0.1:9"}) as terminal:
        terminal.wait_for("[1]")
        assert "tanuki-8b:" in terminal.text
        assert "GB" in terminal.text
        terminal.type("4\r")  # none of them, which is no error
        assert terminal.wait_for_exit() == 0
        assert "Nothing was downloaded." in terminal.text


def test_first_use_offers_the_practice_model_at_once(tmp_path: Path) -> None:
    with Terminal(tmp_path, ["chat"], env={"HF_ENDPOINT": "http://127.0.0.1:9"}) as terminal:
        terminal.wait_for("[1]")
        terminal.type("3\r")
        terminal.wait_for("mame (practice)")


def test_no_network_at_the_first_download_is_one_sentence(tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "TANUKI_LANG": "ja"}
    done = run(tmp_path, "ask", "-m", "tanuki-8b:iq1_s", "--yes", "こんにちは", env=env)
    assert done.returncode == 5
    assert "エラー: " in done.stderr
    assert "Traceback" not in done.stderr


def test_colours(tmp_path: Path) -> None:
    assert "\x1b[" in run(tmp_path, "ask", env={"FORCE_COLOR": "1"}).stderr
    assert "\x1b[" not in run(tmp_path, "ask", env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stderr
    assert "\x1b[" not in run(tmp_path, "ask", "--no-color", env={"CLICOLOR_FORCE": "1"}).stderr
    with Terminal(tmp_path, ["ask"], env={"TERM": "dumb"}) as terminal:
        assert terminal.wait_for_exit() == 2
        assert b"\x1b" not in terminal.raw


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in run(tmp_path, "ask", "-m", "no-such-model", "--debug", "x").stderr


def test_debug_shows_the_engines_own_log(tmp_path: Path) -> None:
    for options, shown in (((), False), (("--debug",), True)):
        done = run(tmp_path, "ask", "-m", "mame", "--max-new-tokens", "2", *options, "x")
        assert done.returncode == 0
        assert ("llama_model_loader: " in done.stderr) == shown
        assert len(done.stdout.splitlines()) == 1


def test_completion_script(tmp_path: Path) -> None:
    done = run(
        tmp_path, env={"_TANUKI_COMPLETE": "complete_bash", "COMP_WORDS": "tanuki mo", "COMP_CWORD": "1"}
    )
    assert done.stdout.split() == ["models"]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("tanuki ", '"ask":"質問を一つして、答えを表示します。"'),
        ("tanuki --vers", '"--version":"バージョンを表示して終了します。"'),
        ("tanuki history ", '"rm":"会話をメッセージごと削除します。"'),
        ("tanuki chat --max", '"--max-new-tokens":"答えの最大トークン数。"'),
    ],
)
def test_completion_describes_in_the_users_language(tmp_path: Path, typed: str, shown: str) -> None:
    env = {"_TANUKI_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed, "LANG": "ja_JP.UTF-8"}
    assert shown in run(tmp_path, env=env).stdout


@pytest.mark.parametrize("typed", ["chat -m ", "ask --model ", "pull "])
def test_names_of_models_are_completed(tmp_path: Path, typed: str) -> None:
    env = {"_TANUKI_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = run(tmp_path, env={**env, "_TYPER_COMPLETE_ARGS": f"tanuki {typed}tanuki-8"})
    names = done.stdout.split()
    assert {"tanuki-8b", "tanuki-8b:q4_k_m", "tanuki-8x8b:gptq-4bit"} <= set(names)
    assert "tanuki-8x8b:q4_k_m" not in names  # refused
    assert all(name.startswith("tanuki-8") for name in names)
    done = run(tmp_path, env={**env, "_TYPER_COMPLETE_ARGS": "tanuki rm tanuki-8"})
    assert not done.stdout.strip()  # nothing is installed here


def in_shell(home: Path, shell: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``tanuki arguments`` as a child of ``shell``, which stays."""
    command = shlex.join([*COMMAND, *arguments])
    return subprocess.run(
        [shell, "-c", f"{command}; code=$?; exit $code"],
        env=environment(home, HOME=str(home)),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("ja", ("bash の補完を組み込みました: ", "これから開くターミナルで使えます。", "元に戻すには: ")),
        (
            "en",
            (
                "Completion for bash is installed: ",
                "It works in every terminal that you open from now on.",
                "To undo: ",
            ),
        ),
    ],
)
def test_completion_is_installed_in_the_users_language(
    tmp_path: Path, lang: str, words: tuple[str, str, str]
) -> None:
    done = in_shell(tmp_path, "bash", "--lang", lang, "--install-completion")
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".bash_completions" / "tanuki.sh"
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"{words[0]}{script}", words[1]]
    assert lines[2].startswith(f"{words[2]}rm {script}")
    shown = in_shell(tmp_path, "bash", "--lang", lang, "--show-completion")
    assert shown.stdout.strip() == script.read_text(encoding="utf-8").strip()
    assert "_TANUKI_COMPLETE=complete_bash" in shown.stdout


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_a_shell_without_completion_is_told_in_japanese(tmp_path: Path, option: str) -> None:
    done = in_shell(tmp_path, "sh", "--lang", "ja", option)
    assert done.returncode == 2
    assert "このシェル（sh）用の補完はありません。" in done.stderr
    assert done.stdout == ""


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / ".bash_completions").write_text("in the way", encoding="utf-8")
    done = in_shell(tmp_path, "bash", "--lang", "en", "--install-completion")
    assert done.returncode == 2
    assert "The completion of bash could not be installed" in done.stderr
    assert "tanuki --show-completion" in done.stderr


def test_python_m_is_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tanuki_cli", "--version"],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        check=True,
    )
    assert done.stdout == f"tanuki {__version__}\n"


def test_a_folder_that_is_named_like_a_model_gets_its_path_in_the_hint(tmp_path: Path) -> None:
    (tmp_path / "my model").mkdir()
    done = subprocess.run(
        [*COMMAND, "ask", "-m", "my model", "hi"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr == "Error: There is no model named my model.\n  Hint: -m './my model'\n"
