"""The texts that go before every question: kept, found, damaged, removed."""

import unicodedata
from pathlib import Path

import pytest

from tanuki_cli.errors import InputError, SettingsError
from tanuki_cli.settings.personas import BUILT_IN, MAX_CHARACTERS, PersonaStore


@pytest.fixture
def store(tmp_path: Path) -> PersonaStore:
    return PersonaStore(tmp_path / "personas")


def test_reading_creates_nothing_and_finds_what_is_built_in(store: PersonaStore) -> None:
    assert store.names() == [persona.name for persona in BUILT_IN]
    assert store.find("要約").built_in
    assert not store.folder.exists()


@pytest.mark.parametrize("name", ["先生", "teacher-2", "が", "Ｔｅａ", "a_b", "カード"])
def test_a_saved_text_is_found_by_its_name_however_it_is_typed(store: PersonaStore, name: str) -> None:
    saved = store.save(name, "  やさしく。\nはい。\n")
    assert saved.text == "やさしく。\nはい。"
    for typed in (name, unicodedata.normalize("NFD", name), unicodedata.normalize("NFKC", name).upper()):
        assert store.find(typed) == saved


def test_a_file_whose_name_the_system_takes_apart_is_found(store: PersonaStore) -> None:
    store.folder.mkdir()
    (store.folder / (unicodedata.normalize("NFD", "ガイド") + ".txt")).write_text(
        "案内して。", encoding="utf-8"
    )
    assert store.names()[0] == "ガイド"
    assert store.find("ガイド").text == "案内して。"
    assert store.remove("ガイド") is None
    assert "ガイド" not in store.names()


@pytest.mark.parametrize(
    "name", ["", " ", "-", "-x", "a/b", "../x", ".x", "a b", "a\nb", "\x1b[2J", "x" * 41, "a\0"]
)
def test_a_name_that_is_no_name_of_a_file_is_refused(store: PersonaStore, name: str) -> None:
    with pytest.raises(InputError):
        store.save(name, "text")
    assert not store.folder.exists()


@pytest.mark.parametrize("text", ["", " \n", "x" * (MAX_CHARACTERS + 1), "a\0b"])
def test_nothing_is_saved_that_could_not_be_read(store: PersonaStore, text: str) -> None:
    with pytest.raises(InputError):
        store.save("a", text)
    assert not store.folder.exists()


def test_the_longest_text_is_read_again(store: PersonaStore) -> None:
    text = "𠮷" * MAX_CHARACTERS
    assert store.save("a", text) == store.find("a")


def test_a_text_is_replaced_only_where_that_is_asked_for(store: PersonaStore) -> None:
    store.save("a", "one")
    with pytest.raises(InputError, match="already"):
        store.save("Ａ".lower(), "two")
    assert store.find("a").text == "one"
    assert store.save("a", "two", replace=True).text == store.find("a").text == "two"


def test_a_built_in_one_can_be_replaced_and_comes_back(store: PersonaStore) -> None:
    before = store.find("校正")
    store.save("校正", "自分の文。")
    assert store.names()[0] == "校正"
    assert store.names().count("校正") == 1
    assert store.find("校正").text == "自分の文。"
    assert store.remove("校正") == before == store.find("校正")
    with pytest.raises(InputError, match="built in"):
        store.remove("校正")


def test_an_unknown_name_suggests_the_nearest(store: PersonaStore) -> None:
    store.save("teacher", "x")
    with pytest.raises(InputError) as raised:
        store.find("teecher")
    assert raised.value.hint == "Did you mean teacher?"
    with pytest.raises(InputError) as raised:
        store.find("xyz")
    assert raised.value.hint == "tanuki persona list"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"a\0b", b"x" * 90_000])
def test_a_file_that_is_no_text_is_told_and_hides_no_other(store: PersonaStore, content: bytes) -> None:
    store.save("good", "x")
    (store.folder / "bad.txt").write_bytes(content)
    assert store.names()[:2] == ["bad", "good"]
    with pytest.raises(SettingsError) as raised:
        store.find("bad")
    assert "bad.txt" in raised.value.message
    assert store.save("bad", "again", replace=True) == store.find("bad")
