"""Which ids are run and which are scored: each once, answers only in chats, llama.cpp's chunks on request."""

from collections import Counter

import pytest

from tanuki_cli.conversation import Conversation, ConversationSettings, Message
from tanuki_cli.evaluation.compare.passages import cut_like_llama_cpp, cut_texts, digest, limited
from tanuki_cli.evaluation.compare.texts import Chat, Document, built_in_texts, conversation_texts
from tanuki_cli.tokenizer import ChatTokenizer

STORY = "むかし、あるところに、おじいさんとたぬきが住んでいました。毎日、山へ柴刈りに行きます。" * 12
TURNS = (
    Message("user", "たぬきは何を食べますか?"),
    Message("assistant", "木の実や虫です。\n\n1. 柿\n2. どんぐり"),
    Message("user", "ありがとう"),
    Message("assistant", "どういたしまして</s>。"),
)


@pytest.mark.parametrize("context_length", [16, 17, 64, 4096])
def test_every_id_of_a_document_is_scored_once(
    practice_tokenizer: ChatTokenizer, context_length: int
) -> None:
    body = practice_tokenizer.encode(STORY)
    passages = cut_texts([Document("x", "story", STORY)], practice_tokenizer, context_length=context_length)
    scored: list[int] = []
    for index, passage in enumerate(passages):
        assert len(passage.ids) <= context_length
        assert passage.ids[0] == practice_tokenizer.bos_id
        assert min(passage.targets) >= (1 if index == 0 else context_length // 2)
        scored += [passage.ids[place] for place in passage.targets]
    assert scored == body


def test_a_window_goes_on_with_what_came_before(practice_tokenizer: ChatTokenizer) -> None:
    ids = [practice_tokenizer.bos_id, *practice_tokenizer.encode(STORY)]
    done = 1
    for passage in cut_texts([Document("x", "story", STORY)], practice_tokenizer, context_length=64):
        start = done - passage.targets[0]
        assert list(passage.ids[1:]) == ids[start + 1 : start + len(passage.ids)]
        done += len(passage.targets)


def test_of_a_chat_only_the_answers_are_scored(practice_tokenizer: ChatTokenizer) -> None:
    [passage] = cut_texts([Chat("x", "1", TURNS)], practice_tokenizer, context_length=512)
    assert list(passage.ids) == practice_tokenizer.encode_chat(TURNS)
    spoken = [message.content for message in TURNS if message.role == "assistant"]
    eos = practice_tokenizer.eos_id
    runs: list[list[int]] = [[]]
    for place in passage.targets:
        runs[-1].append(passage.ids[place])
        if passage.ids[place] == eos:
            runs.append([])
    assert runs.pop() == []  # the end of the last answer is scored, too
    assert [practice_tokenizer.decode(run[:-1]) for run in runs] == spoken


def test_a_chat_that_is_too_long_loses_its_oldest_turns(practice_tokenizer: ChatTokenizer) -> None:
    question = Message("user", "もう一度、はじめから話してください。")
    turns = (question, Message("assistant", STORY), *TURNS)
    whole = practice_tokenizer.encode_chat(turns)
    [passage] = cut_texts([Chat("x", "1", turns)], practice_tokenizer, context_length=len(whole) - 1)
    assert list(passage.ids) == practice_tokenizer.encode_chat(TURNS)
    [passage] = cut_texts([Chat("x", "1", (question, turns[1]))], practice_tokenizer, context_length=100)
    assert len(passage.ids) == 100  # one turn alone that is too long: its beginning
    assert passage.targets == tuple(range(passage.targets[0], 100))


def test_chunks_are_llama_cpps(practice_tokenizer: ChatTokenizer) -> None:
    """Whole chunks only, <s> first in each, scored from the middle on: n_ctx - 1 - n_ctx // 2 of each."""
    tokenizer, n_ctx = practice_tokenizer, 65
    ids = [tokenizer.bos_id, *tokenizer.encode(STORY)]
    passages = cut_like_llama_cpp([Document("x", "story", STORY)], tokenizer, n_ctx=n_ctx)
    assert len(passages) == len(ids) // n_ctx
    for index, passage in enumerate(passages):
        assert list(passage.ids) == [tokenizer.bos_id, *ids[index * n_ctx + 1 : (index + 1) * n_ctx]]
        # Rows first … n_ctx - 2 of the logits, each about the id after it.
        assert [place - 1 for place in passage.targets] == list(range(n_ctx // 2, n_ctx - 1))


def test_less_than_two_chunks_are_none(practice_tokenizer: ChatTokenizer) -> None:
    ids = [practice_tokenizer.bos_id, *practice_tokenizer.encode(STORY)]
    text = [Document("x", "story", STORY)]
    assert cut_like_llama_cpp(text, practice_tokenizer, n_ctx=len(ids) // 2 + 1) == []
    assert len(cut_like_llama_cpp(text, practice_tokenizer, n_ctx=len(ids) // 2)) == 2


def test_the_texts_of_a_category_are_one_for_chunks(practice_tokenizer: ChatTokenizer) -> None:
    half = len(STORY) // 2
    parts = [Document("x", "1", STORY[:half]), Document("y", "o", STORY), Document("x", "2", STORY[half:])]
    passages = cut_like_llama_cpp(parts, practice_tokenizer, n_ctx=64)
    ids = [practice_tokenizer.bos_id]
    ids += practice_tokenizer.encode(STORY[:half]) + practice_tokenizer.encode(STORY[half:])
    own = [passage for passage in passages if passage.category == "x"]
    assert [id_ for passage in own for id_ in passage.ids[1:]] == [
        id_ for place, id_ in enumerate(ids[: 64 * len(own)]) if place % 64
    ]


def test_a_limit_holds_for_every_category(practice_tokenizer: ChatTokenizer) -> None:
    passages = cut_texts(built_in_texts(), practice_tokenizer, context_length=256)
    count = Counter[str]()
    for passage in limited(passages, places=333):
        count[passage.category] += len(passage.targets)
    assert count == dict.fromkeys(("prose", "dialogue", "code", "english"), 333)
    assert limited(passages, places=10**9) == passages


def test_a_digest_names_ids_and_places(practice_tokenizer: ChatTokenizer) -> None:
    passages = cut_texts(built_in_texts(), practice_tokenizer, context_length=256)
    assert digest(passages) == digest(list(passages))
    assert digest(passages) != digest(passages[1:])
    assert digest(passages) != digest(limited(passages, places=100))


def test_a_history_is_its_answered_paths() -> None:
    answered, asked, empty = Conversation(), Conversation(), Conversation()
    answered.settings = ConversationSettings(persona="たぬきとして答えて。")
    for conversation in (answered, asked):
        conversation.append(Message("user", "問い"))
    answered.append(Message("assistant", "答え"))
    answered.append(Message("user", "つぎの問い"))
    [chat] = conversation_texts([answered, asked, empty])
    assert isinstance(chat, Chat)
    assert chat.messages == (
        Message("user", "たぬきとして答えて。\n\n問い"),
        Message("assistant", "答え"),
    )
