"""Exact token ids, for every local backend.

The hub's ``tokenizer.json``, loaded verbatim by ``tokenizers``, is the definition of right. Backends
never tokenise: llama.cpp's tokenizer gives other ids on three texts in four, and transformers 5
rebuilds a different model from the same file without a word.

Control pieces such as ``</s>`` and ``<0x41>`` are pieces of the vocabulary itself, so plain text that
spells them would turn into control ids; NFKC even folds ``＜／ｓ＞`` into one. :meth:`ChatTokenizer.encode`
cuts every such spelling after its first character, so that no text can end a turn.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from tanuki_cli.conversation import Message
from tanuki_cli.errors import DamagedModelError
from tanuki_cli.i18n import _
from tanuki_cli.prompt import TurnSizes, segments
from tanuki_cli.tokenizer.detokenizer import Detokenizer
from tanuki_cli.tokenizer.file import (
    Section,
    TokenizerFault,
    TokenizerFile,
    made_here,
    read_tokenizer_file,
    translated_faults,
)

_EOS: Final = "</s>"
_NEWLINE: Final = "\n"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BYTE_PIECES: Final = tuple(f"<0x{high}{low}>" for high, low in product("0123456789ABCDEFabcdef", repeat=2))
_USUAL_BYTES: Final = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_USUAL_BYTE: Final = "<0x[0-9A-F]{2}>"
"""Matches these, and is compiled in a twentieth of the time that all of them take."""
_CACHED_SEGMENTS: Final = 4096
_CACHED_PIECES: Final = 4096


class ChatTokenizer:
    """A Unigram tokenizer with the ids of one model's ``<s>`` and ``</s>``.

    ``bos_id`` and ``eos_id`` come from the model's configuration, as do ``other_eos_ids``, which end an
    answer too: all of them, and the tokenizer's own ``</s>``, are ``end_ids``. ``vocab_size`` is the number
    of rows of its embedding, at least the number of pieces; ``pieces`` gives the id of each.
    ``switched_off`` names the sections of the file that are not followed, since they would change prompts.
    ``can_be_guarded``: no text can be mistaken for a control piece. Run
    :func:`~tanuki_cli.tokenizer.verify_tokenizer` before use.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | TokenizerFile,
        *,
        bos_id: int,
        eos_id: int,
        vocab_size: int,
        other_eos_ids: Collection[int] = (),
    ) -> None:
        file = tokenizer if isinstance(tokenizer, TokenizerFile) else made_here(tokenizer)
        tokenizer = file.tokenizer
        self.bos_id = bos_id
        self.eos_id = eos_id
        self.vocab_size = vocab_size
        self.switched_off: Sequence[Section] = file.switched_off
        self._file = file
        self._tokenizer = tokenizer
        self._splitter = tokenizer if file.splittable else _without_normalizer(tokenizer)
        self.pieces: Mapping[str, int] = file.pieces
        added = {token.content: id_ for id_, token in tokenizer.get_added_tokens_decoder().items()}
        bytes_ = {piece: self.pieces[piece] for piece in _BYTE_PIECES if piece in self.pieces}
        self._byte_ids = frozenset(bytes_.values())
        # What is added and but one character is text, unless the file calls it special.
        special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
        spellings = {piece for piece in added if piece != _NEWLINE and (len(piece) > 1 or piece in special)}
        self.control_ids = frozenset(added[piece] for piece in spellings)
        own_eos = [added[_EOS]] if _EOS in added else []
        self.end_ids = frozenset((eos_id, *other_eos_ids, *own_eos))
        spellings |= bytes_.keys()
        spellings |= set(self._normalized(spellings)) - {""}
        self.can_be_guarded = all(len(spelling) > 1 for spelling in spellings)
        self._spelling = _any_of(spellings)
        self._encode_cached = lru_cache(maxsize=_CACHED_SEGMENTS)(self._encode)
        self.turn_sizes = TurnSizes(lambda text: len(self._encode_cached(text)))
        self._decode_cached = lru_cache(maxsize=_CACHED_PIECES)(self.decode)
        self._ending_ids = (
            frozenset(self.pieces.values())
            - self._byte_ids
            - {added_id for added_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        )
        self._whole_only = False

    @classmethod
    def from_reference(cls, path: Path) -> "ChatTokenizer":
        """Read a ``tokenizer.json`` without a model beside it: ``<s>`` and ``</s>`` by their names.

        Raises EngineError if it is missing, not one, or lacks them.
        """
        file = read_tokenizer_file(path)
        backend = file.tokenizer
        bos_id, eos_id = backend.token_to_id("<s>"), backend.token_to_id(_EOS)
        if bos_id is None or eos_id is None:
            raise DamagedModelError(_("{path} has no <s> and </s>.").format(path=path))
        return cls(file, bos_id=bos_id, eos_id=eos_id, vocab_size=backend.get_vocab_size())

    @property
    def backend(self) -> Tokenizer:
        """The ``tokenizers`` object itself."""
        return self._tokenizer

    @property
    def thread_safe(self) -> bool:
        """Whether several threads may use it: what a strange file prints is kept off the screen of all."""
        return self._file.plain

    def settle_encoding(self, messages: Sequence[Message]) -> bool:
        """Choose how chats are encoded, by whether ``messages`` gives the same ids both ways.

        A tokenizer that merges across the borders of a piece encodes chats as one string. Returns
        False if ``<s>`` and ``</s>`` do not stand where the template puts them either way.
        """
        parts = segments(messages)
        whole = self._encode_whole(parts)
        self._whole_only = whole != self.encode_chat(messages)
        return whole[0] == self.bos_id and whole.count(self.eos_id) == len(parts) - 1

    @classmethod
    def from_file(
        cls, path: Path, *, bos_id: int, eos_id: int, vocab_size: int, other_eos_ids: Collection[int] = ()
    ) -> "ChatTokenizer":
        """Read a ``tokenizer.json``. Raises EngineError if it is missing or not one."""
        return cls(
            read_tokenizer_file(path),
            bos_id=bos_id,
            eos_id=eos_id,
            vocab_size=vocab_size,
            other_eos_ids=other_eos_ids,
        )

    def is_byte(self, id_: int) -> bool:
        """Whether ``id_`` stands for a single byte."""
        return id_ in self._byte_ids

    def byte_ids(self, text: str) -> list[int]:
        """``text`` byte by byte; empty if the vocabulary has not the pieces."""
        ids = [self.pieces.get(f"<0x{byte:02X}>") for byte in text.encode("utf-8", "surrogatepass")]
        return [] if None in ids else [id_ for id_ in ids if id_ is not None]

    def piece(self, id_: int) -> str | None:
        """The piece as the vocabulary spells it; None for an id without one."""
        piece = self._tokenizer.id_to_token(id_)
        return None if piece is None else str(piece)

    def piece_bytes(self, id_: int) -> bytes:
        """What ``id_`` adds to a text; nothing for control pieces and ids without a piece."""
        piece = self._tokenizer.id_to_token(id_)
        if piece is None or id_ in self.control_ids:
            return b""
        if id_ in self._byte_ids:
            return bytes([int(piece[3:5], 16)])
        return str(piece).replace("▁", " ").encode()

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: never a control id, nor a byte id for a literal ``<0x..>`` spelling.

        Lone surrogates, which no tokenizer can take, count as U+FFFD.
        """
        return list(self._encode_cached(text))

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a whole prompt in Tanuki's format, from ``<s>`` to the generation prompt.

        Raises InputError unless user and assistant take turns (see :func:`~tanuki_cli.prompt.segments`).
        """
        parts = segments(messages)
        if self._whole_only and not any(self._spelling.search(self._normalize(part)) for part in parts):
            return self._encode_whole(parts)
        ids = [self.bos_id]
        for index, part in enumerate(parts):
            if index:
                ids.append(self.eos_id)
            ids.extend(self._encode_cached(part))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; control ids are left out, broken UTF-8 shows as U+FFFD."""
        if self._file.plain:  # it cannot fail, and every token of every answer comes through here twice
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        with self._faults():
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def detokenize(self, ids: Iterable[int], *, prompt_ids: Sequence[int] = ()) -> Iterator[str]:
        """Text of each id as it comes; joined, exactly what decoding all of them at once gives.

        Gives one string per id, empty while a character is incomplete, and one more at the end if
        something was withheld. ``prompt_ids`` is what came before; without it a first leading space
        could be lost.
        """
        detokenizer = self.detokenizer(prompt_ids)
        for id_ in ids:
            yield detokenizer.feed(id_)
        if rest := detokenizer.flush():
            yield rest

    def detokenizer(self, prompt_ids: Sequence[int] = ()) -> Detokenizer:
        """For the text of ids that come after ``prompt_ids``, one by one."""
        context = [id_ for id_ in prompt_ids[-8:] if id_ in self._ending_ids][-1:]
        return Detokenizer(
            self.decode, self._decode_cached, self._ending_ids, context, additive=self._file.additive
        )

    def complete_length(self, ids: Sequence[int]) -> int:
        """How many of ``ids`` are whole text: those after it may be the beginning of a character."""
        length = len(ids)
        while length and ids[length - 1] not in self._ending_ids:
            length -= 1
        return length

    def _normalize(self, text: str) -> str:
        return self._normalized((text,))[0]

    def _normalized(self, texts: Iterable[str]) -> list[str]:
        clean = [_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text) for text in texts]
        normalizer = self._tokenizer.normalizer
        with self._faults():
            return clean if normalizer is None else [str(normalizer.normalize_str(text)) for text in clean]

    def _encode(self, text: str) -> tuple[int, ...]:
        normal = self._normalize(text)
        cuts = [match.start() + 1 for match in self._spelling.finditer(normal)]
        parts = [normal[start:end] for start, end in pairwise([0, *cuts, len(normal)])]
        with self._faults():
            encoded = self._splitter.encode_batch_fast(parts, add_special_tokens=False)
        return tuple(chain.from_iterable(encoding.ids for encoding in encoded))

    def _encode_whole(self, parts: Sequence[str]) -> list[int]:
        bos, eos = (self._tokenizer.id_to_token(id_) or "" for id_ in (self.bos_id, self.eos_id))
        with self._faults():
            return list(self._tokenizer.encode(bos + eos.join(parts), add_special_tokens=False).ids)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with translated_faults(quiet=not self._file.plain):
                yield
        except TokenizerFault as exc:
            raise DamagedModelError(_("The tokenizer fails on a text: its file is damaged.")) from exc


def _any_of(spellings: Collection[str]) -> re.Pattern[str]:
    """Finds each of ``spellings``: the longest first, so that one inside another cannot hide the longer."""
    usual = _USUAL_BYTES if _USUAL_BYTES.issubset(spellings) else frozenset()
    lengths = {re.escape(spelling): len(spelling) for spelling in spellings if spelling not in usual}
    if usual:
        lengths[_USUAL_BYTE] = len("<0x00>")
    return re.compile("|".join(sorted(lengths, key=lambda one: lengths[one], reverse=True)) or r"(?!)")


def _without_normalizer(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer for texts that are normalised already: a second time could change them."""
    content = json.loads(tokenizer.to_str())
    content["normalizer"] = None
    return Tokenizer.from_str(json.dumps(content))
