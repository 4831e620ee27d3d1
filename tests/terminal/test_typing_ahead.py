"""Answers that were typed before their question, while typing was held key for key."""

import os
import pty
import select
import threading

from tanuki_cli.terminal.console import Console, Streams
from tanuki_cli.terminal.typing_ahead import hold_typing


def test_lines_typed_before_a_question_answer_it() -> None:
    ours, theirs = pty.openpty()
    stdin, stderr = os.fdopen(theirs, encoding="utf-8"), os.fdopen(os.dup(theirs), "w", encoding="utf-8")
    console = Console(Streams(stdin=stdin, stdout=stderr, stderr=stderr), {})
    shown = b""

    def finish_the_third() -> None:
        nonlocal shown
        while b"third? x" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, b"y\r")

    try:
        with hold_typing(stdin):
            os.write(ours, b"4\r\xe3\x81\x82\rx")
            assert select.select([theirs], [], [], 30)[0]
            player = threading.Thread(target=finish_the_third)
            player.start()
            answers = [console.read_answer(f"{number}? ") for number in ("first", "second", "third")]
            player.join()
    finally:
        stdin.close()
        stderr.close()
        os.close(ours)
    assert answers == ["4\n", "あ\n", "xy\n"]
    assert b"first? 4" in shown
