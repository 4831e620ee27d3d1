"""tokenizer.json files of odd kinds: what is switched off, what is refused, what is judged by its size."""

import base64
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from tanuki_cli.conversation import Message
from tanuki_cli.errors import DamagedModelError
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer
from tanuki_cli.tokenizer.file import TokenizerFault, translated_faults
from tests.conftest import small_unigram


def file_with(tmp_path: Path, **sections: Any) -> Path:
    """A tokenizer.json of the right kind, but for ``sections``."""
    content = json.loads(small_unigram().to_str())
    content.update(sections)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def pieces_in_order(tokenizer: Tokenizer) -> list[str]:
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def from_file(path: Path) -> ChatTokenizer:
    return ChatTokenizer.from_file(path, bos_id=1, eos_id=2, vocab_size=1000)


LONG_TEXT = "たぬきは日本の昔話によく出てくる動物です。" * 20
TRUNCATION = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 10**12},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 3,
    "pad_type_id": 0,
    "pad_token": "<pad>",
}
TWICE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2,
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {},
}


def test_sections_that_would_change_prompts_are_switched_off(tmp_path: Path) -> None:
    path = file_with(tmp_path, truncation=TRUNCATION, padding=PADDING, post_processor=TWICE)
    tokenizer = from_file(path)
    verify_tokenizer(tokenizer)
    plain = from_file(file_with(tmp_path))
    assert tokenizer.encode(LONG_TEXT) == plain.encode(LONG_TEXT)
    assert tokenizer.encode_chat([Message("user", LONG_TEXT)]) == plain.encode_chat(
        [Message("user", LONG_TEXT)]
    )
    assert list(tokenizer.switched_off) == ["truncation", "padding"]
    assert list(plain.switched_off) == []


def test_a_normaliser_that_adds_something_is_applied_once(tmp_path: Path) -> None:
    prepends = {"type": "Prepend", "prepend": "▁"}
    doubles = {"type": "Replace", "pattern": {"String": "!"}, "content": "!!"}
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    path = file_with(tmp_path, normalizer={"type": "Sequence", "normalizers": [prepends, space, doubles]})
    tokenizer = from_file(path)
    backend = Tokenizer.from_file(str(path))
    for text in ("たぬき", "the raccoon!", " in"):
        assert tokenizer.encode(text) == backend.encode(text, add_special_tokens=False).ids
    ids = tokenizer.encode("たぬき</s>です")  # in parts
    assert tokenizer.decode(ids) == " たぬき</s>です"
    assert not tokenizer.control_ids & set(ids)


def test_small_vocabularies_are_judged_as_what_they_are(tmp_path: Path) -> None:
    backend = small_unigram()
    single = [(piece, -9.0) for piece in pieces_in_order(backend) if len(piece) == 1 or piece[0] == "<"]
    backend.model = Unigram(single, unk_id=0, byte_fallback=True)
    path = tmp_path / "tokenizer.json"
    path.write_text(backend.to_str(), encoding="utf-8")
    verify_tokenizer(from_file(path))
    with pytest.raises(DamagedModelError, match="too many tokens"):
        verify_tokenizer(ChatTokenizer.from_file(path, bos_id=1, eos_id=2, vocab_size=65024))


def test_every_id_that_ends_an_answer_is_known() -> None:
    tokenizer = ChatTokenizer(small_unigram(), bos_id=1, eos_id=6, vocab_size=1000, other_eos_ids=(6, 4))
    assert tokenizer.end_ids == {2, 4, 6}


@pytest.mark.parametrize("normalized", [False, True])
def test_control_pieces_are_guarded_in_whatever_form_they_are_found(tmp_path: Path, normalized: bool) -> None:
    content = json.loads(small_unigram().to_str())
    token = {**content["added_tokens"][3], "id": 9999, "content": "＜ｔｏｏｌ＞", "normalized": normalized}
    tokenizer = from_file(file_with(tmp_path, added_tokens=[*content["added_tokens"], token]))
    verify_tokenizer(tokenizer)
    for text in ("＜ｔｏｏｌ＞", "<tool>"):
        assert not tokenizer.control_ids & set(tokenizer.encode(text))
    token["content"], token["special"] = "a", True
    with pytest.raises(DamagedModelError, match="single character"):
        verify_tokenizer(from_file(file_with(tmp_path, added_tokens=[*content["added_tokens"], token])))


@pytest.mark.parametrize(
    "sections",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/P///w=="}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}},
        {
            "normalizer": {
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 30,
            }
        },
        {"normalizer": {"type": "Prepend", "prepend": "x" * 10_000}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}},
        {"decoder": {"type": "Strip", "content": " ", "start": 2**60, "stop": 0}},
    ],
)
def test_parts_that_could_fail_on_a_text_are_refused(
    tmp_path: Path, sections: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DamagedModelError, match="is not a tokenizer file"):
        from_file(file_with(tmp_path, **sections))
    assert capfd.readouterr() == ("", "")


def test_a_character_map_that_stays_inside_its_arrays_is_used(tmp_path: Path) -> None:
    empty = base64.b64encode(struct.pack("<257I", 1024, *[0] * 256) + b"a\0").decode()
    tokenizer = from_file(
        file_with(tmp_path, normalizer={"type": "Precompiled", "precompiled_charsmap": empty})
    )
    assert tokenizer.decode(tokenizer.encode("たぬき")) == "たぬき"


def test_a_panic_of_the_library_is_an_error_and_nothing_else() -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    with pytest.raises(TokenizerFault, match="gone"), translated_faults():
        raise panic("gone")
    with pytest.raises(KeyboardInterrupt), translated_faults(quiet=True):
        raise KeyboardInterrupt


def test_what_others_write_to_stderr_meanwhile_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with translated_faults(quiet=True):
        os.write(2, b"progress")
    assert capfd.readouterr().err == "progress"
