"""``tanuki chat`` on a pseudo-terminal and from a script: the real program, the practice model."""

import re
from pathlib import Path

import pytest

from tanuki_cli.history import HistoryStore
from tests.conftest import until
from tests.support.chat_server import ChatServer, Hang, chat
from tests.support.program import COMMAND, Terminal, run

CHAT = ("chat", "-m", "mame", "--temperature", "0")
READY = "\n>"
ENTER = "\r"
CTRL_C, CTRL_D, CTRL_J, CTRL_R = "\x03", "\x04", "\x0a", "\x12"
ALT_ENTER = "\x1b\r"


def saved(home: Path) -> list[list[str]]:
    (path,) = home.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        return [[node.message.content for node in store.load(one.id).path_nodes()] for one in store.list()]


def open_chat(home: Path, *arguments: str, columns: int = 80, lines: int = 24) -> Terminal:
    terminal = Terminal(home, arguments or CHAT, columns=columns, lines=lines)
    terminal.wait_for(READY)
    return terminal


def ask(terminal: Terminal, text: str) -> None:
    """Send ``text`` and wait until the prompt is back."""
    prompts = terminal.text.count(READY)
    terminal.type(text + ENTER)
    until(lambda: terminal.pump(0.05) or terminal.text.count(READY) > prompts)
    terminal.wait_for(READY)
    until(lambda: not terminal.pump(0.1) and terminal.text.count(READY) > prompts)


