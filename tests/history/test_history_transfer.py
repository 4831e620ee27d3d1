"""Files in and out: JSON without loss, and nothing of the history is overwritten by an import."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tanuki_cli.conversation import (
    Conversation,
    ConversationSettings,
    Generation,
    Message,
    Node,
    Usage,
    new_id,
)
from tanuki_cli.errors import HistoryError, InputError
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.merging import ImportReport
from tanuki_cli.history.recovery import read_damaged
from tanuki_cli.history.transfer import export_text, format_of, from_json, write_export
from tanuki_cli.sampling import MAX_SEED, SamplingOptions
from tanuki_cli.settings.specs import SAMPLING_KEYS

COUNT = st.integers(0, 2**63 - 1)
POSITIVE = st.floats(0, allow_nan=False, allow_infinity=False)
TIMES = st.datetimes(
    min_value=datetime(1971, 1, 1), max_value=datetime(2999, 1, 1), timezones=st.just(timezone.utc)
)
GENERATIONS = st.builds(
    Generation,
    model=st.text(),
    finish_reason=st.sampled_from(["stop", "length", "interrupted"]),
    usage=st.none() | st.builds(Usage, prompt_tokens=COUNT, completion_tokens=COUNT, cached_tokens=COUNT),
    seed=st.none() | COUNT,
    tokens_per_s=st.none() | POSITIVE,
    token_ids=st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple),
)
SETTINGS = st.builds(
    ConversationSettings,
    model=st.text(),
    sampling=st.builds(
        SamplingOptions,
        temperature=st.floats(0, 2),
        top_k=st.integers(0, 100_000),
        stop=st.lists(st.text(), max_size=2).map(tuple),
        seed=st.none() | st.integers(0, MAX_SEED),
    ),
    context_length=st.none() | COUNT,
    persona=st.none() | st.text(),
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Trees of any shape, with any text."""
    nodes: list[Node] = []
    for _ in range(draw(st.integers(0, 5))):
        parent = draw(st.sampled_from([None, *(node.id for node in nodes)]))
        answer = draw(st.none() | GENERATIONS)
        message = Message("user" if answer is None else "assistant", draw(st.text()))
        nodes.append(
            Node(id=new_id(), parent_id=parent, message=message, created_at=draw(TIMES), generation=answer)
        )
    conversation = Conversation(
        title=draw(st.text(min_size=1)),
        system=draw(st.none() | st.text()),
        settings=draw(SETTINGS),
        created_at=draw(TIMES),
    )
    conversation.restore(nodes, tip=draw(st.sampled_from([None, *(node.id for node in nodes)])))
    return conversation


def small() -> Conversation:
    conversation = Conversation(title="題", system="短く")
    question = conversation.append(Message("user", "質問"))
    done = Generation(model="mame", finish_reason="stop")
    conversation.append(Message("assistant", "一つ目"), generation=done)
    conversation.branch(question.id)
    conversation.append(
        Message("assistant", "二つ目\n\n# 見出し"), generation=replace(done, finish_reason="interrupted")
    )
    return conversation


@settings(max_examples=60)
@given(st.lists(conversations(), max_size=3))
def test_json_gives_back_what_went_in(given_: list[Conversation]) -> None:
    assert from_json(export_text(given_, format="json"), name="x") == given_


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(conversations(), min_size=1, max_size=3))
def test_a_new_history_from_an_export_equals_the_old(tmp_path: Path, given_: list[Conversation]) -> None:
    first, second = tmp_path / f"{new_id()}.sqlite3", tmp_path / f"{new_id()}.sqlite3"
    with HistoryStore(first) as old, HistoryStore(second) as new:
        old.add(given_)
        exported = [old.load(one.id) for one in given_]
        assert exported == given_
        new.add(from_json(export_text(exported, format="json"), name="x"))
        assert [new.load(one.id) for one in given_] == given_
        assert list(new.list()) == list(old.list())
        assert new.verify() == []


