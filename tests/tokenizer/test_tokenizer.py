"""Exact ids: the golden chats, properties for any text and any ids, and tokenizers that are refused."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordLevel

from tanuki_cli.conversation import Message
from tanuki_cli.errors import DamagedModelError, EngineError, ExitCode
from tanuki_cli.prompt import segments
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer
from tests.conftest import CODE_PIECES, CONTROL_PIECES, small_unigram

BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))
FIRST_BYTE_ID = 13

# Text that gathers what is hard: spellings of control pieces, halves of them, full-width forms that NFKC
# folds into them, turn headings, combining marks, half-width kana, and any character at all.
spellings = st.sampled_from([*CONTROL_PIECES, *CODE_PIECES, *BYTE_PIECES])
fragments = st.one_of(
    spellings,
    spellings.map(lambda piece: piece.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})),
    st.tuples(spellings, st.integers(1, 5)).map(lambda pair: pair[0][: pair[1]]),
    st.tuples(spellings, st.integers(1, 5)).map(lambda pair: pair[0][-pair[1] :]),
    st.sampled_from(
        ["\n", "\n\n### 指示:\n", "\n\n### 応答:\n", " ", "　", "▁", "\u3099", "\u0338", "ｶﾞ", "㍻", "👩‍👩‍👧"]
    ),
    st.text(max_size=8),
)
texts = st.lists(fragments, max_size=12).map("".join)
plain_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(
    # hypothesis also tries the constants of the code, control spellings among them
    lambda text: (
        not any(
            piece in unicodedata.normalize("NFKC", text)
            for piece in (*CONTROL_PIECES, *CODE_PIECES, *BYTE_PIECES)
        )
    )
)
ids_strategy = st.lists(st.one_of(st.integers(0, 320), st.integers(0, 65023)), max_size=40)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(params=["small_tokenizer", "practice_tokenizer", "real_tokenizer"])
def tokenizer(request: pytest.FixtureRequest) -> ChatTokenizer:
    """Every vocabulary that is at hand."""
    found: ChatTokenizer = request.getfixturevalue(request.param)
    return found


def normal(tokenizer: ChatTokenizer, text: str) -> str:
    """What a round trip gives back: the normalised text, whose word mark is a space."""
    clean = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    assert tokenizer.backend.normalizer is not None
    return str(tokenizer.backend.normalizer.normalize_str(clean)).replace("▁", " ")


def test_golden_chats(real_tokenizer: ChatTokenizer, golden_dir: Path) -> None:
    verify_tokenizer(real_tokenizer)
    lines = (golden_dir / "golden_chats.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    for line in lines:
        chat = json.loads(line)
        messages = [Message(message["role"], message["content"]) for message in chat["messages"]]
        assert real_tokenizer.encode_chat(messages) == chat["ids"]


def test_right_tokenizers_pass_the_self_test(tokenizer: ChatTokenizer) -> None:
    verify_tokenizer(tokenizer)
    assert {0, 1, 2} <= tokenizer.control_ids
    assert tokenizer.control_ids == {*range(8), *range(9, 13)}


@quick
@given(text=texts)
def test_no_text_gives_a_control_id(tokenizer: ChatTokenizer, text: str) -> None:
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode(text))


@quick
@given(text=texts)
def test_a_round_trip_gives_the_normalised_text(tokenizer: ChatTokenizer, text: str) -> None:
    """So no byte id came from a literal spelling: it would decode to its byte."""
    assert tokenizer.decode(tokenizer.encode(text)) == normal(tokenizer, text)


@quick
@given(text=st.lists(st.sampled_from([*BYTE_PIECES, "たぬき", "a", "\n"]), max_size=8).map("".join))
def test_literal_byte_spellings_give_no_byte_id(tokenizer: ChatTokenizer, text: str) -> None:
    byte_ids = range(FIRST_BYTE_ID, FIRST_BYTE_ID + 256)
    assert not set(byte_ids) & set(tokenizer.encode(text))


def test_characters_without_a_piece_give_their_bytes(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.encode("𝼥") == [FIRST_BYTE_ID + byte for byte in "𝼥".encode()]


def test_lone_surrogates_count_as_replacement_characters(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.encode("た\ud800ぬ") == tokenizer.encode("た\ufffdぬ")


def chats(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[Message]]:
    """Chats in turn order, with or without a system message, ending with either side."""

    def build(system: str | None, contents: Sequence[str]) -> list[Message]:
        head = [] if system is None else [Message("system", system)]
        turns = [
            Message("user" if index % 2 == 0 else "assistant", content)
            for index, content in enumerate(contents)
        ]
        return head + turns

    return st.builds(build, st.none() | text, st.lists(text, min_size=1, max_size=5))


@quick
@given(messages=chats(plain_texts))
def test_piecewise_equals_whole(tokenizer: ChatTokenizer, messages: list[Message]) -> None:
    template = "<s>" + "</s>".join(segments(messages))
    whole = tokenizer.backend.encode(template, add_special_tokens=False).ids
    assert tokenizer.encode_chat(messages) == whole


@quick
@given(messages=chats(texts))
def test_control_ids_stand_only_where_the_template_puts_them(
    tokenizer: ChatTokenizer, messages: list[Message]
) -> None:
    ids = tokenizer.encode_chat(messages)
    answers = sum(message.role == "assistant" for message in messages)
    controls = [id_ for id_ in ids if id_ in tokenizer.control_ids]
    assert ids[0] == tokenizer.bos_id
    assert controls == [tokenizer.bos_id] + [tokenizer.eos_id] * answers


@quick
@given(messages=chats(texts))
def test_a_longer_chat_begins_with_the_ids_of_the_shorter(
    tokenizer: ChatTokenizer, messages: list[Message]
) -> None:
    """What the KV cache of the next turn stands on."""
    answered = messages if messages[-1].role == "assistant" else [*messages, Message("assistant", "はい")]
    longer = [*answered, Message("user", "それで?")]
    before = tokenizer.encode_chat(answered)
    assert tokenizer.encode_chat(longer)[: len(before)] == before


@quick
@given(ids=ids_strategy, prompt=texts)
def test_joined_segments_equal_the_full_decode(tokenizer: ChatTokenizer, ids: list[int], prompt: str) -> None:
    assert "".join(tokenizer.detokenize(ids)) == tokenizer.decode(ids)
    prompt_ids = tokenizer.encode_chat([Message("user", prompt)])
    whole = tokenizer.decode(prompt_ids + ids)
    assert tokenizer.decode(prompt_ids) + "".join(tokenizer.detokenize(ids, prompt_ids=prompt_ids)) == whole


@pytest.mark.parametrize(
    "decoder",
    [
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
        decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("たぬき", "狸")]),
        decoders.Metaspace(),
        None,
    ],
    ids=["Tanuki's", "strips", "replaces words", "metaspace", "none"],
)
def test_text_is_put_together_only_where_the_decoder_does_so(
    tmp_path: Path, decoder: decoders.Decoder | None
) -> None:
    """A decoder that looks at more than one piece is asked with more than one."""
    backend = small_unigram()
    backend.decoder = decoder
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = ChatTokenizer.from_reference(tmp_path / "tokenizer.json")
    ids = [*tokenizer.encode("た ぬき  たぬき"), *(FIRST_BYTE_ID + byte for byte in "𝼥".encode()), 2]
    ids += tokenizer.encode(" です")
    assert "".join(tokenizer.detokenize(ids)) == tokenizer.decode(ids)


@quick
@given(text=plain_texts)
def test_bytes_split_anywhere_give_whole_characters(tokenizer: ChatTokenizer, text: str) -> None:
    ids = [FIRST_BYTE_ID + byte for byte in text.encode()]
    parts = list(tokenizer.detokenize(ids))
    assert "".join(parts) == text
    assert len(ids) <= len(parts) <= len(ids) + 1
    assert all(part.count("\ufffd") <= text.count("\ufffd") for part in parts)


@quick
@given(text=texts)
def test_streamed_text_of_an_encoding_is_the_text(tokenizer: ChatTokenizer, text: str) -> None:
    parts = list(tokenizer.detokenize(tokenizer.encode(text), prompt_ids=[tokenizer.bos_id]))
    assert "".join(parts) == normal(tokenizer, text)


def test_text_comes_as_soon_as_it_is_certain(tokenizer: ChatTokenizer) -> None:
    """A run of bytes waits for the piece that ends it; a piece waits for nothing."""
    ids = [
        *tokenizer.encode("たぬき"),
        *(FIRST_BYTE_ID + byte for byte in "𝼥".encode()),
        *tokenizer.encode("です"),
    ]
    parts = list(tokenizer.detokenize(ids))
    assert "".join(parts) == "たぬき𝼥です"
    assert parts[:1] != [""]
    assert "".join(part for part in parts if "𝼥" in part).startswith("𝼥")


# --- the wrong tokenizer zoo --------------------------------------------------------------------------------


def refused(backend: Tokenizer, *, bos_id: int = 1, eos_id: int = 2, vocab_size: int = 65024) -> str:
    with pytest.raises(EngineError) as caught:
        verify_tokenizer(ChatTokenizer(backend, bos_id=bos_id, eos_id=eos_id, vocab_size=vocab_size))
    assert caught.value.exit_code is ExitCode.ENGINE
    return caught.value.message


def per_character() -> Tokenizer:
    tokenizer = small_unigram()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    pieces = [(piece, 0.0) for piece, id_ in vocabulary if id_ < FIRST_BYTE_ID + 256 or len(piece) == 1]
    tokenizer.model = Unigram(pieces, unk_id=0, byte_fallback=True)
    return tokenizer


def without_byte_fallback() -> Tokenizer:
    """And without a piece for 憎, which then turns into ``<unk>``."""
    tokenizer = small_unigram()
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    kept = [(piece, -9.0) for piece, id_ in pieces if id_ < FIRST_BYTE_ID or id_ >= FIRST_BYTE_ID + 256]
    tokenizer.model = Unigram([pair for pair in kept if "憎" not in pair[0]], unk_id=0, byte_fallback=False)
    return tokenizer


def rewriting() -> Tokenizer:
    tokenizer = small_unigram()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("たぬき", "狸"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def word_level() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "たぬき": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def bpe() -> Tokenizer:
    tokenizer = Tokenizer(BPE({"<unk>": 0, "<s>": 1, "</s>": 2, "た": 3, "ぬ": 4, "たぬ": 5}, [("た", "ぬ")]))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def without_control_tokens() -> Tokenizer:
    """``</s>`` is a piece like any other, so no encoding of a whole chat yields it reliably."""
    words = [*CONTROL_PIECES, "\n", *CODE_PIECES]
    pieces = [(piece, -40.0) for piece in words]
    pieces += [(piece, score) for piece, score in unigram_pieces(small_unigram()) if piece not in words]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = small_unigram().normalizer
    tokenizer.decoder = small_unigram().decoder
    return tokenizer


def unigram_pieces(tokenizer: Tokenizer) -> list[tuple[str, float]]:
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bpe, "it is not a Unigram model"),
        (word_level, "it is not a Unigram model"),
        (per_character, "it cuts Japanese into too many tokens"),
        (without_byte_fallback, "Japanese does not survive a round trip"),
        (rewriting, "Japanese does not survive a round trip"),
    ],
)
def test_wrong_kinds_are_refused(make: Callable[[], Tokenizer], reason: str) -> None:
    assert refused(make()) == f"This tokenizer does not belong to the model: {reason}."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vocab_size": 100}, "it has more pieces than the model"),
        ({"bos_id": 65000}, "it has no piece for the model's <s>"),
        ({"eos_id": 65000}, "it has no piece for the model's </s>"),
    ],
)
def test_ids_of_another_model_are_refused(change: dict[str, int], reason: str) -> None:
    assert refused(small_unigram(), **change) == f"This tokenizer does not belong to the model: {reason}."


def test_the_vocabulary_may_be_smaller_than_the_embedding(small_tokenizer: ChatTokenizer) -> None:
    backend = small_tokenizer.backend
    for vocab_size in (backend.get_vocab_size(), backend.get_vocab_size() + 24):
        verify_tokenizer(ChatTokenizer(backend, bos_id=1, eos_id=2, vocab_size=vocab_size))


def test_a_tokenizer_that_does_not_keep_turns_apart_is_refused() -> None:
    assert refused(without_control_tokens()) == (
        "This tokenizer does not belong to the model: it does not keep the turns of a chat apart."
    )


def merging_across_borders() -> Tokenizer:
    """Begins a text, but not what follows a control piece, with a word mark, as Llama's does."""
    tokenizer = small_unigram()
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def test_a_tokenizer_that_merges_across_borders_encodes_chats_whole() -> None:
    backend = merging_across_borders()
    tokenizer = ChatTokenizer(backend, bos_id=1, eos_id=2, vocab_size=65024)
    messages = [Message("user", "たぬき"), Message("assistant", "です"), Message("user", "ありがとう")]
    template = "<s>" + "</s>".join(segments(messages))
    whole = backend.encode(template, add_special_tokens=False).ids
    assert tokenizer.encode_chat(messages) != whole
    verify_tokenizer(tokenizer)
    assert tokenizer.encode_chat(messages) == whole
    # A chat that spells a control piece is safe all the same.
    for spelling in ("</s>", "＜／ｓ＞", "<EOD>", "<0x41>"):
        spelled = [*messages, Message("assistant", "はい"), Message("user", f"{spelling}とは?")]
        ids = tokenizer.encode_chat(spelled)
        assert [id_ for id_ in ids if id_ in tokenizer.control_ids] == [1, 2, 2]


def test_an_added_token_of_the_model_is_guarded_too() -> None:
    backend = small_unigram()
    backend.add_special_tokens([AddedToken("<tool>", normalized=False)])
    tokenizer = ChatTokenizer(backend, bos_id=1, eos_id=2, vocab_size=65024)
    new = backend.token_to_id("<tool>")
    assert new in tokenizer.control_ids
    assert new not in tokenizer.encode("<tool>＜ｔｏｏｌ＞")


def test_files_that_are_not_tokenizers_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"

    def message() -> str:
        with pytest.raises(DamagedModelError) as caught:  # the door knows how it is got again
            ChatTokenizer.from_file(path, bos_id=1, eos_id=2, vocab_size=10)
        return caught.value.message

    assert message() == f"The tokenizer {path} is missing."
    for content in (b"", b"{}", b"[1, 2]", b"\xff\xfe", b'{"model": {"type": "Unigram"}}'):
        path.write_bytes(content)
        assert message().startswith(f"{path} is not a tokenizer file: ")
    path.write_text(small_unigram().to_str(), encoding="utf-8")
    verify_tokenizer(ChatTokenizer.from_file(path, bos_id=1, eos_id=2, vocab_size=65024))
