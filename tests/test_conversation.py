"""The tree of messages: nothing is overwritten, the path leads to the tip."""

import itertools
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tanuki_cli.conversation import Conversation, Generation, Message, new_id

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
UNFINISHED = Generation(model="mame", finish_reason=None)
FINISHED = Generation(model="mame", finish_reason="stop")


def ticking() -> Conversation:
    seconds = itertools.count()
    return Conversation(clock=lambda: START + timedelta(seconds=next(seconds)))


def test_a_conversation_grows_at_its_tip() -> None:
    conversation = ticking()
    question = conversation.append(Message("user", "あ"))
    answer = conversation.append(Message("assistant", "い"), generation=FINISHED)
    assert (question.parent_id, answer.parent_id, conversation.tip) == (None, question.id, answer.id)
    assert conversation.path() == [Message("user", "あ"), Message("assistant", "い")]
    assert answer.created_at - question.created_at == timedelta(seconds=1)
    assert answer.generation == FINISHED


def test_the_system_message_leads_the_path_but_is_no_node() -> None:
    conversation = Conversation(system="短く。")
    assert conversation.path() == [Message("system", "短く。")]
    conversation.append(Message("user", "あ"))
    assert conversation.path() == [Message("system", "短く。"), Message("user", "あ")]
    assert [node.message.role for node in conversation.path_nodes()] == ["user"]


def test_retry_makes_a_sibling() -> None:
    conversation = ticking()
    question = conversation.append(Message("user", "あ"))
    first = conversation.append(Message("assistant", "い"))
    conversation.branch(question.id)
    second = conversation.append(Message("assistant", "う"))
    assert conversation.siblings(first.id) == conversation.siblings(second.id) == [first, second]
    assert conversation.path()[-1].content == "う"
    conversation.branch(first.id)
    assert conversation.path()[-1].content == "い"


def test_the_first_message_can_have_siblings() -> None:
    conversation = ticking()
    first = conversation.append(Message("user", "あ"))
    conversation.branch(None)
    assert conversation.path() == []
    second = conversation.append(Message("user", "い"))
    assert conversation.children(None) == [first, second]


def test_branching_to_an_unknown_id_changes_nothing() -> None:
    conversation = ticking()
    node = conversation.append(Message("user", "あ"))
    with pytest.raises(KeyError):
        conversation.branch("nowhere")
    assert conversation.tip == node.id


def test_only_an_unfinished_answer_grows() -> None:
    conversation = ticking()
    question = conversation.append(Message("user", "あ"))
    answer = conversation.append(Message("assistant", ""), generation=UNFINISHED)
    grown = conversation.update(answer.id, "い", UNFINISHED)
    done = conversation.update(answer.id, "いう", FINISHED)
    assert (grown.message.content, done.message.content, done.id) == ("い", "いう", answer.id)
    assert conversation.nodes[answer.id] == done
    for node_id in (answer.id, question.id):
        with pytest.raises(ValueError, match="is finished"):
            conversation.update(node_id, "え", FINISHED)
    with pytest.raises(KeyError):
        conversation.update("nowhere", "え", FINISHED)


def test_the_last_of_a_role_is_on_the_path() -> None:
    conversation = ticking()
    assert conversation.last("user") is None
    question = conversation.append(Message("user", "あ"))
    answer = conversation.append(Message("assistant", "い"))
    conversation.branch(question.id)
    assert conversation.last("assistant") is None
    conversation.branch(answer.id)
    assert conversation.last("assistant") == answer
    assert conversation.last("user") == question


def test_storage_with_a_hole_is_refused() -> None:
    conversation = ticking()
    conversation.append(Message("user", "あ"))
    answer = conversation.append(Message("assistant", "い"))
    nodes = list(conversation.nodes.values())
    restored = Conversation()
    with pytest.raises(ValueError, match="has no parent"):
        restored.restore(nodes[1:], tip=answer.id)
    with pytest.raises(ValueError, match="has no parent"):
        restored.restore(reversed(nodes), tip=answer.id)
    with pytest.raises(ValueError, match="is not in the conversation"):
        restored.restore(nodes, tip="nowhere")
    assert (restored.nodes, restored.tip) == ({}, None)


# A step appends a message, or moves the tip to one of the nodes there are (or before the first).
steps = st.lists(st.none() | st.integers(0, 30), max_size=40)


@given(steps=steps)
def test_nothing_is_ever_lost(steps: list[int | None]) -> None:
    conversation = ticking()
    seen: dict[str, Message] = {}
    for number, step in enumerate(steps):
        if step is None:
            path = conversation.path()
            node = conversation.append(Message("user", str(number)))
            seen[node.id] = node.message
            assert conversation.path() == [*path, node.message]
        else:
            conversation.branch([None, *conversation.nodes][step % (len(conversation.nodes) + 1)])
    assert {node.id: node.message for node in conversation.nodes.values()} == seen
    below = [node for parent in [None, *conversation.nodes] for node in conversation.children(parent)]
    assert sorted(node.id for node in below) == sorted(seen)
    restored = Conversation()
    restored.restore(conversation.nodes.values(), tip=conversation.tip)
    assert restored.path_nodes() == conversation.path_nodes()


def test_ids_are_sixteen_hexadecimal_digits() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(id_) == 16 and int(id_, 16) >= 0 for id_ in ids)


def test_children_are_found_in_one_pass_however_the_tree_grew() -> None:
    conversation = Conversation()
    first = conversation.append(Message("user", "一"))
    answers = []
    for text in "あいう":
        conversation.branch(first.id)
        answers.append(conversation.append(Message("assistant", text)))
        assert conversation.children(first.id) == answers
    assert conversation.siblings(answers[1].id) == answers
    copy = Conversation()
    copy.append(Message("user", "別"))
    assert len(copy.children(None)) == 1
    copy.restore(conversation.nodes.values(), tip=None)
    assert copy.children(None) == [first]
    assert copy.children(first.id) == answers
    assert copy.children(answers[0].id) == []


def test_looking_around_makes_no_other_conversation() -> None:
    conversation = Conversation()
    question = conversation.append(Message("user", "a"))
    same = replace(conversation, nodes=dict(conversation.nodes), clock=lambda: question.created_at)
    assert conversation.siblings(question.id) == [question]
    assert conversation == same
    assert conversation != replace(same, title="b")
