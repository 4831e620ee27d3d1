"""Tanuki's prompt format, and fitting a conversation into the context.

The format is the one of the model's training configuration and card: the system prompt, then for
every turn a blank line, ``### 指示:``, the user's text, a blank line, ``### 応答:`` and the answer.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol

from tanuki_cli.conversation import Message
from tanuki_cli.errors import InputError, PromptTooLongError
from tanuki_cli.i18n import _
from tanuki_cli.text.counts import about

SYSTEM_TEXT: Final = "以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。"
INSTRUCTION_HEADING: Final = "\n\n### 指示:\n"
RESPONSE_HEADING: Final = "\n\n### 応答:\n"

_MARKER_LINE: Final = re.compile(r"\s*#{3}\s*(?:指示|応答)\s*:")
_HEADING: Final = re.compile(r"#{3}\s*(?:指示|応答)\s*:")
_LINE_BREAK: Final = re.compile("(\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])")
_INVISIBLE: Final = re.compile(
    "[\0-\x08\x0e-\x1b\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Control characters, and those that Unicode gives no width: a reader sees the line without them."""


def segments(messages: Sequence[Message]) -> list[str]:
    """The prompt's text, split where a control id stands.

    ``<s>`` comes before the first segment and ``</s>`` between two: the first holds the system prompt
    and the first question, each later one starts with the next question. An answer ends the segment
    of its question. The last one ends with the generation prompt if the last message is the user's.

    Raises InputError unless user and assistant take turns, beginning with the user, after at most one
    system message.
    """
    turns = list(messages)
    system = SYSTEM_TEXT
    if turns and turns[0].role == "system":
        system = turns.pop(0).content
    parts = [system]
    for index, message in enumerate(turns):
        _require_turn(message, index, before=len(messages) - len(turns))
        if message.role == "user":
            parts[-1] += INSTRUCTION_HEADING + message.content + RESPONSE_HEADING
        else:
            parts[-1] += message.content
            parts.append("")
    return parts


def _require_turn(message: Message, index: int, *, before: int) -> None:
    """Raise InputError unless ``message`` may be at ``index`` of the turns; ``before`` come first."""
    if message.role != ("user", "assistant")[index % 2]:
        raise InputError(
            _("Message {number} of the conversation cannot be from {role}.").format(
                number=before + index + 1, role=message.role
            ),
            hint=_("After at most one system message, user and assistant take turns; the user begins."),
        )


def guard_markers(text: str) -> tuple[str, int]:
    """Keep lines of foreign text that imitate a turn heading from opening a turn.

    A backslash before ``###`` does it, as in Markdown. A line is whatever looks like one, and is compared
    as a reader sees it: after NFKC, as the tokenizer sees it, and without characters that take no place.
    Returns the text and the number of lines changed.
    """
    normal = unicodedata.normalize("NFKC", text)
    if "#" not in normal or not _HEADING.search(_INVISIBLE.sub("", normal)):
        return text, 0  # most text, however long
    parts = _LINE_BREAK.split(text)  # a line, a break, a line, …
    changed = 0
    for index in range(0, len(parts), 2):
        if _MARKER_LINE.match(_INVISIBLE.sub("", unicodedata.normalize("NFKC", parts[index]))):
            parts[index] = "\\" + parts[index].lstrip()
            changed += 1
    return "".join(parts), changed


def guarded(text: str, *, name: str, note: Callable[[str], None]) -> str:
    """Foreign ``text`` as it may go into a prompt; ``note`` is told of lines changed in ``name``."""
    safe, changed = guard_markers(text)
    if changed:
        note(
            _(
                "{count} line(s) in {name} look like a turn of the prompt format; "
                "a backslash was put before them."
            ).format(count=changed, name=name)
        )
    return safe


def with_persona(messages: Sequence[Message], persona: str | None) -> list[Message]:
    """``messages`` as the model is to see them: ``persona``, then a blank line, before every question.

    Before every one, because then dropping old turns does not lose it, and because the beginning of
    the prompt stays the same from turn to turn, so that its KV cache can be used again.
    """
    if not persona:
        return list(messages)
    return [
        _question_with(persona, message.content) if message.role == "user" else message
        for message in messages
    ]


@lru_cache(maxsize=1 << 14)  # the questions of a long conversation: they are asked with every turn
def _question_with(persona: str, question: str) -> Message:
    return Message("user", f"{persona}\n\n{question}")


