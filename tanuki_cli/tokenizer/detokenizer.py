"""The text of ids while they come."""

from collections.abc import Callable, Sequence


class Detokenizer:
    """Text of each id as it comes; see :meth:`~tanuki_cli.tokenizer.ChatTokenizer.detokenize`.

    A byte run decodes as a whole: one bad byte turns all of its characters into U+FFFD. So a run is
    withheld until one of ``ending_ids``, which are visible, ends it; skipped ids do not end it. ``context``
    is what the first of its ids is decoded behind. ``decode_cached`` does the same as ``decode``, for what
    comes often. ``additive`` says that nothing but such runs is decoded together.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        decode_cached: Callable[[tuple[int, ...]], str],
        ending_ids: frozenset[int],
        context: list[int],
        *,
        additive: bool = False,
    ) -> None:
        self._decode = decode
        self._decode_cached = decode_cached
        self._ending_ids = ending_ids
        self._context = context
        self._head = decode(context)
        self._run: list[int] = []
        self._additive = additive

    def feed(self, id_: int) -> str:
        """The text that ``id_`` completes; empty while a character is incomplete."""
        if id_ not in self._ending_ids:
            self._run.append(id_)
            return ""
        text = head = self._decode_cached((id_,))
        if self._run or not self._additive:
            text = self._decode([*self._context, *self._run, id_])[len(self._head) :]
            self._run = []
        self._context, self._head = [id_], head
        return text

    def flush(self) -> str:
        """What was withheld, at the end."""
        run, self._run = self._run, []
        return self._decode(self._context + run)[len(self._head) :] if run else ""