def test_an_import_overwrites_nothing(tmp_path: Path) -> None:
    conversation = small()
    with HistoryStore(tmp_path / "history.sqlite3") as store:
        assert store.add([conversation]) == ImportReport(added=1, messages=3)
        assert store.add([conversation]) == ImportReport(unchanged=1)

        longer = deepcopy(conversation)
        longer.title = "別の題"
        longer.append(Message("user", "続き"))
        assert store.add([longer]) == ImportReport(extended=1, messages=1)
        kept = store.load(conversation.id)
        assert (kept.title, kept.tip, kept.nodes) == ("題", conversation.tip, longer.nodes)

        other = deepcopy(conversation)
        other.nodes = {
            id_: replace(node, message=replace(node.message, content="すり替え"))
            for id_, node in other.nodes.items()
        }
        assert store.add([other]) == ImportReport(copied=1, messages=3)
        assert store.add([other]) == ImportReport(unchanged=1)
        assert store.load(conversation.id).nodes == longer.nodes
        assert len(store.list()) == 2
        assert store.verify() == []


def test_an_answer_that_was_unfinished_is_interrupted_after_the_import(tmp_path: Path) -> None:
    conversation = Conversation()
    conversation.append(Message("user", "質問"))
    conversation.append(Message("assistant", "途中"), generation=Generation(model="m", finish_reason=None))
    with HistoryStore(tmp_path / "history.sqlite3") as store:
        store.add(from_json(export_text([conversation], format="json"), name="x"))
        last = store.load(conversation.id).last("assistant")
    assert last is not None
    assert last.generation == Generation(model="m", finish_reason="interrupted")


def test_jsonl_is_what_other_programs_read() -> None:
    lines = export_text([small(), small()], format="jsonl").splitlines()
    assert [json.loads(line) for line in lines] == 2 * [
        {
            "messages": [
                {"role": "system", "content": "短く"},
                {"role": "user", "content": "質問"},
                {"role": "assistant", "content": "二つ目\n\n# 見出し"},
            ]
        }
    ]


def test_markdown_shows_the_current_path() -> None:
    text = export_text([small()], format="markdown")
    assert text.startswith("# 題\n\n")
    assert "## You\n\n質問\n\n## Tanuki\n\n二つ目\n\n# 見出し\n\n*(interrupted)*\n" in text
    assert "一つ目" not in text


def test_the_suffix_names_the_format() -> None:
    assert [format_of(Path(name)) for name in ("a.json", "a.JSONL", "a.md", "a.txt", "")] == [
        "json",
        "jsonl",
        "markdown",
        "markdown",
        "markdown",
    ]


def test_an_export_is_private_and_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "export.md"
    write_export(path, "一\r\n")
    assert path.read_bytes() == "一\r\n".encode()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists already"):
        write_export(path, "二")
    assert path.read_bytes() == "一\r\n".encode()
    with pytest.raises(InputError, match="cannot be written"):
        write_export(tmp_path / "none" / "export.md", "三")


