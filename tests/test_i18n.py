"""Every message has Japanese, says the same, and is compiled."""

import ast
import string
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import compile_messages
from tanuki_cli import i18n

ROOT = Path(__file__).parent.parent
LOCALE = ROOT / "tanuki_cli" / "locale" / "ja"
HALF_WIDTH_KANA = {chr(code) for code in range(0xFF61, 0xFFA0)}


def sources() -> list[Path]:
    scripts = ROOT / "scripts"
    return [
        *sorted((ROOT / "tanuki_cli").rglob("*.py")),
        scripts / "bootstrap.py",
        *sorted((scripts / "setup").glob("*.py")),
    ]


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"_", "N_"}:
            yield node


def messages_in_source() -> dict[str, str]:
    """Every msgid with the place of its first use."""
    found: dict[str, str] = {}
    for path in sources():
        for call in calls(path):
            if isinstance(argument := call.args[0], ast.Constant):
                assert isinstance(argument.value, str)
                found.setdefault(argument.value, f"{path.relative_to(ROOT)}:{call.lineno}")
    return found


@pytest.fixture(scope="module")
def translations() -> dict[str, str]:
    return compile_messages.merge(LOCALE.glob("*.po"))


def fields(text: str) -> list[str]:
    """Names of the placeholders, sorted."""
    return sorted(
        name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name is not None
    )


def test_every_message_is_translated(translations: dict[str, str]) -> None:
    missing = {msgid: place for msgid, place in messages_in_source().items() if msgid not in translations}
    assert missing == {}


def test_no_translation_is_left_over(translations: dict[str, str]) -> None:
    assert set(translations) - set(messages_in_source()) == set()


def test_messages_are_literals_or_marked_elsewhere() -> None:
    for path in sources():
        for call in calls(path):
            [argument] = call.args
            place = f"{path.relative_to(ROOT)}:{call.lineno}"
            # A text that is put together here could never be found in a catalogue.
            assert not isinstance(argument, ast.JoinedStr | ast.Call | ast.BinOp), place


def test_translations_keep_the_placeholders(translations: dict[str, str]) -> None:
    wrong = {msgid: text for msgid, text in translations.items() if fields(msgid) != fields(text)}
    assert wrong == {}


def slips(msgid: str, text: str) -> Iterator[str]:
    if HALF_WIDTH_KANA & set(text):
        yield "half-width kana"
    if "..." in text:
        yield "three full stops for an ellipsis"
    if text.rstrip().endswith(".") and not text.isascii():
        yield "an ASCII full stop"
    if text != unicodedata.normalize("NFC", text):
        yield "decomposed characters"
    if any(character in text for character in "，．；"):
        yield "punctuation of another style"
    if breaks_at_ends(msgid) != breaks_at_ends(text):
        yield "other line breaks at an end"


def breaks_at_ends(text: str) -> tuple[int, int]:
    bare = text.strip(" ")
    return len(bare) - len(bare.lstrip("\n")), len(bare) - len(bare.rstrip("\n"))


def test_translations_are_well_formed(translations: dict[str, str]) -> None:
    found = {
        msgid: problems for msgid, text in translations.items() if (problems := list(slips(msgid, text)))
    }
    assert found == {}


def test_slips_are_seen() -> None:
    assert list(slips("Done.", "ｵﾜﾘ...")) == [
        "half-width kana",
        "three full stops for an ellipsis",
        "an ASCII full stop",
    ]
    assert list(slips("Done.\n", "終わりました。")) == ["other line breaks at an end"]
    assert list(slips("Done.", "か\u3099，。")) == ["decomposed characters", "punctuation of another style"]


def test_the_compiled_catalogue_is_up_to_date() -> None:
    assert compile_messages.main(["--check"]) == 0


def po(*entries: tuple[str, str]) -> str:
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n'
    return head + "".join(f'\nmsgid "{msgid}"\nmsgstr "{text}"\n' for msgid, text in entries)


def test_catalogues_merge_into_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "b.po").write_text(po(("Yes", "はい"), ("Both", "両方")), encoding="utf-8")
    (tmp_path / "a.po").write_text(po(("No", "いいえ"), ("Both", "両方")), encoding="utf-8")
    messages = compile_messages.merge(tmp_path.glob("*.po"))
    assert messages == {"Yes": "はい", "No": "いいえ", "Both": "両方"}
    shuffled = dict(reversed(messages.items()))
    assert compile_messages.compile_catalogue(messages) == compile_messages.compile_catalogue(shuffled)


def test_the_escapes_of_help_texts_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.po").write_text(po(("a\\n\\n\\b\\nb\\\\b", "\\b\\\\\\b")), encoding="utf-8")
    assert compile_messages.merge(tmp_path.glob("*.po")) == {"a\n\n\b\nb\\b": "\b\\\b"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (po(("Yes", "うん")), "b.po and a.po differ on 'Yes'"),
        (po(("Maybe", "")), "b.po: no finished translation of 'Maybe'"),
        (po(("Maybe", "たぶん")).replace('\nmsgid "M', '\n#, fuzzy\nmsgid "M'), "no finished translation"),
        ("msgid broken", "b.po: "),
    ],
)
def test_bad_catalogues_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.po").write_text(po(("Yes", "はい")), encoding="utf-8")
    (tmp_path / "b.po").write_text(text, encoding="utf-8")
    with pytest.raises(compile_messages.CatalogueError, match=complaint):
        compile_messages.merge(tmp_path.glob("*.po"))


@pytest.mark.parametrize(
    ("option", "environ", "language"),
    [
        ("ja", {"TANUKI_LANG": "en", "LANG": "C"}, "ja"),
        (None, {"TANUKI_LANG": "JA", "LC_ALL": "C"}, "ja"),
        ("fr", {"LANG": "ja_JP.UTF-8"}, "ja"),
        (None, {"TANUKI_LANG": "fr", "LANG": "ja_JP.UTF-8"}, "ja"),
        (None, {"LC_ALL": "C", "LANG": "ja_JP.UTF-8"}, "en"),
        (None, {"LC_ALL": "", "LC_MESSAGES": "ja_JP.UTF-8", "LANG": "en_US.UTF-8"}, "ja"),
        (None, {"LANG": "de_DE.UTF-8"}, "en"),
        (None, {}, "en"),
    ],
)
def test_the_language_is_chosen_in_order(option: str | None, environ: dict[str, str], language: str) -> None:
    assert i18n.detect_language(option, environ) == language


def test_activating_changes_the_language_of_later_messages() -> None:
    before = i18n.active_language()
    try:
        i18n.activate("en")
        assert (i18n._("Did you mean {key}?"), i18n.active_language()) == ("Did you mean {key}?", "en")
        i18n.activate("ja")
        assert i18n.active_language() == "ja"
        assert "{key}" in i18n._("Did you mean {key}?")
        assert i18n._("Did you mean {key}?") != "Did you mean {key}?"
    finally:
        i18n.activate(before)


def test_one_thing_is_one_in_english() -> None:
    before = i18n.active_language()
    try:
        for language, one in (("en", "one"), ("ja", "many")):
            i18n.activate(language)  # type: ignore[arg-type]
            assert [i18n.plural(count, "one", "many") for count in (0, 1, 2)] == ["many", one, "many"]
    finally:
        i18n.activate(before)
