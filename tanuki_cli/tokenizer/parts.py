"""The parts that a tokenizer of Tanuki's kind may have, before and after the library parses them."""

import base64
import binascii
import json
import math
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from tanuki_cli.errors import brief
from tanuki_cli.i18n import _

_MAX_OBJECTS: Final = 20_000
_MAX_TEXT: Final = 64
"""Characters that a normaliser or a decoder may look for, or put in."""
_MAX_DEPTH: Final = 4
_MAX_PARTS: Final = 32
_MAX_GROWTH: Final = 8
"""A few replacements, each of them short, could make gigabytes of a character."""


class NotAllowedError(Exception):
    """A part of the file is not one of Tanuki's kind; the text names it."""


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


def check_sections(data: bytes) -> None:
    """Raise NotAllowedError unless the parts of the file are few, small and not nested deeply."""
    if not _is_odd(data):
        return
    objects = data.count(b"{")
    if objects > _MAX_OBJECTS:
        raise NotAllowedError(_("it would hold {count} entries").format(count=objects))
    try:
        content = json.loads(data, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as exc:
        raise NotAllowedError(str(exc)) from exc
    sections = [content.get(name) for name in _SECTIONS] if isinstance(content, dict) else []
    if len(json.dumps(sections)) > _MAX_SECTION_BYTES:
        raise NotAllowedError(_("it is too large"))
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
        raise NotAllowedError(_("it is nested too deeply"))
    members = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if len(members) > _MAX_PARTS:
        raise NotAllowedError(_("it would hold {count} entries").format(count=len(members)))
    character_map = part.get("precompiled_charsmap", "") if isinstance(part, dict) else None
    if isinstance(part, dict) and part.get("type") == "Precompiled" and not _is_character_map(character_map):
        raise NotAllowedError(_("its character map is damaged"))
    for member in members:
        _check_depth(member, depth=depth + 1)


# What Tanuki's tokenizer has, and what converters make of SentencePiece models of its kind.

Part = Mapping[str, object]
Allowed = Mapping[str, Callable[[Part], bool]]


def parts_of(component: Any, allowed: Allowed) -> list[Part]:
    """What a normaliser, a splitter or a decoder consists of. Raises NotAllowedError."""
    if component is None:
        return []
    state: object = json.loads(component.__getstate__())
    parts = list(_walk(state, allowed, depth=0))
    if len(parts) > _MAX_PARTS or math.prod(map(_growth, parts)) > _MAX_GROWTH:
        raise NotAllowedError(_("it would make texts much longer"))
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
        raise NotAllowedError(
            _("it has a part that Tanuki's kind does not have: {part}").format(part=brief(kind))
        )
    yield part


def is_idempotent(part: Part) -> bool:
    """Whether a text, or a part of it, that went through it is not changed again."""
    pattern = part.get("pattern")
    text = pattern.get("String") if isinstance(pattern, dict) else None
    return part["type"] in ("NFC", "NFKC") or (isinstance(text, str) and text not in str(part["content"]))


def is_additive(decoder: Sequence[Part]) -> bool:
    """Whether a text is that of each of its pieces, one after another; runs of bytes are one piece."""
    replaced = [part["pattern"] for part in decoder if part["type"] == "Replace"]
    return (
        {part["type"] for part in decoder} <= {"Replace", "ByteFallback", "Fuse"}
        and all(isinstance(one, dict) and len(str(one.get("String", ""))) == 1 for one in replaced)
        and bool(decoder)  # without one there would be spaces between them
    )


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


NORMALIZERS: Final[Allowed] = {
    **dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "Strip", "StripAccents"), _always),
    "Precompiled": _always,  # checked before
    "Replace": _replaces,
    "Prepend": lambda part: _short(part, "prepend"),
}
PRE_TOKENIZERS: Final[Allowed] = {
    **dict.fromkeys(("WhitespaceSplit", "Digits", "Punctuation", "UnicodeScripts"), _always),
    "Metaspace": lambda part: _short(part, "replacement"),
}
DECODERS: Final[Allowed] = {
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
