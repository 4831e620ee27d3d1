"""Keeping an answer to its shape with llguidance: masks over a model's own pieces.

llguidance gets the bytes of every piece from us, and asks us for the ids of text that it wants to force.
It is never given tokenizer.json: the normaliser in there turns （ into (, and the ids of what it did not
ask for would end the answer. Text that the normaliser would change is spelled in single bytes.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

import llguidance
import numpy as np
import numpy.typing as npt

from tanuki_cli.engines.shapes.schema import with_quoted_references
from tanuki_cli.engines.shapes.shape import Shape
from tanuki_cli.errors import EngineError, brief
from tanuki_cli.i18n import _
from tanuki_cli.tokenizer import ChatTokenizer

_BLANKS: Final = r"[\x20\x0A\x09]{1,16}"
"""White space between the parts of JSON. Without a bound a model may fill its answer with it; without any
many write no second item into an array. A carriage return alone is made visible where text is printed, and
what is printed would be no JSON then."""
_ESCAPES: Final = 'nrbtf\\"'
r"""No \uXXXX: Japanese is written as it is."""
_BYTES: Final = 256


class Guide:
    """The pieces of one tokenizer, as llguidance needs them. Made once for a model: takes about 0.2 s."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._native = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Pieces(tokenizer)),
            n_vocab=tokenizer.vocab_size,
            eos_token=tokenizer.eos_id,
        )

    def mask(self, shape: Shape, begun: Sequence[int] = ()) -> "ShapeMask":
        """A mask for one answer that begins with the ids ``begun``.

        Raises EngineError if these do not begin an answer of the shape.
        """
        mask = ShapeMask(
            llguidance.LLMatcher(self._native, _grammar(shape), log_level=0),
            n_vocab=self._tokenizer.vocab_size,
            eos_id=self._tokenizer.eos_id,
        )
        mask.take(begun)
        return mask


class ShapeMask:
    """Implements :class:`~tanuki_cli.engines.masks.LogitsMask`: one answer of a shape."""

    def __init__(self, matcher: Any, *, n_vocab: int, eos_id: int) -> None:
        self._matcher = matcher
        self._n_vocab = n_vocab
        self._eos_id = eos_id
        self._taken = 0
        self._forced: list[int] = []
        self._bits = np.zeros(-(-n_vocab // 32), dtype=np.int32)
        self._check()

    def take(self, ids: Sequence[int]) -> None:
        """Go on after ``ids``, which were there before the answer that the caller counts."""
        for id_ in ids:
            self._consume(id_)

    def allowed(self, ids: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Which ids may follow; see ``LogitsMask``."""
        self._go_to(ids)
        bits = self._bits
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        self._check()
        flags = np.unpackbits(bits.view(np.uint8), count=self._n_vocab, bitorder="little")
        return flags.view(np.bool_)

    def forced(self, ids: Sequence[int]) -> Sequence[int]:
        """What must follow; see ``LogitsMask``.

        What was forced once is kept to the end, so that the ids are the same whether they are asked for
        together or one by one.
        """
        self._go_to(ids)
        if not self._forced:
            self._forced = [self._eos_id] if self._is_over() else self._matcher.compute_ff_tokens()
            self._check()
        return self._forced

    def agreed(self, ids: Sequence[int], draft: Sequence[int]) -> int:
        """How many may follow; see ``LogitsMask``."""
        self._go_to(ids)
        return int(self._matcher.validate_tokens(list(draft)))

    def _is_over(self) -> bool:
        over = bool(self._matcher.is_stopped())
        self._check()
        return over

    def _go_to(self, ids: Sequence[int]) -> None:
        for id_ in ids[self._taken :]:
            self._consume(id_)
            self._taken += 1

    def _consume(self, id_: int) -> None:
        self._forced = self._forced[1:] if self._forced[:1] == [id_] else []
        self._matcher.consume_token(id_)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EngineError(
                _("The answer cannot be kept to its shape: {reason}").format(
                    reason=_first_line(self._matcher.get_error())
                ),
                hint=_("Make the shape simpler, and its lists and texts shorter: tanuki help shapes"),
            )


def fault(shape: Shape) -> str:
    """Why the shape cannot be used, in the words of llguidance; empty if it can."""
    try:
        grammar = _grammar(shape)
    except ValueError as exc:  # a number that it has no room for
        return brief(exc)
    failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar, _byte_tokenizer())
    return _first_line(messages[0]) if failed else ""


def accepts(shape: Shape, text: str) -> bool:
    """Whether ``text`` is a whole answer of the shape, whatever ids it came from."""
    matcher = llguidance.LLMatcher(_byte_tokenizer(), _grammar(shape), log_level=0)
    content = text.encode("utf-8", "surrogatepass")
    return matcher.try_consume_tokens(list(content)) == len(content) and matcher.is_accepting()


def _grammar(shape: Shape) -> str:
    matcher = llguidance.LLMatcher
    if shape.is_json:
        options: Any = {"whitespace_pattern": _BLANKS, "json_allowed_escapes": _ESCAPES}
        schema = with_quoted_references(json.loads(shape.text))
        return str(matcher.grammar_from_json_schema(schema, overrides=options))
    if shape.kind == "choices":
        answers = (json.dumps(answer, ensure_ascii=False) for answer in shape.choices)
        return str(matcher.grammar_from_lark(f"start: {' | '.join(answers)}"))
    if shape.kind == "regex":
        # \d is 0 to 9, as people mean it; else it were every digit of every script, １ among them.
        pattern = llguidance.regex_to_lark(shape.text, "d")
        return str(matcher.grammar_from_lark(f"start: /{pattern}/"))
    return str(matcher.grammar_from_lark(shape.text))


def _first_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    # A regular expression's error comes with the expression and a pointer into it.
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (reasons or lines or [""])[0]


class _Pieces:
    """A tokenizer in the form that llguidance's wrapper takes; it looks these names up."""

    bos_token_id = None

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.eos_token_id = tokenizer.eos_id
        # What has no text, such as rows of the embedding without a piece, has no bytes: it never comes.
        self.tokens = [tokenizer.piece_bytes(id_) for id_ in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.control_ids)
        self._tokenizer = tokenizer
        self._byte_ids = {
            self.tokens[id_][0]: id_ for id_ in range(tokenizer.vocab_size) if tokenizer.is_byte(id_)
        }

    def __call__(self, content: bytes) -> list[int]:
        """Ids whose bytes are exactly ``content``, which is UTF-8."""
        text = content.decode()
        return self._exact(text) or [
            id_
            for _same, run in groupby(text, key=lambda character: self._exact(character) is not None)
            for part in ["".join(run)]
            for id_ in self._exact(part) or [self._byte_ids[byte] for byte in part.encode()]
        ]

    def _exact(self, text: str) -> list[int] | None:
        ids = self._tokenizer.encode(text)
        return ids if b"".join(self.tokens[id_] for id_ in ids) == text.encode() else None


class _SingleBytes:
    """A tokenizer whose ids are bytes: what text is of a shape, without any model."""

    bos_token_id = None
    eos_token_id = _BYTES
    special_token_ids: Sequence[int] = (_BYTES,)
    tokens: Sequence[bytes] = (*(bytes([byte]) for byte in range(_BYTES)), b"")

    def __call__(self, content: bytes) -> list[int]:
        return list(content)


@lru_cache(maxsize=1)
def _byte_tokenizer() -> Any:
    wrapper = llguidance.TokenizerWrapper(_SingleBytes())
    return llguidance.LLTokenizer(wrapper, n_vocab=_BYTES + 1, eos_token=_BYTES)
