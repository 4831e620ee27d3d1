"""Rows that are drawn over while work goes on, and Ctrl-C at every moment: the cursor comes back."""

import io
from collections.abc import Callable

import pytest

from tanuki_cli.hub import Progress
from tanuki_cli.interrupts import interruptible
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.download import DownloadProgress
from tanuki_cli.terminal.step_progress import StepProgress
from tanuki_cli.terminal.streams import Streams
from tests.support.interrupting import Interrupting

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


class Screen(Interrupting):
    def isatty(self) -> bool:
        return True


def steps(console: Console) -> None:
    with StepProgress(console) as progress:
        progress.update(1, 2)


def download(console: Console) -> None:
    with DownloadProgress(console) as progress:
        progress.update(
            Progress(
                phase="downloading",
                file="a",
                files_done=0,
                files_total=1,
                bytes_total=2,
                bytes_done=1,
                bytes_received=1,
            )
        )


@pytest.mark.parametrize("show", [steps, download])
@pytest.mark.parametrize("at", [HIDE, SHOW], ids=["begin", "end"])
def test_the_cursor_comes_back(show: Callable[[Console], None], at: bytes) -> None:
    raw = Screen(at)
    stream = raw.text()
    console = Console(Streams(stdin=io.StringIO(), stdout=stream, stderr=stream), {"TERM": "xterm"})
    with pytest.raises(KeyboardInterrupt), interruptible():
        show(console)
    assert raw.taken.count(HIDE) == 1
    assert raw.taken.rindex(SHOW) > raw.taken.index(HIDE)