def _put(value: object, *keys: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_put("other", "format"), "not a history"),
        (_put("1", "version"), ".version"),
        (_put({}, "conversations"), ".conversations"),
        (_put("../x", "conversations", 0, "id"), ".conversations[0].id"),
        (_put(None, "conversations", 0, "title"), ".conversations[0].title"),
        (_put("2026-01-01T00:00:00", "conversations", 0, "created_at"), ".conversations[0].created_at"),
        (_put(-1, "conversations", 0, "settings", "sampling", "top_k"), ".settings.sampling.top_k"),
        (_put(float("nan"), "conversations", 0, "settings", "sampling", "top_p"), ".sampling.top_p"),
        (_put(True, "conversations", 0, "settings", "context_length"), ".settings.context_length"),
        (_put("tool", "conversations", 0, "nodes", 1, "role"), ".nodes[1].role"),
        (_put([], "conversations", 0, "nodes", 1, "role"), ".nodes[1].role"),
        (_put("f" * 16, "conversations", 0, "nodes", 1, "parent_id"), "f" * 16),
        (_put("f" * 16, "conversations", 0, "tip"), "f" * 16),
        (_put({}, "conversations", 0, "nodes", 1, "generation"), ".nodes[1].generation"),
        (_put(2**63, "conversations", 0, "nodes", 1, "generation", "seed"), ".generation.seed"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(change: Callable[[Any], None], place: str) -> None:
    document = json.loads(export_text([small()], format="json"))
    change(document)
    with pytest.raises(InputError) as caught:
        from_json(json.dumps(document), name="x.json")
    assert caught.value.message.startswith("x.json cannot be imported")
    assert place in caught.value.message


CHOSEN = ConversationSettings(
    model="mame",
    sampling=SamplingOptions(
        temperature=0.1,
        top_p=0.2,
        top_k=3,
        min_p=0.4,
        repeat_penalty=1.5,
        max_new_tokens=6,
        stop=("。",),
        seed=7,
    ),
    context_length=512,
    persona="短く",
)


def test_the_settings_of_the_next_test_are_no_defaults() -> None:
    assert all(getattr(CHOSEN.sampling, key) != getattr(SamplingOptions(), key) for key in SAMPLING_KEYS)


@pytest.mark.parametrize("key", ["model", "context_length", "persona", "sampling", *SAMPLING_KEYS])
@pytest.mark.parametrize("newer", [False, True])
def test_settings_of_another_version_open(key: str, newer: bool) -> None:
    """A conversation that was saved before an option existed has its default; an unknown one is left out."""
    conversation = small()
    conversation.settings = CHOSEN
    document = json.loads(export_text([conversation], format="json"))
    kept = document["conversations"][0]["settings"]
    owner = kept["sampling"] if key in SAMPLING_KEYS else kept
    del owner[key]
    if newer:
        owner["option_of_tomorrow"] = {"a": [1]}
    [opened] = from_json(json.dumps(document), name="x.json")
    if key in SAMPLING_KEYS:
        default = getattr(SamplingOptions(), key)
        expected = replace(conversation.settings.sampling, **{key: default})
        assert opened.settings == replace(conversation.settings, sampling=expected)
    else:
        default = getattr(ConversationSettings(), key)
        assert opened.settings == replace(conversation.settings, **{key: default})


def test_a_conversation_without_settings_has_the_defaults() -> None:
    document = json.loads(export_text([small()], format="json"))
    for key in ("settings", "system"):
        del document["conversations"][0][key]
    for key in ("seed", "usage", "tokens_per_s"):
        del document["conversations"][0]["nodes"][1]["generation"][key]
    [opened] = from_json(json.dumps(document), name="x.json")
    assert (opened.settings, opened.system) == (ConversationSettings(), None)
    generation = list(opened.nodes.values())[1].generation
    assert generation is not None
    assert (generation.seed, generation.usage, generation.tokens_per_s) == (None, None, None)


def test_a_database_of_another_version_opens(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    conversation = small()
    with HistoryStore(path) as store:
        store.add([conversation])
    with closing(sqlite3.connect(path)) as connection, connection:
        settings = '{"sampling": {"top_k": 3, "new": null}, "newer": {}}'
        connection.execute("UPDATE conversations SET settings = ?", (settings,))
    with HistoryStore(path) as store:
        opened = store.load(conversation.id)
        assert opened.settings == ConversationSettings(sampling=SamplingOptions(top_k=3))
        opened.append(Message("user", "続き"))
        store.save(opened)
        assert store.load(conversation.id) == opened
    shutil.copy(path, tmp_path / "damaged")
    [recovered] = read_damaged(tmp_path / "damaged").conversations
    assert recovered.settings == opened.settings


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_no_json_at_all_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot be imported"):
        from_json(text, name="x.json")


def test_a_file_of_a_later_version_is_refused() -> None:
    document = {**json.loads(export_text([small()], format="json")), "version": 2}
    with pytest.raises(HistoryError, match="newer version"):
        from_json(json.dumps(document), name="x.json")