class TurnSizes:
    """How many tokens each turn of a conversation takes; ``count`` gives those of a text.

    What was counted is remembered until another conversation comes: as one grows, only its new turns are
    looked at. Several threads may ask.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._known: tuple[list[Message], list[int]] = ([], [0])

    def sums(self, turns: list[Message], *, before: int) -> list[int]:
        """The tokens of all turns before each turn, and at the end those of all of them.

        ``before`` messages come before them. Raises InputError unless user and assistant take turns.
        """
        known, sums = self._known
        if turns[: len(known)] != known:
            shared = next(index for index, one in enumerate(known) if [one] != turns[index : index + 1]) // 2
            known, sums = known[: 2 * shared], sums[: shared + 1]
        sums = sums.copy()
        for start in range(len(known), len(turns), 2):
            turn = turns[start : start + 2]
            for index, message in enumerate(turn, start=start):
                _require_turn(message, index, before=before)
            text = segments([Message("system", ""), *turn])[0]
            sums.append(sums[-1] + self._count(text) + 1)  # and the </s> before it, or <s>
        whole = len(turns) // 2
        self._known = turns[: 2 * whole], sums[: whole + 1]
        return sums


class ChatEncoder(Protocol):
    """What fitting needs of a tokenizer."""

    turn_sizes: TurnSizes

    @property
    def pieces(self) -> Mapping[str, int]:
        """The vocabulary: the id of each piece."""

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the whole prompt."""


def fit_context(
    messages: Sequence[Message], encoder: ChatEncoder, *, max_prompt_tokens: int
) -> list[Message]:
    """Drop whole oldest turns until the prompt has at most ``max_prompt_tokens``.

    The system message and the newest question always stay. When turns must go, enough go to reach
    the next quarter of the limit: the start of the prompt, and with it the KV cache, then stays the
    same for several turns. Depends on nothing but its arguments, so a resumed chat sees the same.
    What was dropped before is not tokenised again, so that a turn takes no longer than one before it.

    Raises PromptTooLongError if the newest question alone is too long, and InputError as :func:`segments`.
    """
    head = [message for message in messages[:1] if message.role == "system"]
    turns = list(messages[len(head) :])
    _refuse_what_cannot_fit(turns[-1].content, encoder, max_prompt_tokens=max_prompt_tokens)
    sums = encoder.turn_sizes.sums(turns, before=len(head))
    total = len(encoder.encode_chat(head)) - 1 + sums[-1]

    def size_without(dropped_turns: int) -> int:
        return len(encoder.encode_chat(head + turns[2 * dropped_turns :]))

    if total <= 2 * max_prompt_tokens:  # turns that are tokenised together may take a little less
        total = size_without(0)
        if total <= max_prompt_tokens:
            return list(messages)
    most = (len(turns) - 1) // 2  # dropping more would drop the newest question
    step = max(1, max_prompt_tokens // 4)
    target = max_prompt_tokens - (-(total - max_prompt_tokens) % step)
    for limit in (target, max_prompt_tokens):
        dropped = bisect_left(sums, total - limit, hi=most + 1)
        while dropped <= most and size_without(dropped) > limit:
            dropped += 1
        if dropped <= most:
            return head + turns[2 * dropped :]
    raise prompt_too_long(
        turns[-1].content,
        prompt_tokens=size_without(most),
        limit=max_prompt_tokens,
        fixed_tokens=len(encoder.encode_chat([*head, Message("user", "")])),
    )


_SAMPLE_CHARACTERS: Final = 4096
_LEAST_NORMALISED: Final = 4
"""NFKC makes at least one character of this many."""


def _refuse_what_cannot_fit(text: str, encoder: ChatEncoder, *, max_prompt_tokens: int) -> None:
    """Raise PromptTooLongError, with an estimate of the tokens, for a text that is too long whatever stands
    in it: tokenising takes a hundred bytes of memory for each of its own."""
    limit = _LEAST_NORMALISED * max_prompt_tokens
    if len(text) <= limit:
        return
    limit *= max(map(len, encoder.pieces), default=1)
    if len(text) > limit:
        tokens = len(encoder.encode_chat([Message("user", text[:_SAMPLE_CHARACTERS])]))
        raise prompt_too_long(
            text,
            prompt_tokens=max(tokens * len(text) // _SAMPLE_CHARACTERS, max_prompt_tokens + 1),
            limit=max_prompt_tokens,
        )


def prompt_too_long(
    text: str, *, prompt_tokens: int, limit: int, fixed_tokens: int = 0
) -> PromptTooLongError:
    """The error for one message that cannot fit, with how many characters to cut (rounded up).

    ``fixed_tokens`` of the prompt stay however short ``text`` gets.
    """
    excess = prompt_tokens - limit
    characters = -(-excess * max(len(text), 1) // max(prompt_tokens - fixed_tokens, 1))
    characters = -(-characters // 10) * 10
    return PromptTooLongError(
        _(
            "The message is too long by about {characters} characters: the prompt has {prompt_tokens} "
            "tokens, the limit is {limit}."
        ).format(prompt_tokens=prompt_tokens, limit=limit, characters=about(characters, rounded="up")),
        hint=_(
            "Shorten it, use --truncate or --chunked, lower --max-new-tokens, or raise --context-length "
            "where the model allows it."
        ),
        prompt_tokens=prompt_tokens,
        limit=limit,
        excess_characters=characters,
    )
