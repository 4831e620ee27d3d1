"""The lines of a text of any size, in the encodings that Japanese text comes in.

One line is in memory at a time. A line that cannot be read says so, and those after it are read.
"""

import codecs
import io
import re
from collections.abc import Generator
from typing import BinaryIO, Final

from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.i18n import _
from tanuki_cli.text.decoding import check_encoding, detect_encoding

UTF_8: Final = "utf-8-sig"
"""With or without the mark at its beginning."""
SURROGATES: Final = re.compile("[\ud800-\udfff]")
"""What stands for bytes that are no characters."""
_SAMPLE_BYTES: Final = 1 << 20
MAX_LINE_CHARACTERS: Final = 8 << 20
"""No prompt is as long as that."""
_SHOWN_CHARACTERS: Final = 80


class Line(Struct, frozen=True):
    """One line, counted from 1, without its end. ``problem`` is why it cannot be used, as part of a
    sentence; one that is too long is ``cut``."""

    number: int
    text: str
    problem: str = ""
    cut: bool = False


def find_encoding(file: BinaryIO, *, name: str, encoding: str | None = None) -> str:
    """The encoding of ``file``, found in its beginning; it is at its beginning again then.

    A file in UTF-8 may have broken lines. Raises InputError if it is not text, or there is no such
    ``encoding``.
    """
    file.seek(0)
    sample = file.read(_SAMPLE_BYTES)
    file.seek(0)
    if encoding is not None:
        check_encoding(encoding)
        return encoding
    if b"\0" not in sample and not sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        lines = [line for line in sample.splitlines() if not line.isascii()]
        # Few texts in another encoding are valid in UTF-8 by chance: one line can be, most cannot.
        if 2 * sum(map(_is_utf8, lines)) >= len(lines) and b"\x1b" not in sample:
            return UTF_8
    if len(sample) == _SAMPLE_BYTES:  # not in the middle of a character
        sample = sample[: sample.rfind(b"\n") + 1] or sample[:-4]
        sample = sample[: len(sample) // 4 * 4] if b"\0" in sample else sample
    return detect_encoding(sample, name=name)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def text_lines(file: BinaryIO, *, name: str, encoding: str) -> Generator[Line, None, None]:
    """The lines of ``file`` from where it stands, whatever ends them. ``file`` stays open.

    Raises InputError where nothing after a broken character can be read.
    """
    text = io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape")
    number = 0
    try:
        while line := text.readline(MAX_LINE_CHARACTERS):
            number += 1
            yield _line(number, line, text, encoding)
    except UnicodeError as exc:
        raise InputError(
            _("{name} is not text in {encoding}.").format(name=name, encoding=encoding),
            hint=_("If it is text, name its encoding: --encoding cp932"),
        ) from exc
    finally:
        if not file.closed:
            text.detach()


def _line(number: int, line: str, text: io.TextIOWrapper, encoding: str) -> Line:
    if not line.endswith("\n") and len(line) == MAX_LINE_CHARACTERS:
        while (rest := text.readline(1 << 16)) and not rest.endswith("\n"):
            pass
        return Line(number, line[:_SHOWN_CHARACTERS], _("it is too long"), cut=True)
    line = line.removesuffix("\n")
    if not line.isascii() and SURROGATES.search(line):
        return Line(number, line, _("it is not text in {encoding}").format(encoding=encoding))
    if "\0" in line:
        return Line(number, line, _("it is not text"))
    return Line(number, line)
