"""The exact tokenizer out of a GGUF file's own metadata, where the file holds what it takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import Unigram

from tanuki_cli.engines.llama_cpp.gguf import GgufValue
from tanuki_cli.tokenizer.file import TokenizerFault, are_possible, translated_faults

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_ADDED: Final = frozenset({_UNKNOWN, _CONTROL, _USER_DEFINED})
_SPECIAL: Final = frozenset({_UNKNOWN, _CONTROL})
_SPACE: Final = "▁"


def tokenizer_from_metadata(metadata: Mapping[str, GgufValue]) -> Tokenizer | None:
    """Tanuki's kind of tokenizer, SentencePiece Unigram with byte fallback and NFKC.

    None where the file does not hold one: another kind, or scores that are placeholders, as in the
    official GGUF files (there the hub's tokenizer.json is needed).
    """
    pieces = _strings(metadata.get("tokenizer.ggml.tokens"))
    scores = _numbers(metadata.get("tokenizer.ggml.scores"))
    kinds = _numbers(metadata.get("tokenizer.ggml.token_type"))
    if not len(pieces) == len(scores) == len(kinds) or not _scores_are_real(scores, kinds):
        return None
    count = len(pieces)
    while kinds[count - 1] == _UNUSED:  # padding of the embedding, not pieces
        count -= 1
    unknown_id = next((id_ for id_, kind in enumerate(kinds) if kind == _UNKNOWN), None)
    if unknown_id is None or not are_possible(pieces[:count]):
        return None
    vocabulary = [
        (piece, score if kind == _NORMAL else 0.0)
        for piece, score, kind in zip(pieces[:count], scores, kinds, strict=False)
    ]
    try:
        with translated_faults(quiet=True):
            return _make(vocabulary, kinds, unknown_id)
    except TokenizerFault:
        return None


def _make(vocabulary: Sequence[tuple[str, float]], kinds: Sequence[float], unknown_id: int) -> Tokenizer:
    tokenizer = Tokenizer(Unigram(list(vocabulary), unk_id=unknown_id, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", _SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_tokens(
        [
            AddedToken(piece, normalized=False, special=kind in _SPECIAL)
            for (piece, _score), kind in zip(vocabulary, kinds, strict=False)
            if kind in _ADDED
        ]
    )
    return tokenizer


def _scores_are_real(scores: Sequence[float], kinds: Sequence[float]) -> bool:
    """Log-probabilities are fractions; placeholders are one constant, or ranks counted down."""
    normal = {score for score, kind in zip(scores, kinds, strict=True) if kind == _NORMAL}
    fractions = sum(not float(score).is_integer() for score in normal)
    return all(map(math.isfinite, normal)) and 2 < len(normal) < 2 * fractions


def _strings(value: GgufValue | None) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _numbers(value: GgufValue | None) -> list[float]:
    return [item for item in value if isinstance(item, (int, float))] if isinstance(value, list) else []
