"""Files replaced in one step, and why the system refused, in words of our own."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tanuki_cli.files import as_typed, os_reason, replacing, write_atomically
from tanuki_cli.i18n import activate


def test_a_name_that_an_input_method_made_full_width_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    plain, wide = Path("memo 1.txt"), Path("ＡＢＣ　（１）.txt")
    for path in (plain, wide):
        path.write_text("", encoding="utf-8")
    assert as_typed("ｍｅｍｏ　１．ｔｘｔ") == plain
    assert as_typed("～／ｍｅｍｏ　１．ｔｘｔ") == tmp_path / plain
    assert as_typed(wide) == wide  # it is there
    assert as_typed("ABC (1).txt") == Path("ABC (1).txt")
    assert as_typed("ｎｅｗ．ｔｘｔ") == Path("ｎｅｗ．ｔｘｔ")
    assert as_typed("－") == Path("-")
    assert as_typed("\0") == Path("\0")
    assert as_typed("ｘ" * 5000) == Path("ｘ" * 5000)
    Path("ＡＢＣ　（１）.txt").rename("ABC (1).txt")
    Path(wide).symlink_to("nowhere")
    assert as_typed(wide) == wide


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


_WRITER = """
import sys
from pathlib import Path
from tanuki_cli.files import write_atomically
texts = ("a" * 200_000, "b" * 300_000)
print("ready", flush=True)
while True:
    for text in texts:
        write_atomically(Path(sys.argv[1]), text)
"""


def test_a_reader_finds_one_whole_text_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with subprocess.Popen([sys.executable, "-c", _WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        seen: set[str] = set()
        while len(seen) < 2:
            if path.exists():
                text = path.read_text()
                assert text in ("a" * 200_000, "b" * 300_000)
                seen.add(text[0])
        writer.send_signal(signal.SIGKILL)
    assert path.read_text()[0] in seen


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "一\n")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_bytes() == "一\n".encode()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", "二")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, durable=False) as file:
        file.write(b"one")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"half of another")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_or_device_is_written_and_not_replaced(tmp_path: Path) -> None:
    write_atomically(Path(os.devnull), "text")
    assert Path(os.devnull).is_char_device()
    code = (
        "from pathlib import Path\nfrom tanuki_cli.files import write_atomically\n"
        "write_atomically(Path('/dev/stdout'), '狸\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == "狸\n".encode()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):  # noqa: PT011 - what the system says; it must not wait for a reader
        write_atomically(tmp_path / "pipe", "text")


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles" / "real", tmp_path / "link"
    write_atomically(real, "一", mode=0o600)
    assert real.stat().st_mode & 0o777 == 0o600
    link.symlink_to(real)
    write_atomically(link, "二")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "二"
    assert real.stat().st_mode & 0o777 == 0o600
