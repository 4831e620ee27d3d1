"""Text in the encodings that Japanese text comes in."""

from pathlib import Path

import pytest

from tanuki_cli.errors import InputError
from tanuki_cli.text.decoding import decode_text, read_text_file

TEXTS = (
    "こんにちは",
    "「はい」",
    "ｶﾞｿﾘﾝの値段",
    "信楽焼のたぬきは、商売繁盛の縁起物です。\nABC 123",
    "名前,住所\n山田,東京",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp932", "euc_jp", "iso2022_jp_ext"],
)
def test_detection(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding), name="x") == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_bom_is_told_by_its_zero_bytes(encoding: str) -> None:
    assert decode_text("たぬき ABC\n".encode(encoding), name="x") == "たぬき ABC\n"


@pytest.mark.parametrize(
    "data", [b"\x00\x01\x02\x03", bytes(range(256)), b"\x7fELF\x02\x01\x01\x00\x00", b"\xff" * 9]
)
def test_binary_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(InputError, match=r"photo\.png") as caught:
        decode_text(data, name="photo.png")
    assert ("binary" in (caught.value.hint or "")) == (b"\0" in data)


def test_named_encoding_wins() -> None:
    data = "表示".encode("cp932")
    assert decode_text(data, name="x", encoding="cp932") == "表示"
    with pytest.raises(InputError, match="x is not text in utf-8"):
        decode_text(data, name="x", encoding="utf-8")
    with pytest.raises(InputError, match="no encoding called 'klingon'"):
        decode_text(data, name="x", encoding="klingon")


def test_line_ends_are_made_the_same() -> None:
    assert decode_text(b"a\r\nb\rc\n", name="x") == "a\nb\nc\n"


def test_empty_input_is_empty_text() -> None:
    assert decode_text(b"", name="x") == ""


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"memo\.txt") as caught:
        read_text_file(tmp_path / "memo.txt")
    assert caught.value.hint


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder"):
        read_text_file(tmp_path)


def test_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="too big"):
        read_text_file(path)
