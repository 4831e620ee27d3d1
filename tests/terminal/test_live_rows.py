"""Rows that are drawn over while work goes on, in a terminal that is made narrower meanwhile: a real tmux,
which parts a row that no longer fits. Collected only where tmux is installed."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tanuki_cli.text.width import cell_width
from tests.conftest import until
from tests.support.program import environment

BEGIN = """
import itertools, os, sys, time
from pathlib import Path
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.streams import Streams
console = Console(Streams.of_process(), os.environ)
for number in range(40):
    console.note(f"before {number}")
done = Path(sys.argv[1])
"""
END = """
console.note("after")
time.sleep(600)
"""
DOWNLOAD = """
from tanuki_cli.hub import Progress
from tanuki_cli.terminal.download import DownloadProgress
with DownloadProgress(console) as progress:
    for count in itertools.count(1):
        if done.exists():
            break
        done_bytes = count * 10**6
        progress.update(Progress(phase="downloading", file="a", files_done=0, files_total=2,
                                 bytes_total=10**12, bytes_done=done_bytes, bytes_received=done_bytes))
        time.sleep(0.02)
"""
STEPS = """
from tanuki_cli.terminal.step_progress import StepProgress
with StepProgress(console) as progress:
    for count in itertools.count(1):
        if done.exists():
            break
        progress.update(count, 10**9, "狸の話を読んでいます。" * 6)
        time.sleep(0.02)
"""
SCREEN = """
from tanuki_cli.terminal.step_screen import StepScreen
screen = StepScreen(console)
for count in itertools.count(1):
    if done.exists():
        break
    screen.go_on(f"{count} 狸の話を読んでいます。" + "狸" * 60)
    time.sleep(0.02)
screen.end()
"""


@pytest.mark.parametrize(("drawing", "rows_at_the_end"), [(DOWNLOAD, 0), (STEPS, 0), (SCREEN, 1)])
def test_nothing_is_left_of_a_row_that_a_narrower_window_parted(
    tmp_path: Path, drawing: str, rows_at_the_end: int
) -> None:
    script, done = tmp_path / "script.py", tmp_path / "done"
    script.write_text(BEGIN + drawing + END, encoding="utf-8")
    env = environment(tmp_path, TERM="tmux-256color")

    def tmux(*arguments: str) -> str:
        command = ["tmux", "-S", str(tmp_path / "tmux"), *arguments]
        return subprocess.run(command, env=env, capture_output=True, check=True, timeout=30).stdout.decode()

    def rows() -> list[str]:
        return [row for row in tmux("capture-pane", "-p", "-S", "-").splitlines() if row.strip()]

    def is_drawn(columns: int) -> bool:
        """In the new width: the rows that are too long are cut just before its end."""
        *above, row = rows() or [""]
        return columns - 3 <= cell_width(row) <= columns and above[:40] == before

    command = shlex.join([sys.executable, str(script), str(done)])
    tmux("-f", "/dev/null", "-u", "new-session", "-d", "-x", "80", "-y", "24", command)
    before = [f"before {number}" for number in range(40)]
    try:
        until(lambda: is_drawn(80))
        count = len(rows())
        for columns in (79, 60, 41, 30, 100):
            tmux("resize-window", "-x", str(columns))
            until(lambda width=columns: is_drawn(width))  # type: ignore[misc]
            assert len(rows()) == count, rows()
        done.touch()
        until(lambda: "after" in rows())
        assert rows()[-1] == "after"
        assert len(rows()) == count + rows_at_the_end, rows()
    finally:
        tmux("kill-server")
