"""Runs command lines of the real program inside a fuzzer's child, and judges what they print."""

import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tanuki_cli.cli import app
from tanuki_cli.cli.run import run
from tanuki_cli.errors import ExitCode
from tanuki_cli.i18n import activate

_ACTS: Final = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNTOLD: Final = re.compile(r"Traceback \(most|Unexpected error|予期しないエラー|\bNone\b.*\bNone\b|<object ")
_LONGEST_LINE: Final = 1100


@dataclass(frozen=True)
class Done:
    """What a command line gave."""

    code: int
    out: str
    err: str


def tanuki(
    home: Path,
    arguments: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    environ: Mapping[str, str] | None = None,
    lang: str = "en",
) -> Done:
    """Run a command line as :func:`tanuki_cli.cli.main` does, and hold what it prints to the rules.

    Raises AssertionError for a code of its own kind, an error that is not told in a sentence, and control
    characters; whatever else comes out of the program comes through.
    """
    activate("ja" if lang == "ja" else "en")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict") for _stream in range(2))
    with _world(home, environ or {}), _streams(io.TextIOWrapper(stdin or io.BytesIO()), out, err):
        try:
            code = run(app, [*arguments])
        except SystemExit as exc:
            code = int(exc.code or 0)
    done = Done(code, _text(out), _text(err))
    judge(done)
    return done


def judge(done: Done) -> None:
    """See :func:`tanuki`."""
    assert done.code in {*ExitCode} - {ExitCode.UNEXPECTED}, f"code {done.code}: {done.err[-300:]}"
    for name, text in (("stdout", done.out), ("stderr", done.err)):
        assert not _UNTOLD.search(text), f"{name}: {_UNTOLD.findall(text)[0]}: {text[-400:]}"
    acting = _ACTS.search(done.err)
    assert not acting, f"stderr has {acting[0]!r}: {done.err[:300]!r}" if acting else ""
    longest = max(map(len, done.err.splitlines()), default=0)
    assert longest <= _LONGEST_LINE, f"a message of {longest} characters: {done.err[:200]}"
    if done.code not in {ExitCode.SUCCESS, ExitCode.CLOSED_PIPE, ExitCode.INTERRUPTED}:
        assert len(done.err.strip().splitlines()) >= 2, f"no sentence with a hint: {done.err!r}"


def _text(stream: io.TextIOWrapper) -> str:
    with suppress(ValueError):
        stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")


@contextmanager
def _world(home: Path, environ: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("TANUKI_", "HF_"))]:
        del os.environ[name]
    # Wide, so that no message is wrapped and its lines are those that were meant.
    os.environ |= {"TANUKI_HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1"}
    os.environ |= {"COLUMNS": "2000", **environ}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


@contextmanager
def _streams(stdin: io.TextIOWrapper, out: io.TextIOWrapper, err: io.TextIOWrapper) -> Iterator[None]:
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = stdin, out, err
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
