"""Tanuki's prompt format, as the practice model is trained on it."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from tanuki_cli.prompt import INSTRUCTION_HEADING, RESPONSE_HEADING, SYSTEM_TEXT

BOS, EOS, PAD = 1, 2, 3
SYSTEM, QUESTION_HEAD, ANSWER_HEAD = SYSTEM_TEXT, INSTRUCTION_HEADING, RESPONSE_HEADING
Turn = tuple[str, str]  # question, answer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of the text alone, without <s>."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def encode_prompt(
    tokenizer: Tokenizer, turns: Sequence[Turn], question: str, system: str = SYSTEM
) -> list[int]:
    """Ids of finished turns and of a new question, up to where the answer begins."""
    ids = [BOS, *encode(tokenizer, system)]
    for asked, answered in turns:
        ids += encode(tokenizer, QUESTION_HEAD + asked + ANSWER_HEAD)
        ids += [*encode(tokenizer, answered), EOS]
    return ids + encode(tokenizer, QUESTION_HEAD + question + ANSWER_HEAD)


def encode_dialogue(
    tokenizer: Tokenizer, turns: Sequence[Turn], system: str = SYSTEM
) -> tuple[list[int], list[bool]]:
    """Ids of a whole dialogue, and for every id whether it is learned (answers and </s>)."""
    ids = [BOS, *encode(tokenizer, system)]
    learned = [False] * len(ids)
    for asked, answered in turns:
        head = encode(tokenizer, QUESTION_HEAD + asked + ANSWER_HEAD)
        body = [*encode(tokenizer, answered), EOS]
        ids += head + body
        learned += [False] * len(head) + [True] * len(body)
    return ids, learned
