"""Why the system refused, in words of our own."""

import errno
import os
import socket

import pytest

from tanuki_cli.files import os_reason
from tanuki_cli.i18n import activate


@pytest.mark.parametrize(
    ("error", "begins", "translated"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "there is no such", "がありません"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full", "空きがありません"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "nothing listens", "サーバーが"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no machine has", "ホスト名が"),
        (TimeoutError(), "there was no answer in time", "応答がありませんでした"),
    ],
)
def test_known_reasons_are_translated(error: OSError, begins: str, translated: str) -> None:
    assert os_reason(error).startswith(begins)
    activate("ja")
    assert translated in os_reason(error)


def test_rare_reasons_stay_in_the_words_of_the_system() -> None:
    assert os_reason(OSError(errno.EXDEV, os.strerror(errno.EXDEV))) == os.strerror(errno.EXDEV)
    assert os_reason(OSError("no number")) == "no number"
