"""Text from files and pipes, in the encodings that Japanese text comes in."""

import codecs
import io
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from tanuki_cli.errors import InputError
from tanuki_cli.files import TooLargeError, os_reason, read_stream
from tanuki_cli.i18n import _
from tanuki_cli.text.sanitize import sanitize_line

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEGACY: Final = ("cp932", "euc_jp")
_USUAL: Final = "[ -~\u3000-\u30ff\u4e00-\u9fff\uff01-\uffee]"
_NOT_TEXT: Final = re.compile("[\\0\\uf8f0-\\uf8f3]")
"""A zero, or what Python's CP932 makes of bytes that CP932 does not have."""
_MAX_BYTES: Final = 8 << 20
_DOCUMENTS: Final = (
    (b"%PDF-", "pdftotext {file} -"),
    (b"PK\x03\x04", "pandoc -t plain {file}"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "antiword {file}"),
)
"""How documents begin, and what prints their text."""


def read_text_file(path: Path, *, encoding: str | None = None) -> str:
    """The text of ``path``, line ends as ``\\n``.

    Raises InputError that names the file if it cannot be read, is too big to be a prompt, or is
    not text.
    """
    try:
        with path.open("rb") as file:
            data = read_prompt(file, name=str(path))
    except OSError as exc:
        raise InputError(
            _("{name} cannot be read: {reason}.").format(name=path, reason=os_reason(exc)),
            hint=_("Check the name and the permissions."),
        ) from exc
    return decode_text(data, name=str(path), encoding=encoding)


def read_prompt(stream: BinaryIO, *, name: str) -> bytes:
    """All of ``stream``, which ``name`` says in words. Raises InputError if no prompt is as big as that."""
    try:
        return read_stream(stream, limit=_MAX_BYTES)
    except TooLargeError as exc:
        raise InputError(
            _("{name} is too big for a prompt.").format(name=name),
            hint=_("Give a part of it: head -c 20000 FILE | tanuki ask …"),
        ) from exc


def decode_text(data: bytes, *, name: str, encoding: str | None = None) -> str:
    """Decode ``data``: UTF-8 or UTF-16 with or without BOM, UTF-32, ISO-2022-JP, CP932 or EUC-JP.

    ``encoding`` overrides the detection. Line ends become ``\\n``. Raises InputError that says
    which input (``name``) is not text.
    """
    if extraction := _extraction(data, name):
        raise InputError(
            _("{name} is a document with more in it than text.").format(name=name),
            hint=_("To give its text: {command}").format(command=f"{extraction} | tanuki ask …"),
        )
    found = _decoded(data, encoding)
    if found is not None:
        return found[1].replace("\r\n", "\n").replace("\r", "\n")
    raise _not_text(data, name, encoding)


def argument_text(word: str) -> str:
    """An argument as text: bytes that the locale could not decode are read as a file's would be.

    Raises InputError if they are no text.
    """
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        try:
            return decode_text(os.fsencode(word), name=_("The argument"))
        except InputError as exc:  # no option says how the command line is encoded
            raise InputError(exc.message, hint=_("Type it again, in UTF-8.")) from exc
    return word


def _extraction(data: bytes, name: str) -> str:
    """The command that prints the text of a PDF or an office document; empty for another file."""
    command = next((command for start, command in _DOCUMENTS if data.startswith(start)), "")
    return command.format(file=shlex.quote(name) if Path(name).is_file() else "FILE")


def detect_encoding(data: bytes, *, name: str) -> str:
    """The encoding in which ``data``, whole characters of ``name``, is text. Raises InputError if in none."""
    found = _decoded(data, None)
    if found is None:
        raise _not_text(data, name, None)
    return found[0]


def _decoded(data: bytes, encoding: str | None) -> tuple[str, str] | None:
    """The first encoding in which ``data`` is text, and the text."""
    for candidate in [encoding] if encoding else _candidates(data):
        try:
            text = data.decode(candidate)
        except UnicodeDecodeError:
            continue
        except (LookupError, UnicodeEncodeError) as exc:  # the latter for a name that is no text
            raise _no_encoding(candidate) from exc
        if not _NOT_TEXT.search(text):
            return candidate, text
    return None


def check_encoding(encoding: str) -> None:
    """Raise InputError unless there is such an encoding of texts."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    except (LookupError, UnicodeEncodeError) as exc:
        raise _no_encoding(encoding) from exc


def _no_encoding(encoding: str) -> InputError:
    return InputError(
        _("There is no encoding called {encoding!r}.").format(encoding=encoding),
        hint="--encoding utf-8|cp932|euc_jp|utf-16",
    )


def _not_text(data: bytes, name: str, encoding: str | None) -> InputError:
    return InputError(
        _("{name} is not text in {encoding}.").format(name=name, encoding=encoding)
        if encoding
        else _("{name} is not text that can be read.").format(name=name),
        hint=_("It holds zero bytes, so it is a binary file (an image, a program …); only text can be read.")
        if b"\0" in data
        else _("If it is text, name its encoding: --encoding cp932"),
    )


def fenced(name: str, text: str) -> str:
    """``text`` of a file as it stands in a prompt: in a code fence under its name, which is one line."""
    fence = "```"
    while fence in text:
        fence += "`"
    body = text.strip("\n")
    return f"{sanitize_line(name)}:\n{fence}\n{body}\n{fence}"


def _candidates(data: bytes) -> Iterator[str]:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            yield encoding
            return
    if b"\0" in data:
        yield from (encoding for encoding in ("utf-16-le", "utf-16-be") if _reads_well(data, encoding))
        return
    if b"\x1b$" in data or b"\x1b(" in data:
        yield "iso2022_jp_ext"
    yield "utf-8"
    import charset_normalizer  # most text is UTF-8, and never comes here

    best = charset_normalizer.from_bytes(data, cp_isolation=list(_LEGACY)).best()
    # Undecided: EUC-JP first, since CP932 text is hardly ever valid in it, while the reverse is.
    first = "cp932" if best is not None and best.encoding == "cp932" else "euc_jp"
    yield first
    yield from (encoding for encoding in _LEGACY if encoding != first)


def _reads_well(data: bytes, encoding: str) -> bool:
    """Whether UTF-16 without a BOM gives mostly Latin, kana, kanji and full-width forms."""
    text = data.decode(encoding, errors="replace")
    is_usual = re.compile(_USUAL).match  # here, since it takes milliseconds, and most text is UTF-8
    usual = sum(character in "\t\n\r" or is_usual(character) is not None for character in text)
    return usual >= 0.95 * len(text)
