"""tokenizer.json mutants: parts of the model family and of others, in every place, and spoiled bytes.

python -m tests.fuzz.tokenizer --count 1000 --seed 1
"""

import base64
import copy
import json
import random
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from scripts.make_synthetic_gguf import make_tokenizer, make_vocabulary
from tests.fuzz.harness import flip_bits, main, numbers, spoil_bytes

TEXTS = (
    "こんにちは。「たぬき」と Tanuki は同じですか?\n２つ教えて",
    "</s>＜／ｓ＞ <0x41>",
    "",
    " a  b",
    "😊ｶﾞﾊﾟé\ufeff\u200b",
)
LONG = "x" * 100_000
NORMALIZERS: tuple[Any, ...] = (
    None, {"type": "NFKC"}, {"type": "NFD"}, {"type": "Nmt"}, {"type": "Lowercase"},
    {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "StripAccents"},
    {"type": "Prepend", "prepend": "▁"}, {"type": "Prepend", "prepend": LONG}, {"type": "Prepend"},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
     "lowercase": True},
    {"type": "ByteLevel"}, {"type": "Replace", "pattern": {"String": ""}, "content": "a"},
    {"type": "Replace", "pattern": {"String": "a"}, "content": LONG},
    {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
    {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"},
    {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    {"type": "Sequence", "normalizers": []},
)  # fmt: skip
PRE_TOKENIZERS: tuple[Any, ...] = (
    None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
    {"type": "Metaspace", "replacement": ""}, {"type": "WhitespaceSplit"},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False},
    {"type": "FixedLength", "length": 0}, {"type": "CharDelimiterSplit", "delimiter": "a"},
    {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Digits", "individual_digits": True},
    {"type": "UnicodeScripts"}, {"type": "Nonsense"},
)  # fmt: skip
DECODERS: tuple[Any, ...] = (
    None, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "ByteLevel"}, {"type": "WordPiece"},
    {"type": "Strip", "content": " ", "start": 1 << 60, "stop": 0}, {"type": "CTC"}, {"type": "BPEDecoder"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Replace", "pattern": {"String": "▁"}, "content": LONG},
)  # fmt: skip


@lru_cache
def base() -> str:
    return str(make_tokenizer(make_vocabulary(600)).to_str())


def make(random_: random.Random, path: Path) -> str:
    """One mutant."""
    name, mutate = random_.choice(MUTATIONS)
    path.write_bytes(mutate(random_))
    return name


def _changed(random_: random.Random, content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=random_.random() < 0.3).encode("utf-8", "surrogatepass")


def _number(random_: random.Random) -> Any:
    return random_.choice([*numbers(), -1, 1.5, -1e300, "1", None, [], {}, True])


def character_map(random_: random.Random) -> bytes:
    """A precompiled map: none of it, some of it, or one that leads somewhere else."""
    count = random_.choice((0, 1, 2, 255, 256, 512))
    units = [
        random_.choice((0, 0, random_.getrandbits(32), 1 << 31, 0x3FF, 0xFFFFFFFF)) for _i in range(count)
    ]
    if random_.random() < 0.3:
        units = [0] * count
    claimed = random_.choice((4 * count, 4 * count, 0xFFFFFFFC, 4 * count + 4, 3))
    texts = random_.choice((b"", b"a\0b\0", "あ\0".encode(), b"\xff\xfe"))
    return struct.pack("<I", claimed) + struct.pack(f"<{count}I", *units) + texts


def _part(random_: random.Random) -> bytes:
    content = json.loads(base())
    place, parts, member = random_.choice(
        (
            ("normalizer", NORMALIZERS, "normalizers"),
            ("pre_tokenizer", PRE_TOKENIZERS, "pretokenizers"),
            ("decoder", DECODERS, "decoders"),
        )
    )
    part = random_.choice(parts)
    for _depth in range(random_.choice((0, 0, 1, 2, 3, 60, 300))):
        part = {"type": "Sequence", member: [part]}
    if random_.random() < 0.2:
        part = {"type": "Sequence", member: [part] * random_.choice((2, 30, 5000))}
    if random_.random() < 0.5 and isinstance(content[place], dict):
        content[place].setdefault(member, []).insert(random_.randrange(3), part)
    else:
        content[place] = part
    return _changed(random_, content)


def _precompiled(random_: random.Random) -> bytes:
    content = json.loads(base())
    data = character_map(random_)
    text = base64.b64encode(data).decode()
    encoded = random_.choice((text, text, text, text[:-1], "", "!!", None))
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": encoded}
    if random_.random() < 0.5:
        content["normalizer"] = {"type": "Sequence", "normalizers": [content["normalizer"], {"type": "NFKC"}]}
    return _changed(random_, content)


def _sections(random_: random.Random) -> bytes:
    content = json.loads(base())
    content["truncation"] = random_.choice(
        (
            None,
            {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
            {"direction": "Left", "max_length": 0, "strategy": "OnlySecond", "stride": 5},
            {"direction": "Left", "max_length": _number(random_), "strategy": "OnlyFirst", "stride": 1},
        )
    )
    content["padding"] = random_.choice(
        (
            None,
            {"strategy": {"Fixed": _number(random_)}, "direction": "Right", "pad_to_multiple_of": None,
             "pad_id": 3, "pad_type_id": 0, "pad_token": "<pad>"},
            {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": _number(random_),
             "pad_id": _number(random_), "pad_type_id": 0, "pad_token": LONG},
        )
    )  # fmt: skip
    content["post_processor"] = random_.choice(
        (
            None,
            {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
            {"type": "TemplateProcessing",
             "single": [{"Sequence": {"id": "A", "type_id": 0}}] * random_.choice((2, 1000)),
             "pair": [{"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {}},
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        )
    )  # fmt: skip
    return _changed(random_, content)


def _model(random_: random.Random) -> bytes:
    content = json.loads(base())
    model = content["model"]
    vocabulary = model["vocab"]
    action = random_.randrange(8)
    if action == 0:
        model["unk_id"] = _number(random_)
    elif action == 1:
        vocabulary[random_.randrange(len(vocabulary))][1] = random_.choice(
            (1e308, -1e308, 0, None, "a", 10**400)
        )
    elif action == 2:
        vocabulary[random_.randrange(len(vocabulary))][0] = random_.choice(
            ("", LONG, "\udcff", "\0", "a", None)
        )
    elif action == 3:
        del vocabulary[random_.randrange(len(vocabulary)) :]
    elif action == 4:
        model["type"] = random_.choice(("BPE", "WordPiece", "WordLevel", "Unigram2", None))
    elif action == 5:
        model["byte_fallback"] = random_.choice((False, None, 1))
    elif action == 6:
        vocabulary.extend(copy.deepcopy(vocabulary[: random_.choice((1, 600))]))
    else:
        model[random_.choice(list(model))] = _number(random_)
    return _changed(random_, content)


def _added(random_: random.Random) -> bytes:
    content = json.loads(base())
    tokens = content["added_tokens"]
    token = random_.choice(tokens)
    key = random_.choice(list(token))
    token[key] = random_.choice((LONG, "", "a", "\0", True, False, _number(random_)))
    if random_.random() < 0.2:
        tokens.extend({**token, "content": f"t{index}", "id": index} for index in range(600, 3000))
    if random_.random() < 0.2:
        random_.shuffle(tokens)
    return _changed(random_, content)


def _deep(random_: random.Random) -> bytes:
    depth = random_.choice((100, 200, 5000, 200_000))
    opening = random_.choice((b"[", b'{"a":', b'{"type":"Sequence","normalizers":['))
    return random_.choice((b"", b'{"normalizer":', b'{"version":"1.0","added_tokens":')) + opening * depth


def _bytes(random_: random.Random) -> bytes:
    data = base().encode()
    if random_.random() < 0.5:
        return flip_bits(random_, data, below=random_.choice((3000, None)))
    return spoil_bytes(random_, data, below=random_.choice((3000, None)))


MUTATIONS = (
    ("a part", _part),
    ("a part", _part),
    ("a character map", _precompiled),
    ("sections that change prompts", _sections),
    ("the model", _model),
    ("added tokens", _added),
    ("depth", _deep),
    ("bytes", _bytes),
)


def attempt(path: Path) -> str:
    """Read it, verify it and use it on texts that are odd."""
    from tanuki_cli.conversation import Message
    from tanuki_cli.errors import DamagedModelError
    from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer

    try:
        tokenizer = ChatTokenizer.from_file(path, bos_id=1, eos_id=2, vocab_size=5000)
        verify_tokenizer(tokenizer)
        for text in TEXTS:
            ids = tokenizer.encode(text)
            unknown = tokenizer.backend.token_to_id("<unk>")  # right where there is no byte fallback
            controls = tokenizer.control_ids - {unknown}
            assert not controls & set(ids), "plain text gave a control id"
            assert len(ids) <= 50 * (len(text) + 1), "a text was blown up"
            "".join(tokenizer.detokenize(ids, prompt_ids=[1]))
        tokenizer.encode_chat([Message("user", text) for text in TEXTS[:1]])
    except DamagedModelError as exc:
        exc.hint = exc.hint or "tanuki pull tanuki-8b:q4_k_m --verify"
        raise
    return "used"


if __name__ == "__main__":
    main((("tests.fuzz.tokenizer", ".json", make),), __doc__ or "")