def test_first_screen_suggests_questions(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        assert "practice model" in terminal.text
        assert "/help" in terminal.text
        terminal.wait_for("mame (practice) · 0/")


@pytest.mark.fast
def test_two_turns_and_leaving(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "あなたは誰?")
        assert "豆だぬき" in terminal.text
        ask(terminal, "ありがとう")
        terminal.type(CTRL_D)
        assert terminal.wait_for_exit() == 0
    (conversation,) = saved(tmp_path)
    assert conversation[0] == "あなたは誰?"
    assert conversation[2] == "ありがとう"
    assert len(conversation) == 4


def test_enter_sends_and_alt_enter_or_ctrl_j_break_the_line(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.type("一行目" + ALT_ENTER + "二行目" + CTRL_J + "三行目")
        terminal.wait_for("三行目")
        ask(terminal, "")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    assert saved(tmp_path)[0][0] == "一行目\n二行目\n三行目"


def test_enter_newline_swaps_them(tmp_path: Path) -> None:
    with open_chat(tmp_path, *CHAT, "--enter", "newline") as terminal:
        terminal.type("一行目" + ENTER + "二行目")
        terminal.wait_for("二行目")
        terminal.type(ALT_ENTER)
        until(lambda: not terminal.pump(0.3) and terminal.text.count(READY) > 1)
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    assert saved(tmp_path)[0][0] == "一行目\n二行目"


def test_paste_of_many_lines_never_sends(tmp_path: Path) -> None:
    text = "\n".join(f"{number}行目のとても長い文章です。" for number in range(40))
    with open_chat(tmp_path) as terminal:
        terminal.paste(text)
        terminal.wait_for("39行目")
        assert not list(tmp_path.rglob("history.sqlite3"))
        ask(terminal, "")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    assert saved(tmp_path)[0][0] == text


@pytest.mark.fast
def test_ctrl_c_in_the_middle_of_an_answer_keeps_it(tmp_path: Path) -> None:
    # A server that holds its answer back: the practice model may have ended before the key arrives.
    with (
        ChatServer([chat("むかしむかし、ある山に"), Hang()]) as server,
        open_chat(tmp_path, "chat", "-m", server.url) as terminal,
    ):
        prompts = terminal.prompts
        terminal.type("長い話をして" + ENTER)
        terminal.wait_for("ある山に")
        assert server.waiting.wait(60)
        assert terminal.prompts == prompts
        terminal.interrupt()
        terminal.wait_for_prompt(prompts)
        assert "Stopped. /continue goes on, /retry answers again." in terminal.text
        assert server.disconnected.wait(60)
        terminal.type(CTRL_D)
        assert terminal.wait_for_exit() == 0
    (path,) = tmp_path.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        question, answer = store.load(store.list()[0].id).path_nodes()
    assert question.message.content == "長い話をして"
    assert answer.message.content == "むかしむかし、ある山に"
    assert answer.generation is not None
    assert answer.generation.finish_reason == "interrupted"


def saved_or_nothing(home: Path) -> list[str]:
    paths = list(home.rglob("history.sqlite3"))
    if not paths:
        return []
    with HistoryStore(paths[0]) as store:
        conversations = store.list()
        if not conversations:
            return []
        return [node.message.content for node in store.load(conversations[0].id).path_nodes()][1:]


def test_ctrl_c_at_the_prompt_clears_then_leaves(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.type("書きかけ")
        terminal.wait_for("書きかけ")
        terminal.type(CTRL_C)
        until(
            lambda: (
                terminal.pump(0.05) and "書きかけ" not in terminal.screen.window[terminal.screen.raw.cursor.y]
            )
        )
        terminal.type(CTRL_C)
        terminal.wait_for("Ctrl-C again")
        terminal.type(CTRL_C)
        assert terminal.wait_for_exit() == 0


def test_two_ctrl_c_that_are_read_together_leave(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.type(CTRL_C * 2)
        assert terminal.wait_for_exit() == 0


def test_past_input_is_there_in_the_next_chat_and_private(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "こんにちは")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    (path,) = tmp_path.rglob("input_history")
    assert path.stat().st_mode & 0o077 == 0
    with open_chat(tmp_path) as terminal:
        terminal.type("\x1b[A")
        terminal.wait_for("> こんにちは")


def test_the_cursor_stands_where_an_input_method_composes(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.type("たぬき")
        terminal.wait_for("> たぬき")
        terminal.settle()
        cursor = terminal.screen.raw.cursor
        assert terminal.screen.window[cursor.y] == "> たぬき"
        assert cursor.x == 2 + 6
        assert not cursor.hidden


@pytest.mark.parametrize("word", ["/help", "／help", "／ｈｅｌｐ", "/HELP"])
def test_help_lists_every_command(tmp_path: Path, word: str) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, word)
        for name in ("/exit", "/new", "/model", "/system", "/set", "/stats", "Ctrl-X Ctrl-E"):
            assert name in terminal.text


def test_help_is_folded_on_a_wide_terminal(tmp_path: Path) -> None:
    with open_chat(tmp_path, columns=170, lines=60) as terminal:
        ask(terminal, "/help")
        rows = terminal.screen.display
    for name in ("/help", "/exit", "/model", "/lang", "Ctrl-J", "Ctrl-D", "Tab"):
        assert sum(f"  {name} " in row for row in rows) == 1, name
    assert any("  /help " in row and row.count("  /") == 2 for row in rows)


def test_unknown_command_suggests_the_nearest(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "/modle")
        assert "/model?" in terminal.text


def test_what_stands_after_a_command_that_takes_nothing_is_not_ignored(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "/retry もっと短く")
        assert "/retry takes nothing after it." in terminal.text
        ask(terminal, "／ｓａｖｅ 記録.md")
        assert "Hint: /export 記録.md" in terminal.text


def test_set_names_the_range_and_keeps_the_chat(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "/set temperature 9")
        assert "0 to 2" in terminal.text
        assert "cannot be 9:" in terminal.text
        assert "Hint: /set temperature 0.5" in terminal.text
        ask(terminal, "/set temperature none")
        assert "Hint: /set temperature -" in terminal.text
        ask(terminal, "/set temperature 0.7")
        ask(terminal, "/params")
        assert "0.7" in terminal.text


def test_retry_makes_a_sibling_and_branch_goes_back(tmp_path: Path) -> None:
    with open_chat(tmp_path, "chat", "-m", "mame", "--temperature", "2", "--max-new-tokens", "8") as terminal:
        ask(terminal, "話して")
        ask(terminal, "/retry")
        ask(terminal, "/branch")
        ask(terminal, "/branch 2")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    (path,) = tmp_path.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        conversation = store.load(store.list()[0].id)
    assert [node.message.role for node in conversation.nodes.values()] == ["user", "assistant", "assistant"]
    assert conversation.tip == list(conversation.nodes)[1]


def test_new_begins_another_conversation(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "こんにちは")
        ask(terminal, "/new")
        ask(terminal, "ありがとう")
        terminal.type("/exit" + ENTER)
        assert terminal.wait_for_exit() == 0
    assert sorted(conversation[0] for conversation in saved(tmp_path)) == ["ありがとう", "こんにちは"]


def test_system_text_is_noted_and_kept(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "/system あなたは海賊です。")
        assert "own system prompt" in terminal.text
        ask(terminal, "こんにちは")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    (path,) = tmp_path.rglob("history.sqlite3")
    with HistoryStore(path) as store:
        assert store.load(store.list()[0].id).system == "あなたは海賊です。"


def test_a_persona_is_shown_restored_and_removed(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "/persona 海賊として答えて。")
        ask(terminal, "こんにちは")
        ask(terminal, "/context")
        assert "you: 海賊として答えて。 こんにちは" in terminal.text
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    assert saved(tmp_path)[0][0] == "こんにちは"
    with open_chat(tmp_path, *CHAT, "--continue") as terminal:
        terminal.wait_for("mame (practice) · ")  # the resumed question looks like a prompt
        ask(terminal, "/params")
        assert re.search(r"persona +海賊として答えて。", terminal.text)
        ask(terminal, "/persona -")
        ask(terminal, "/context")
        assert "you: こんにちは" in terminal.text


def test_search_shows_when_and_marks_what_was_found(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "ガソリンは何から作るの?")
        ask(terminal, "/search ｶﾞｿﾘﾝ")
        assert re.search(r"[0-9a-f]{6}  \d\d-\d\d \d\d:\d\d  ガソリンは何から", terminal.text)
        assert re.search("\x1b\\[1;33mガソリン\x1b\\[0m".encode(), terminal.raw)


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "/model ./no/such.gguf")
        assert "such.gguf" in terminal.text
        ask(terminal, "あなたは誰?")
        assert "豆だぬき" in terminal.text


def test_tab_completes_commands_with_descriptions(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.type("/re")
        terminal.wait_for("answer the last question again")
        terminal.type("\t")
        terminal.wait_for("> /retry")


def test_editor(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'エディターから' > \"$1\"\n", encoding="utf-8")
    editor.chmod(0o755)
    with Terminal(tmp_path, CHAT, env={"EDITOR": str(editor)}) as terminal:
        terminal.wait_for(READY)
        terminal.type("\x18\x05")
        terminal.wait_for("エディターから")


def test_narrow_window(tmp_path: Path) -> None:
    with open_chat(tmp_path, *CHAT, columns=40, lines=15) as terminal:
        ask(terminal, "あなたは誰?")
        assert "豆だぬき" in terminal.text
        assert all(len(row) <= 40 for row in terminal.screen.display)


@pytest.mark.fast
def test_every_line_of_a_script_is_a_turn(tmp_path: Path) -> None:
    done = run(tmp_path, *CHAT, stdin="あなたは誰?\n\nありがとう\n/exit\nこれは送らない\n".encode())
    assert done.returncode == 0, done.stderr
    assert "豆だぬき" in done.stdout
    assert len(done.stdout.splitlines()) >= 2
    assert "\x1b" not in done.stdout + done.stderr
    (conversation,) = saved(tmp_path)
    assert [conversation[0], conversation[2]] == ["あなたは誰?", "ありがとう"]
    assert len(conversation) == 4


def test_a_script_stops_at_the_first_error(tmp_path: Path) -> None:
    done = run(tmp_path, *CHAT, stdin="あなたは誰?\n/modle\nこんにちは\n".encode())
    assert done.returncode == 2
    assert "/model" in done.stderr
    assert "Stopped at line 2" in done.stderr
    assert "豆だぬき" in done.stdout
    (conversation,) = saved(tmp_path)
    assert conversation[0] == "あなたは誰?"
    assert len(conversation) == 2


def test_continue_resumes_the_last_chat(tmp_path: Path) -> None:
    run(tmp_path, *CHAT, stdin="こんにちは\n".encode())
    run(tmp_path, "chat", "--continue", stdin="ありがとう\n".encode())
    (conversation,) = saved(tmp_path)
    assert [conversation[0], conversation[2]] == ["こんにちは", "ありがとう"]


def test_resize_while_typing(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.type("たぬき")
        terminal.wait_for("> たぬき")
        terminal.resize(40, 12)
        terminal.type("の話")
        terminal.wait_for("たぬきの話")
        ask(terminal, "")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    assert saved(tmp_path)[0][0] == "たぬきの話"


def test_unwritable_history_is_told_and_the_chat_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way", encoding="utf-8")
    with open_chat(tmp_path) as terminal:
        ask(terminal, "あなたは誰?")
        assert "not being saved" in terminal.text
        assert "豆だぬき" in terminal.text
        # Not in the middle of the answer, which the warning would tear apart.
        assert terminal.text.rindex("豆だぬき") < terminal.text.index(
            "\nThis conversation is not being saved"
        )
    assert (tmp_path / "data").is_file()


def test_the_tour_is_shown_once(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        assert "pasting never sends" in terminal.text
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    with open_chat(tmp_path) as terminal:
        assert "pasting never sends" not in terminal.text


def test_answers_go_into_a_pipe_and_the_prompt_to_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    shell = ["sh", "-c", f'exec "$@" | cat > {log}', "sh", *COMMAND]
    with Terminal(tmp_path, CHAT, command=shell) as terminal:
        terminal.wait_for(READY)
        ask(terminal, "あなたは誰?")
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
        assert "豆だぬき" not in terminal.text.split("> あなたは誰?")[1]
    written = log.read_text(encoding="utf-8")
    assert "豆だぬき" in written
    assert "\x1b" not in written


def test_ctrl_r_takes_what_was_found(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "たぬきはどんな動物?")
        ask(terminal, "ありがとう")
        terminal.type(CTRL_R)
        terminal.settle()
        terminal.type("どんな")
        terminal.wait_for("どんな動物?\n")
        terminal.settle()
        terminal.type(ENTER)
        terminal.settle(0.3)
        terminal.type(ENTER)
        until(lambda: not terminal.pump(0.3) and len(saved_or_nothing(tmp_path)) == 5)
        terminal.type(CTRL_D)
        terminal.wait_for_exit()
    assert saved(tmp_path)[0][4] == "たぬきはどんな動物?"


@pytest.mark.parametrize("typed", ["a\x7f", ENTER])
def test_typing_on_disarms_leaving(tmp_path: Path, typed: str) -> None:
    with open_chat(tmp_path) as terminal:
        terminal.type(CTRL_C)
        terminal.wait_for("Ctrl-C again")
        terminal.type(typed)
        terminal.settle(0.3)
        terminal.type(CTRL_C)
        terminal.settle(0.3)
        assert terminal.process.poll() is None


def test_what_is_typed_during_an_answer_waits_for_the_prompt(tmp_path: Path) -> None:
    with (
        ChatServer([chat("むかしむかし、"), Hang()]) as server,
        open_chat(tmp_path, "chat", "-m", server.url) as terminal,
    ):
        terminal.type("長い話をして" + ENTER)
        terminal.wait_for("むかしむかし、")
        terminal.type("先に打つ")
        terminal.interrupt()
        terminal.wait_for("> 先に打つ")


def test_what_is_typed_before_the_first_prompt_waits_for_it(tmp_path: Path) -> None:
    with Terminal(tmp_path, CHAT) as terminal:
        terminal.type("先に打つ")
        terminal.wait_for("> 先に打つ")
        terminal.type("、後からも打つ")
        terminal.wait_for("> 先に打つ、後からも打つ")
        # Not also among the first lines, where the terminal would echo it.
        assert terminal.text.count("先に打つ") == 1


def test_lines_that_are_finished_before_the_first_prompt_are_sent_in_order(tmp_path: Path) -> None:
    with Terminal(tmp_path, CHAT, env={"TANUKI_LANG": "en"}) as terminal:
        # The first before the program has looked at the terminal, the last before its prompt.
        terminal.type("あなたは誰?\r/stats on\r/title 先に\rありがとう\r書きかけ")
        terminal.wait_for("> 書きかけ")
        assert "Statistics are on." in terminal.text
        terminal.wait_for("先に")
        terminal.type("\x15" + CTRL_D)
        assert terminal.wait_for_exit() == 0
    (conversation,) = saved(tmp_path)
    assert [conversation[0], conversation[2]] == ["あなたは誰?", "ありがとう"]


@pytest.mark.parametrize("before_report", ["先に打つ", "先に\x1b[D打つ"])
def test_what_is_typed_while_the_terminal_is_measured_waits_for_the_prompt(
    tmp_path: Path, before_report: str
) -> None:
    with Terminal(tmp_path, CHAT, before_report=before_report) as terminal:
        terminal.wait_for("> 先に打つ" if before_report == "先に打つ" else "> 先打つに")
        terminal.wait_for("mame (practice) · ")


def test_a_resumed_chat_shows_where_it_stands(tmp_path: Path) -> None:
    run(tmp_path, *CHAT, stdin="あなたは誰?\n".encode())
    with open_chat(tmp_path, "chat", "--continue") as terminal:
        terminal.wait_for("mame (practice)")
        assert "2 messages" in terminal.text
        assert "> あなたは誰?" in terminal.text
        assert "豆だぬき" in terminal.text
        assert "Try for example" not in terminal.text
        assert "· 0/" not in terminal.text


def test_a_message_that_is_too_long_is_back_in_the_input_with_the_reason_in_sight(tmp_path: Path) -> None:
    options = ("--context-length", "256", "--max-new-tokens", "60")
    with open_chat(tmp_path, *CHAT, *options) as terminal:
        terminal.paste("\n".join(f"{number}行目のとても長い文章です。" for number in range(40)))
        terminal.wait_for("39行目")
        terminal.type(ENTER)
        terminal.wait_for("too long")
        terminal.settle(0.5)
        assert "too long" in terminal.screen.window[-1]
        assert "39行目" in "\n".join(terminal.screen.window)


def test_export_names_its_formats(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "こんにちは")
        ask(terminal, "/export chat.docx")
        assert ".jsonl" in terminal.text
        ask(terminal, f"/export {tmp_path}/chat.md")
        assert "こんにちは" in (tmp_path / "chat.md").read_text(encoding="utf-8")


def test_stats_takes_on_and_off_only(tmp_path: Path) -> None:
    with open_chat(tmp_path) as terminal:
        ask(terminal, "/stats maybe")
        assert "/stats takes on or off." in terminal.text
        ask(terminal, "/stats off")
        assert "Statistics are off." in terminal.text


def test_resume_tells_conversations_of_the_same_name_apart(tmp_path: Path) -> None:
    run(tmp_path, *CHAT, stdin="こんにちは\n/new\nこんにちは\n".encode())
    with open_chat(tmp_path) as terminal:
        ask(terminal, "/resume")
        row = r"^   \d  [0-9a-f]{6}  \d\d-\d\d \d\d:\d\d  こんにちは$"
        rows = re.findall(row, terminal.text, re.MULTILINE)
        assert len(rows) == 2


def test_vi_mode_shows_its_mode_by_the_shape_of_the_cursor(tmp_path: Path) -> None:
    beam, block = b"\x1b[6 q", b"\x1b[2 q"
    with open_chat(tmp_path, *CHAT, "--editing-mode", "vi") as terminal:
        assert beam in terminal.raw
        terminal.type("たぬき\x1b")
        until(lambda: not terminal.pump(0.1) and terminal.raw.rfind(block) > terminal.raw.rfind(beam))
        terminal.type("0xA!" + ENTER)
        until(lambda: not terminal.pump(0.1) and terminal.text.count(READY) == 2)
    assert saved(tmp_path)[0][0] == "ぬき!"


@pytest.mark.parametrize("columns", [60, 30])
def test_help_wraps_inside_its_column(tmp_path: Path, columns: int) -> None:
    with open_chat(tmp_path, *CHAT, columns=columns) as terminal:
        ask(terminal, "/help")
        rows = terminal.text[terminal.text.index("/help [COMMAND]") :].split("\n")
        last = next(number for number, row in enumerate(rows) if not row)
    assert all(row.startswith("  ") for row in rows[1:last])
    text = " ".join(" ".join(rows[:last]).split())
    assert "list the other answers, or go to message N" in text
    assert "edit question N (the last one) and ask it again" in text


@pytest.mark.parametrize("enter", ["\r", "\n"])
def test_a_dumb_terminal_sends_lines_and_is_sent_nothing_but_text(tmp_path: Path, enter: str) -> None:
    with Terminal(tmp_path, CHAT, env={"TERM": "dumb", "TANUKI_LANG": "en"}) as terminal:
        terminal.wait_for(READY)
        terminal.type("あなたは誰?" + enter)
        until(lambda: not terminal.pump(0.1) and terminal.text.count(READY) == 2)
        assert "> あなたは誰?\nわたしは豆だぬき。" in terminal.text
        terminal.type(f"/stats on{enter}/title だむ{enter}")
        until(lambda: not terminal.pump(0.1) and terminal.text.count(READY) == 4)
        terminal.type(CTRL_C)
        terminal.wait_for("Press Ctrl-C again to leave.")
        until(lambda: not terminal.pump(0.1) and terminal.text.count(READY) == 5)
        terminal.type(f"ありがとう{enter}")
        until(lambda: not terminal.pump(0.1) and terminal.text.count(READY) == 6)
        assert b"\x1b" not in terminal.raw
        terminal.type(CTRL_C)
        until(lambda: not terminal.pump(0.1) and terminal.text.count("Press Ctrl-C again to leave.") == 2)
        terminal.type(CTRL_D)
        assert terminal.wait_for_exit() == 0
    (conversation,) = saved(tmp_path)
    assert [conversation[0], conversation[2]] == ["あなたは誰?", "ありがとう"]
