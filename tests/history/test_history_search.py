"""Search: every substring is found, nothing else is, and highlights point into the original text."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tanuki_cli.conversation import Conversation, Message
from tanuki_cli.history import HistoryStore, SearchHit, UnknownConversationError, excerpt
from tanuki_cli.history.merging import merge
from tanuki_cli.history.schema import migrate
from tanuki_cli.history.search import search, search_query, search_terms
from tanuki_cli.text.folding import FoldedText, fold

# Characters that fold to others, join their neighbours, or mean something to FTS5 and SQL.
TRICKY = (
    "aA1Ａ１ｶﾞﾊﾟガパか\u3099が㍿ﷺİßςΣσ\u0345\u0301é가\u1100\u1161\u11a8ﬁ🦝漢字。、ー〜"
    "\"'*%_:^+-()\\\x00\x1b \u3000\n\u00a0"
)
TEXT = st.text(st.one_of(st.sampled_from(TRICKY), st.characters(codec="utf-8")), max_size=20)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    with HistoryStore(tmp_path / "history.sqlite3") as history:
        yield history


def saved(store: HistoryStore, *texts: str) -> Conversation:
    conversation = Conversation()
    for text in texts:
        conversation.append(Message("user", text))
    store.save(conversation)
    return conversation


def contents(hits: Sequence[SearchHit]) -> list[str]:
    return [hit.content for hit in hits]


def marked(hit: SearchHit) -> list[str]:
    return [hit.content[start:end] for start, end in hit.highlights]


@pytest.mark.parametrize(
    ("text", "query", "highlighted"),
    [
        ("満タンのガソリンで", "ｶﾞｿﾘﾝ", ["ガソリン"]),
        ("満タンのｶﾞｿﾘﾝで", "ガソリン", ["ｶﾞｿﾘﾝ"]),
        ("か\u3099そりん", "がそ", ["か\u3099そ"]),
        ("ＰＹＴＨＯＮで書く", "python", ["ＰＹＴＨＯＮ"]),
        ("Python と python", "PYTHON", ["Python", "python"]),
        ("㍿たぬき", "式会", ["㍿"]),
        ("Straße", "STRASSE", ["Straße"]),
        ("の", "の", ["の"]),
        ("東京", "京", ["京"]),
        ("東京", "東京", ["東京"]),
        ("100%です", "%", ["%"]),
        ('"引用"', '"', ['"', '"']),
        ("NEAR(a b)", "NEAR(a", ["NEAR(a"]),
        ("いいい", "いい", ["いい"]),
        ("天気は東京が晴れ", "東京　天気", ["天気", "東京"]),
        ("天気は東京が晴れ", "は 東京が", ["は東京が"]),
    ],
)
def test_what_finds_what(store: HistoryStore, text: str, query: str, highlighted: list[str]) -> None:
    saved(store, "ほかの話", text, "別の話")
    hits = store.search(query)
    assert [hit.content for hit in hits if hit.content == text] == [text]
    assert marked(next(hit for hit in hits if hit.content == text)) == highlighted


@pytest.mark.parametrize(
    "query", ["龘", "龘龘", "龘龘龘", "ガソリンスタンド", "東京 龘", "OR", "a* OR b", "'; DROP"]
)
def test_what_is_not_there_is_not_found(store: HistoryStore, query: str) -> None:
    saved(store, "ガソリン", "東京")
    assert store.search(query) == []


def test_a_blank_search_finds_nothing(store: HistoryStore) -> None:
    saved(store, " ", "a")
    assert store.search(" \u3000\n") == []


def test_the_newest_come_first_and_the_limit_holds(store: HistoryStore) -> None:
    saved(store, *(f"話 {number}" for number in range(30)))
    assert [hit.content for hit in store.search("話", limit=3)] == ["話 29", "話 28", "話 27"]


def test_other_branches_are_found_and_told_apart(store: HistoryStore) -> None:
    conversation = saved(store, "最初の質問", "古い枝の話")
    first = conversation.path_nodes()[0]
    conversation.branch(first.id)
    conversation.append(Message("user", "新しい枝の話"))
    store.save(conversation)
    assert {hit.content: hit.on_path for hit in store.search("枝の話")} == {
        "古い枝の話": False,
        "新しい枝の話": True,
    }
    hit = store.search("最初")[0]
    assert (hit.conversation_id, hit.conversation_title, hit.node_id) == (
        conversation.id,
        "最初の質問",
        first.id,
    )


def test_deleted_conversations_are_not_found(store: HistoryStore) -> None:
    gone, kept = saved(store, "同じ話"), saved(store, "同じ話")
    store.delete(gone.id)
    assert [hit.conversation_id for hit in store.search("同じ話")] == [kept.id]
    assert [hit.conversation_id for hit in store.search("話")] == [kept.id]
    assert store.verify() == []


def test_the_plan_walks_one_index_and_sorts_nothing(store: HistoryStore) -> None:
    saved(store, "一")
    with sqlite3.connect(store.path) as connection:
        for text in ("の", "東京", "ガソリン", "東京 ガソリン"):
            query, parameters = search_query(search_terms(text), limit=20)
            steps = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]
            assert "VIRTUAL TABLE INDEX" in steps[0]
            assert all(step.startswith("SEARCH ") for step in steps[1:]), steps


def test_a_very_long_query_works(store: HistoryStore) -> None:
    text = "".join(chr(0x4E00 + number) for number in range(3000))
    saved(store, text)
    assert marked(store.search(text)[0]) == [text]
    assert store.search(text + "龘") == []


def test_an_excerpt_keeps_its_highlights(store: HistoryStore) -> None:
    saved(store, "前" * 300 + "\nガソリン\n" + "後" * 300)
    text, places = excerpt(store.search("ｶﾞｿﾘﾝ")[0], length=40)
    assert [text[start:end] for start, end in places] == ["ガソリン"]
    assert text.startswith("…前")
    assert text.endswith("後…")
    assert "\n" not in text
    assert len(text) == 42


@settings(max_examples=300)
@given(TEXT)
def test_folding_by_pieces_is_folding_the_whole(text: str) -> None:
    folded = FoldedText.of(text)
    assert folded.text == fold(text) == fold(folded.text)
    assert len(folded.starts) == len(folded.ends) == len(folded.text)
    assert all(0 <= start < end <= len(text) for start, end in zip(folded.starts, folded.ends, strict=True))
    assert list(folded.starts) == sorted(folded.starts)


@settings(max_examples=80)
@given(st.lists(TEXT, min_size=1, max_size=5), st.data())
def test_every_substring_is_found_and_nothing_else(texts: list[str], data: st.DataObject) -> None:
    connection = _in_memory(texts)
    chosen = data.draw(st.sampled_from(texts))
    query = _substring(data, chosen)
    terms = search_terms(query)
    hits = search(connection, query, limit=100)
    expected = [text for text in texts if terms and all(term in fold(text) for term in terms)]
    assert sorted(contents(hits)) == sorted(expected)
    assert not terms or chosen in contents(hits)
    for hit in hits:
        joined = "\n".join(fold(part) for part in marked(hit))
        assert all(term in joined for term in terms)
    connection.close()


def _in_memory(texts: list[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection)
    conversation = Conversation()
    for text in texts:
        conversation.append(Message("user", text))
    merge(connection, [conversation])
    return connection


def _substring(data: st.DataObject, text: str) -> str:
    """A part of ``text`` that begins and ends where a character as the reader sees it does."""
    folded = FoldedText.of(text)
    if not folded.text:
        return ""
    first = data.draw(st.integers(0, len(folded.text) - 1))
    last = data.draw(st.integers(first, len(folded.text) - 1))
    return text[folded.starts[first] : folded.ends[last]]


@pytest.mark.parametrize("text", ["\udcff", "狸\udcff", "\ud800\udcff狸", "a\udcff 狸"])
def test_bytes_that_are_no_text_are_found_nowhere(tmp_path: Path, text: str) -> None:
    """A shell gives them as they are; Python makes lone surrogates of them."""
    conversation = Conversation()
    conversation.append(Message("user", "狸"))
    with HistoryStore(tmp_path / "history.sqlite3") as store:
        store.save(conversation)
        assert store.search(text) == []
        for look_up in (store.load, store.find):
            with pytest.raises(UnknownConversationError):
                look_up(text)
