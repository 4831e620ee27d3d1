"""A tokenizer.json, held against what a tokenizer of Tanuki's kind is.

The library that reads it makes what the file says: it takes memory for any number in it, its Rust code
panics on some parts (a panic passes ``except Exception``), on others only when a text is encoded, and it
cuts or fills up every prompt where the file asks for that. So only files of a bounded size are read, their
parts are checked against a list, and what would change a prompt is switched off.
"""

import base64
import binascii
import errno
import json
import math
import os
import sys
import tempfile
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from tanuki_cli.errors import DamagedModelError, brief
from tanuki_cli.files import NotAFileError, TooLargeError, os_reason, read_bounded
from tanuki_cli.i18n import _

_MAX_BYTES: Final = 24 << 20
"""Tanuki's has 2 MB; one with a quarter of a million pieces has 17."""
_MAX_OBJECTS: Final = 20_000
_MAX_PIECES: Final = 1 << 20
_MAX_PIECE: Final = 1024
_MAX_TEXT: Final = 64
"""Characters that a normaliser or a decoder may look for, or put in."""
_MAX_DEPTH: Final = 4
_MAX_PARTS: Final = 32
_MAX_GROWTH: Final = 8
"""A few replacements, each of them short, could make gigabytes of a character."""
_PANICS: Final = "pyo3_runtime"

Section = Literal["truncation", "padding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFile:
    """What was read. ``pieces`` gives the id of each, those that were added included; ``switched_off`` are
    the sections that would have cut or filled up prompts.

    ``splittable``: a text may be normalised before it is split, and its parts once more, with the same
    result. ``plain``: no part of it can fail on a text.
    """

    tokenizer: Tokenizer
    pieces: Mapping[str, int]
    switched_off: tuple[Section, ...]
    splittable: bool
    plain: bool


class TokenizerFault(Exception):
    """The tokenizer library failed; the text is its own explanation."""


class _NotAllowed(Exception):
    """A part of the file is not one of Tanuki's kind; the text names it."""


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


def read_tokenizer_file(path: Path) -> TokenizerFile:
    """Read ``path``. Raises DamagedModelError if it is missing, not a tokenizer, or not of Tanuki's kind."""
    try:
        data = _read(path)
        if _is_odd(data):
            _check_sections(data)
        with translated_faults(quiet=True):
            tokenizer = Tokenizer.from_buffer(data)
        return _checked(tokenizer)
    except FileNotFoundError as exc:
        raise DamagedModelError(_("The tokenizer {path} is missing.").format(path=path)) from exc
    except OSError as exc:
        raise DamagedModelError(
            _("{path} cannot be read: {reason}").format(path=path, reason=os_reason(exc))
        ) from exc
    except (TokenizerFault, _NotAllowed) as exc:
        raise DamagedModelError(
            _("{path} is not a tokenizer file: {reason}").format(path=path, reason=brief(exc))
        ) from exc


def made_here(tokenizer: Tokenizer) -> TokenizerFile:
    """As a file's, for a tokenizer that this program put together."""
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    return TokenizerFile(tokenizer=tokenizer, pieces=pieces, switched_off=(), splittable=True, plain=True)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    try:
        return read_bounded(path, limit=_MAX_BYTES)
    except (NotAFileError, TooLargeError) as exc:
        raise _NotAllowed(_("it is not a file of a possible size")) from exc


def are_possible(pieces: Collection[str]) -> bool:
    """Whether a vocabulary could consist of ``pieces``: all different, none empty, none very long."""
    longest = max(map(len, pieces), default=0)
    return 0 < len(set(pieces)) == len(pieces) <= _MAX_PIECES and "" not in pieces and longest <= _MAX_PIECE


# Before the library parses it: it tries every kind of part for every object, and once more for each level
# around it, and takes the memory that a character map asks for. Files as Tanuki's need no second parser.

_ODD_BYTES: Final = 8 << 20
_ODD_OBJECTS: Final = 2000
_MAX_SECTION_BYTES: Final = 8 << 20
_SECTIONS: Final = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding")


def _is_odd(data: bytes) -> bool:
    """Whether more than a vocabulary and a few parts may be in it."""
    many = len(data) > _ODD_BYTES or data.count(b"{") > _ODD_OBJECTS
    return many or b"Precompiled" in data or b"\\u" in data


def _check_sections(data: bytes) -> None:
    """Raise _NotAllowed unless the parts of the file are few, small and not nested deeply."""
    objects = data.count(b"{")
    if objects > _MAX_OBJECTS:
        raise _NotAllowed(_("it would hold {count} entries").format(count=objects))
    try:
        content = json.loads(data, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as exc:
        raise _NotAllowed(str(exc)) from exc
    sections = [content.get(name) for name in _SECTIONS] if isinstance(content, dict) else []
    if len(json.dumps(sections)) > _MAX_SECTION_BYTES:
        raise _NotAllowed(_("it is too large"))
    for section in sections:
        _check_depth(section, depth=0)


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The library reads every member of an object, Python keeps the last of those with the same name."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(_("{key} is there twice").format(key=brief(pairs[-1][0])))
    return members


def _check_depth(part: object, *, depth: int) -> None:
    if depth > 2 * _MAX_DEPTH:
        raise _NotAllowed(_("it is nested too deeply"))
    members = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if len(members) > _MAX_PARTS:
        raise _NotAllowed(_("it would hold {count} entries").format(count=len(members)))
    character_map = part.get("precompiled_charsmap", "") if isinstance(part, dict) else None
    if isinstance(part, dict) and part.get("type") == "Precompiled" and not _is_character_map(character_map):
        raise _NotAllowed(_("its character map is damaged"))
    for member in members:
        _check_depth(member, depth=depth + 1)


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


# What Tanuki's tokenizer has, and what converters make of SentencePiece models of its kind.


def _checked(tokenizer: Tokenizer) -> TokenizerFile:
    if not isinstance(tokenizer.model, Unigram):
        raise _NotAllowed(_("it is not a Unigram model"))
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    if not are_possible(pieces) or max(pieces.values()) >= _MAX_PIECES:
        raise _NotAllowed(_("its pieces are impossible"))
    splittable = all(map(_is_idempotent, _parts(tokenizer.normalizer, _NORMALIZERS)))
    pre_tokenizer = _parts(tokenizer.pre_tokenizer, _PRE_TOKENIZERS)
    _parts(tokenizer.decoder, _DECODERS)
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
    )


Part = Mapping[str, object]
Allowed = Mapping[str, Callable[[Part], bool]]


def _parts(component: Any, allowed: Allowed) -> list[Part]:
    """What a normaliser, a splitter or a decoder consists of. Raises _NotAllowed."""
    if component is None:
        return []
    state: object = json.loads(component.__getstate__())
    parts = list(_walk(state, allowed, depth=0))
    if len(parts) > _MAX_PARTS or math.prod(map(_growth, parts)) > _MAX_GROWTH:
        raise _NotAllowed(_("it would make texts much longer"))
    return parts


def _growth(part: Part) -> float:
    """How many times longer a replacement can make a text."""
    pattern, content = part.get("pattern"), part.get("content")
    if part["type"] != "Replace" or not isinstance(pattern, dict) or not isinstance(content, str):
        return 1.0
    return max(1.0, len(content) / len(str(pattern.get("String", " "))))


def _walk(part: object, allowed: Allowed, *, depth: int) -> Iterator[Part]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "Sequence" and isinstance(part, dict) and depth < _MAX_DEPTH:
        for members in part.values():
            for member in members if isinstance(members, list) else ():
                yield from _walk(member, allowed, depth=depth + 1)
        return
    if not isinstance(part, dict) or kind not in allowed or not allowed[str(kind)](part):
        raise _NotAllowed(
            _("it has a part that Tanuki's kind does not have: {part}").format(part=brief(kind))
        )
    yield part


def _is_idempotent(part: Part) -> bool:
    """Whether a text, or a part of it, that went through it is not changed again."""
    pattern = part.get("pattern")
    text = pattern.get("String") if isinstance(pattern, dict) else None
    return part["type"] in ("NFC", "NFKC") or (isinstance(text, str) and text not in str(part["content"]))


def _always(_part: Part) -> bool:
    return True


def _short(part: Part, *keys: str) -> bool:
    return all(isinstance(text := part.get(key), str) and 0 < len(text) <= _MAX_TEXT for key in keys)


def _replaces(part: Part) -> bool:
    pattern, content = part.get("pattern"), part.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str) or len(content) > _MAX_TEXT:
        return False
    # The one expression that converters write for SentencePiece's rule on runs of spaces.
    return _short(pattern, "String") or pattern == {"Regex": " {2,}"}


