"""The text of ids while they come."""

from collections.abc import Callable, Sequence


class Detokenizer:
    """Text of each id as it comes; see :meth:`~tanuki_cli.tokenizer.ChatTokenizer.detokenize`.

    A byte run decodes as a whole: one bad byte turns all of its characters into U+FFFD. So a run is
    withheld until one of ``ending_ids``, which are visible, ends it; skipped ids do not end it. ``context``
    is what the first of its ids is decoded behind. ``decode_cached`` does the same as ``decode``, for what
    comes often.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        decode_cached: Callable[[tuple[int, ...]], str],
        ending_ids: frozenset[int],
        context: list[int],
    ) -> None:
        self._decode = decode
        self._decode_cached = decode_cached
        self._ending_ids = ending_ids
        self._context = context
        self._head = decode(context)
        self._run: list[int] = []

    def feed(self, id_: int) -> str:
        """The text that ``id_`` completes; empty while a character is incomplete."""
        self._run.append(id_)
        if id_ not in self._ending_ids:
            return ""
        text = self._decode(self._context + self._run)[len(self._head) :]
        self._context, self._run = [id_], []
        self._head = self._decode_cached((id_,))
        return text

    def flush(self) -> str:
        """What was withheld, at the end."""
        run, self._run = self._run, []
        return self._decode(self._context + run)[len(self._head) :] if run else ""
