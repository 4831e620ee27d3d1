"""What is run through every model: ids, and the places of them that are scored.

Each id is scored once at most. A document that is longer than the context is cut into windows that overlap
by half, so that from the second on every scored id has at least half a context before it; every window
begins with ``<s>``, as in training. A chat that is too long loses its oldest turns.

With :func:`cut_like_llama_cpp` the ids of a category are cut as llama.cpp's perplexity tool cuts a file.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from msgspec import Struct

from tanuki_cli.engines.token_model import shared_prefix
from tanuki_cli.errors import PromptTooLongError
from tanuki_cli.evaluation.compare.texts import Chat, Document, Text
from tanuki_cli.prompt import fit_context
from tanuki_cli.tokenizer import ChatTokenizer


class Passage(Struct, frozen=True):
    """``ids`` for one pass through a model; ``targets`` are places of ids that are scored, in order,
    none of them the first."""

    category: str
    name: str
    ids: tuple[int, ...]
    targets: tuple[int, ...]


def cut_texts(texts: Iterable[Text], tokenizer: ChatTokenizer, *, context_length: int) -> list[Passage]:
    """Whole documents, and the answers of chats, in passages of at most ``context_length`` ids."""
    found: list[Passage] = []
    for text in texts:
        if isinstance(text, Document):
            body = tokenizer.encode(text.text)
            found.extend(_windows(text, [tokenizer.bos_id, *body], context_length))
        else:
            found.append(_chat_passage(text, tokenizer, context_length))
    return [passage for passage in found if passage.targets]


def cut_like_llama_cpp(texts: Iterable[Text], tokenizer: ChatTokenizer, *, n_ctx: int) -> list[Passage]:
    """Chunks of ``n_ctx`` ids in a row, the first of each replaced by ``<s>``, scored in the second half.

    The texts of a category count as one; what is left at its end is dropped, and a category of fewer than
    two chunks with it, as that tool wants it. In chats every id counts.
    """
    found: list[Passage] = []
    for category, group in groupby(sorted(texts, key=lambda text: text.category), lambda text: text.category):
        ids = [tokenizer.bos_id]
        for text in group:
            ids += (
                tokenizer.encode_chat(text.messages)[1:]
                if isinstance(text, Chat)
                else tokenizer.encode(text.text)
            )
        if len(ids) < 2 * n_ctx:
            continue
        for index, start in enumerate(range(0, len(ids) - n_ctx + 1, n_ctx)):
            chunk = (tokenizer.bos_id, *ids[start + 1 : start + n_ctx])
            found.append(Passage(category, str(index + 1), chunk, tuple(range(n_ctx // 2 + 1, n_ctx))))
    return found


def limited(passages: Sequence[Passage], *, places: int) -> list[Passage]:
    """At most ``places`` scored places of each category, whole passages but for the last."""
    left: dict[str, int] = {}
    found = []
    for passage in passages:
        room = left.setdefault(passage.category, places)
        targets = passage.targets[:room]
        if targets:
            found.append(Passage(passage.category, passage.name, passage.ids, targets))
        left[passage.category] = room - len(targets)
    return found


def digest(passages: Iterable[Passage]) -> str:
    """Names exactly these ids and places."""
    content = hashlib.sha256()
    for passage in passages:
        content.update(repr((passage.category, passage.ids, passage.targets)).encode())
    return content.hexdigest()


def _windows(text: Document, ids: list[int], context_length: int) -> Iterator[Passage]:
    half = context_length // 2
    start, done = 0, 1  # ``done`` ids are scored already, the first never is
    while done < len(ids):
        window = (ids[0], *ids[start + 1 : start + context_length])
        targets = tuple(range(done - start, len(window)))
        yield Passage(text.category, text.name, window, targets)
        done = start + len(window)
        start = done - half


def _chat_passage(text: Chat, tokenizer: ChatTokenizer, context_length: int) -> Passage:
    try:
        messages = fit_context(text.messages, tokenizer, max_prompt_tokens=context_length)
    except PromptTooLongError:  # the last turn alone is too long: its beginning is scored
        head = [message for message in text.messages[:1] if message.role == "system"]
        messages = [*head, *text.messages[-2:]]
    ids = tokenizer.encode_chat(messages)
    targets: list[int] = []
    for index, message in enumerate(messages):
        if message.role == "assistant":
            # Where a tokenizer merges over the border, the answer begins where the ids part.
            start = shared_prefix(tokenizer.encode_chat(messages[:index]), ids)
            end = shared_prefix(tokenizer.encode_chat(messages[: index + 1]), ids)
            targets += range(max(start, 1), end)
    kept = ids[:context_length]
    return Passage(
        text.category, text.name, tuple(kept), tuple(place for place in targets if place < len(kept))
    )