def _strips(part: Part) -> bool:
    counts = [part.get(key) for key in ("start", "stop")]
    return all(isinstance(count, int) and 0 <= count <= _MAX_TEXT for count in counts) and _short(
        part, "content"
    )


_NORMALIZERS: Final[Allowed] = {
    **dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "Strip", "StripAccents"), _always),
    "Precompiled": _always,  # checked before
    "Replace": _replaces,
    "Prepend": lambda part: _short(part, "prepend"),
}
_PRE_TOKENIZERS: Final[Allowed] = {
    **dict.fromkeys(("WhitespaceSplit", "Digits", "Punctuation", "UnicodeScripts"), _always),
    "Metaspace": lambda part: _short(part, "replacement"),
}
_DECODERS: Final[Allowed] = {
    "Replace": _replaces,
    "ByteFallback": _always,
    "Fuse": _always,
    "Strip": _strips,
    "Metaspace": lambda part: _short(part, "replacement"),
}


# SentencePiece's character map: a double-array trie over the bytes of a character, and its replacements.
# The library follows it without looking where it leads.

_UNITS_PER_BLOCK: Final = 256


def _is_character_map(encoded: object) -> bool:
    try:
        data = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
    except (binascii.Error, ValueError):
        return False
    size = int.from_bytes(data[:4], "little")
    trie, texts = data[4 : 4 + size], data[4 + size :]
    if len(trie) != size or not size or size % (4 * _UNITS_PER_BLOCK):
        return False
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError:
        return False
    units = array("I", trie)
    if sys.byteorder == "big":
        units.byteswap()
    return all(_stays_inside(index, unit, len(units), texts) for index, unit in enumerate(units))


def _stays_inside(index: int, unit: int, count: int, texts: bytes) -> bool:
    """Whether what a unit says leads to another unit, or to the beginning of a character."""
    if unit >> 31:
        value = unit & 0x7FFFFFFF
        return value < len(texts) and texts[value] & 0xC0 != 0x80
    offset = unit >> 10 << ((unit & 0x200) >> 6)
    return (index ^ offset) | (_UNITS_PER_BLOCK - 1) < count
