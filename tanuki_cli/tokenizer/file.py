"""A tokenizer.json, held against what a tokenizer of Tanuki's kind is.

The library that reads it makes what the file says: it takes memory for any number in it, its Rust code
panics on some parts (a panic passes ``except Exception``), on others only when a text is encoded, and it
cuts or fills up every prompt where the file asks for that. So only files of a bounded size are read, their
parts are checked against a list, and what would change a prompt is switched off.
"""

import errno
import os
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from tanuki_cli.errors import DamagedModelError, brief
from tanuki_cli.files import NotAFileError, TooLargeError, os_reason, read_bounded
from tanuki_cli.i18n import _
from tanuki_cli.tokenizer.parts import (
    DECODERS,
    NORMALIZERS,
    PRE_TOKENIZERS,
    NotAllowedError,
    check_sections,
    is_additive,
    is_idempotent,
    parts_of,
)

_MAX_BYTES: Final = 24 << 20
"""Tanuki's has 2 MB; one with a quarter of a million pieces has 17."""
_MAX_PIECES: Final = 1 << 20
_MAX_PIECE: Final = 1024
_PANICS: Final = "pyo3_runtime"

Section = Literal["truncation", "padding"]


class TokenizerFile(Struct, frozen=True, kw_only=True):
    """What was read. ``pieces`` gives the id of each, those that were added included; ``switched_off`` are
    the sections that would have cut or filled up prompts.

    ``splittable``: a text may be normalised before it is split, and its parts once more, with the same
    result. ``plain``: no part of it can fail on a text. ``additive``: see
    :func:`~tanuki_cli.tokenizer.parts.is_additive`.
    """

    tokenizer: Tokenizer
    pieces: Mapping[str, int]
    switched_off: tuple[Section, ...]
    splittable: bool
    plain: bool
    additive: bool


class TokenizerFault(Exception):
    """The tokenizer library failed; the text is its own explanation."""


@contextmanager
def translated_faults(*, quiet: bool = False) -> Iterator[None]:
    """Raise TokenizerFault for whatever the library raises, panics of its Rust code included.

    ``quiet`` keeps from the terminal what Rust writes about a panic.
    """
    try:
        if quiet:
            with _held_back_stderr():
                yield
        else:
            yield
    except Exception as exc:  # the library raises Exception itself
        raise TokenizerFault(str(exc)) from exc
    except BaseException as exc:
        if type(exc).__module__ != _PANICS:
            raise
        raise TokenizerFault(str(exc)) from exc


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Keep what native code writes to stderr until it is known not to be about a panic."""
    if sys.stderr is not None:  # Python has none where it was closed before the start
        sys.stderr.flush()
    try:
        original = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        panicked = True
        try:
            yield
            panicked = False
        except Exception:
            panicked = False
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            if not panicked and (text := held.read()):
                os.write(2, text)


def read_tokenizer_file(path: Path) -> TokenizerFile:
    """Read ``path``. Raises DamagedModelError if it is missing, not a tokenizer, or not of Tanuki's kind."""
    try:
        data = _read(path)
        check_sections(data)
        with translated_faults(quiet=True):
            tokenizer = Tokenizer.from_buffer(data)
        return _checked(tokenizer)
    except FileNotFoundError as exc:
        raise DamagedModelError(_("The tokenizer {path} is missing.").format(path=path)) from exc
    except OSError as exc:
        raise DamagedModelError(
            _("{path} cannot be read: {reason}").format(path=path, reason=os_reason(exc))
        ) from exc
    except (TokenizerFault, NotAllowedError) as exc:
        raise DamagedModelError(
            _("{path} is not a tokenizer file: {reason}").format(path=path, reason=brief(exc))
        ) from exc


def made_here(tokenizer: Tokenizer) -> TokenizerFile:
    """As a file's, for a tokenizer that this program put together."""
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    return TokenizerFile(
        tokenizer=tokenizer, pieces=pieces, switched_off=(), splittable=True, plain=True, additive=False
    )


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    try:
        return read_bounded(path, limit=_MAX_BYTES)
    except (NotAFileError, TooLargeError) as exc:
        raise NotAllowedError(_("it is not a file of a possible size")) from exc


def are_possible(pieces: Collection[str]) -> bool:
    """Whether a vocabulary could consist of ``pieces``: all different, none empty, none very long."""
    longest = max(map(len, pieces), default=0)
    return 0 < len(set(pieces)) == len(pieces) <= _MAX_PIECES and "" not in pieces and longest <= _MAX_PIECE


def _checked(tokenizer: Tokenizer) -> TokenizerFile:
    if not isinstance(tokenizer.model, Unigram):
        raise NotAllowedError(_("it is not a Unigram model"))
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    if not are_possible(pieces) or max(pieces.values()) >= _MAX_PIECES:
        raise NotAllowedError(_("its pieces are impossible"))
    splittable = all(map(is_idempotent, parts_of(tokenizer.normalizer, NORMALIZERS)))
    pre_tokenizer = parts_of(tokenizer.pre_tokenizer, PRE_TOKENIZERS)
    decoder = parts_of(tokenizer.decoder, DECODERS)
    found: dict[Section, object] = {"truncation": tokenizer.truncation, "padding": tokenizer.padding}
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None  # a template may repeat a text or leave it out
    return TokenizerFile(
        tokenizer=tokenizer,
        pieces=pieces,
        switched_off=tuple(section for section, value in found.items() if value is not None),
        splittable=splittable,
        plain=splittable and not pre_tokenizer,
        additive=is_additive(decoder),
    )
