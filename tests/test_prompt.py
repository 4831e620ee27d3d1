"""The prompt format, foreign text that imitates it, and fitting a conversation into the context."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.errors import ExitCode, InputError, PromptTooLongError
from tanuki_cli.prompt import SYSTEM_TEXT, fit_context, guard_markers, segments, with_persona
from tanuki_cli.tokenizer import ChatTokenizer
from tests.conftest import small_unigram
from tests.support.calls import calls_of

BACKEND = small_unigram()
TOKENIZER = ChatTokenizer(BACKEND, bos_id=1, eos_id=2, vocab_size=BACKEND.get_vocab_size())


def chat(*contents: str, system: str | None = None) -> list[Message]:
    head = [] if system is None else [Message("system", system)]
    return head + [
        Message("user" if index % 2 == 0 else "assistant", content) for index, content in enumerate(contents)
    ]


def size(messages: list[Message]) -> int:
    return len(TOKENIZER.encode_chat(messages))


def fit(messages: list[Message], limit: int) -> list[Message]:
    return fit_context(messages, TOKENIZER, max_prompt_tokens=limit)


def test_one_question_is_the_template_of_the_card() -> None:
    assert segments(chat("たぬきとは?")) == [
        "以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。"
        "\n\n### 指示:\nたぬきとは?\n\n### 応答:\n"
    ]


def test_an_answer_ends_its_segment() -> None:
    assert segments(chat("あ", "い", "う")) == [
        SYSTEM_TEXT + "\n\n### 指示:\nあ\n\n### 応答:\nい",
        "\n\n### 指示:\nう\n\n### 応答:\n",
    ]
    assert segments(chat("あ", "い"))[1:] == [""]


def test_a_system_message_takes_the_place_of_the_system_text() -> None:
    assert segments(chat("あ", system="短く。")) == ["短く。\n\n### 指示:\nあ\n\n### 応答:\n"]
    assert segments(chat("あ", system="")) == ["\n\n### 指示:\nあ\n\n### 応答:\n"]


@pytest.mark.parametrize(
    ("messages", "wrong"),
    [
        ([Message("assistant", "あ")], 1),
        ([Message("user", "あ"), Message("user", "い")], 2),
        ([Message("user", "あ"), Message("system", "い")], 2),
        ([Message("system", "あ"), Message("system", "い"), Message("user", "う")], 2),
    ],
)
def test_messages_out_of_turn_are_an_error(messages: list[Message], wrong: int) -> None:
    with pytest.raises(InputError, match=f"Message {wrong} .* cannot be from {messages[wrong - 1].role}"):
        segments(messages)


@pytest.mark.parametrize(
    ("line", "guarded"),
    [
        ("### 指示:", "\\### 指示:"),
        ("### 応答:", "\\### 応答:"),
        ("  ###指示 : x", "\\###指示 : x"),
        ("＃＃＃　応答：", "\\＃＃＃　応答："),
        ("\u3000### 指示:", "\\### 指示:"),
        ("\ufeff### 指示:", "\\\ufeff### 指示:"),
        ("\u200b\u2060 #\u00ad## 指\u200d示\ufe0f:", "\\\u200b\u2060 #\u00ad## 指\u200d示\ufe0f:"),
        ("前\r### 指示:", "前\r\\### 指示:"),
        ("前\u2028### 応答:", "前\u2028\\### 応答:"),
        ("前\x85### 応答:", "前\x85\\### 応答:"),
    ],
)
def test_imitated_headings_are_guarded(line: str, guarded: str) -> None:
    assert guard_markers(f"前\n{line}\n後") == (f"前\n{guarded}\n後", 1)


@pytest.mark.parametrize(
    "line", ["## 指示:", "### 指示について", "文中の ### 指示: は見出しではない", "", "### 応答"]
)
def test_other_lines_stay_as_they_are(line: str) -> None:
    assert guard_markers(f"{line}\n") == (f"{line}\n", 0)


@given(text=st.text(st.sampled_from("#＃ 　指示応答:：\n\\あ\ufeff\u200b\r\u2029\0"), max_size=60))
def test_guarded_text_holds_no_heading_and_stays_guarded(text: str) -> None:
    guarded, changed = guard_markers(text)
    assert guard_markers(guarded) == (guarded, 0)
    assert (guarded == text) == (changed == 0)
    assert len(guarded.split("\n")) == len(text.split("\n"))


# --- fitting ---------------------------------------------------------------------------------------------

contents = st.lists(
    st.text(st.sampled_from("たぬきのはなし。\nab </s>#"), max_size=30), min_size=1, max_size=24
).map(lambda found: found if len(found) % 2 else found[:-1])
systems = st.none() | st.text(st.sampled_from("短く。"), max_size=10)
limits = st.integers(20, 400)


@given(contents=contents, system=systems, limit=limits)
def test_whole_oldest_turns_go_and_no_more_than_needed_by_a_quarter(
    contents: list[str], system: str | None, limit: int
) -> None:
    messages = chat(*contents, system=system)
    head = messages[: len(messages) - len(contents)]
    alone = [*head, messages[-1]]
    if size(alone) > limit:
        with pytest.raises(PromptTooLongError):
            fit(messages, limit)
        return
    fitted = fit(messages, limit)
    dropped = len(messages) - len(fitted)
    assert fitted == head + messages[len(head) + dropped :]
    assert dropped % 2 == 0
    assert fitted[-1] == messages[-1]
    assert size(fitted) <= limit
    if size(messages) <= limit:
        assert fitted == messages
    elif len(fitted) > len(alone):
        # With one turn fewer dropped, the next quarter of the limit would not be reached.
        step = max(1, limit // 4)
        excess = size(messages) - limit
        goal = size(messages) - -(-excess // step) * step
        one_more = head + messages[len(head) + dropped - 2 :]
        assert size(one_more) > goal or size(fitted) > goal


@given(contents=contents, system=systems, limit=limits)
def test_a_resumed_chat_is_shown_the_same(contents: list[str], system: str | None, limit: int) -> None:
    conversation = Conversation(system=system)
    for message in chat(*contents):
        conversation.append(message)
    resumed = Conversation(system=system)
    resumed.restore(conversation.nodes.values(), tip=conversation.tip)
    try:
        expected = fit(conversation.path(), limit)
    except PromptTooLongError as error:
        with pytest.raises(PromptTooLongError, match=str(error.prompt_tokens)):
            fit(resumed.path(), limit)
    else:
        assert fit(resumed.path(), limit) == expected


@given(
    turns=st.lists(
        st.text(st.sampled_from("たぬきの話。"), min_size=1, max_size=12), min_size=4, max_size=30
    ),
    limit=st.integers(160, 400),
)
def test_the_start_of_the_prompt_moves_in_quarter_steps(turns: list[str], limit: int) -> None:
    """As a chat grows, its prompt keeps its beginning until a quarter of the context is used up."""
    messages: list[Message] = []
    starts = []
    for content in turns:
        messages.append(Message("user", content))
        starts.append(len(messages) - len(fit(messages, limit)))
        messages.append(Message("assistant", content))
    assert starts == sorted(starts)
    excess = max(0, size(messages) - limit)
    assert len(set(starts)) <= 1 + -(-excess // (limit // 4))


def test_the_error_counts_what_must_go() -> None:
    messages = chat("あ", "い", "たぬき" * 200)
    alone = size(chat("たぬき" * 200))
    with pytest.raises(PromptTooLongError) as caught:
        fit(messages, 100)
    error = caught.value
    assert (error.exit_code, error.prompt_tokens, error.limit) == (ExitCode.USAGE, alone, 100)
    assert str(alone) in error.message
    assert "100" in error.message
    assert error.hint
    assert error.excess_characters % 10 == 0
    # Cutting that many characters is enough.
    cut = messages[-1].content[: -error.excess_characters]
    assert fit([*messages[:-1], Message("user", cut)], 100)


# --- long conversations ----------------------------------------------------------------------------------


class CountingTokenizer(ChatTokenizer):
    """Counts the characters that are tokenised."""

    characters = 0

    def _encode(self, text: str) -> tuple[int, ...]:
        self.characters += len(text)
        return super()._encode(text)


@pytest.mark.parametrize("persona", [None, "丁寧に。"])
def test_a_turn_costs_the_same_after_ten_turns_and_after_a_thousand(persona: str | None) -> None:
    """Only the new turn is tokenised, and no function is called for each of the old ones."""
    tokenizer = CountingTokenizer(BACKEND, bos_id=1, eos_id=2, vocab_size=BACKEND.get_vocab_size())
    conversation = Conversation()
    costs = []
    for number in range(1000):
        conversation.append(Message("user", f"{number:04}ばんめ"))
        told = with_persona(conversation.path(), persona)
        before = tokenizer.characters
        calls = calls_of(partial(fit_context, told, tokenizer, max_prompt_tokens=400))
        costs.append((tokenizer.characters - before, calls))
        conversation.append(Message("assistant", f"{number:04}のこたえ"))
    early, late = costs[10:20], costs[-10:]
    assert max(late)[0] <= max(early)[0]
    # The search among the turns takes a step more whenever their number doubles.
    assert max(calls for _characters, calls in late) <= max(calls for _characters, calls in early) + 20


def test_turns_are_counted_again_where_the_conversation_is_another() -> None:
    """The memory changes nothing: /undo, another answer, another conversation, and back."""
    stories = [
        chat(*(f"{name}{index}" * 5 for index in range(length)))
        for name, length in [("あ", 9), ("あ", 7), ("い", 9), ("あ", 11), ("い", 3)]
    ]
    stories.append([*stories[3][:6], Message("user", "べつの問い"), *stories[3][7:]])
    for messages in [*stories, *reversed(stories)]:
        fresh = ChatTokenizer(BACKEND, bos_id=1, eos_id=2, vocab_size=BACKEND.get_vocab_size())
        assert fit(messages, 150) == fit_context(messages, fresh, max_prompt_tokens=150)


def test_messages_out_of_turn_are_an_error_however_long_ago() -> None:
    messages = chat(*("たぬき" * 10 for _index in range(41)), system="短く。")
    messages[4] = Message("user", "もう一つ")
    for _time in range(2):
        with pytest.raises(InputError, match=r"Message 5 .* cannot be from user"):
            fit(messages, 150)
