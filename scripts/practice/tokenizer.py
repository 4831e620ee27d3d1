"""The practice model's tokenizer: SentencePiece Unigram, of the same kind as Tanuki's."""

import io
import json
import random
import re
import string
from pathlib import Path
from typing import Any

import sentencepiece as spm
from tokenizers import Tokenizer

from .lessons import Lesson
from .prompt import ANSWER_HEAD, QUESTION_HEAD, SYSTEM

PIECES = 3960
VOCABULARY = 3968  # embedding rows: the next multiple of 128, the rest is padding
CONTROLS = [
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "<CLS>",
    "<SEP>",
    "<EOD>",
    "<MASK>",
    "\n",
    "<llm-code>",
    "</llm-code>",
    "<llm-code-output>",
    "</llm-code-output>",
]
SPECIAL = 3  # the first three are marked special, as in Tanuki's file
_KANA = "".join(map(chr, [*range(0x3041, 0x3097), *range(0x30A1, 0x30FB), 0x30FC]))
_MARKS = "、。「」『』・〜々※→←↑↓…×÷★%"


def required_characters() -> str:
    """Characters that are always single pieces: kana, ASCII and the kanji taught in primary school."""
    kanji = (Path(__file__).parent / "kanji.txt").read_text(encoding="utf-8")
    ascii_marks = string.digits + string.ascii_letters + string.punctuation
    return "".join(dict.fromkeys(_KANA + _MARKS + ascii_marks + "".join(kanji.split())))


def training_lines(lessons: list[Lesson], seed: int = 1) -> list[str]:
    """The text that the pieces are chosen from: every question a little, every answer more."""
    ordinary = (Path(__file__).parent / "ordinary.txt").read_text(encoding="utf-8")
    lines = _frame_lines() + ordinary.splitlines() * 4
    pick = random.Random(seed)
    for lesson in lessons:
        asked = lesson.questions + lesson.held_out
        lines += pick.sample(asked, min(12, len(asked)))
        for text in (lesson.answer, lesson.more, lesson.why, lesson.first):
            lines += (text or "").split("\n") * 6
    return [line for line in lines if line]


def _frame_lines() -> list[str]:
    """The text around every question. SentencePiece looks for candidates in distinct words
    only, so the clauses come in several surroundings, else they would stay single characters."""
    clauses = [c for c in re.split("[、。]|(?<=を)|(?<=に)", SYSTEM) if c]
    words = [c.strip(":") for head in (QUESTION_HEAD, ANSWER_HEAD) for c in head.split()]
    surrounded = [w + end for w in clauses + words for end in ("", "(", ")", "-")]
    return surrounded * 60 + [SYSTEM, QUESTION_HEAD.strip(), ANSWER_HEAD.strip()] * 300


def train_tokenizer(lessons: list[Lesson]) -> dict[str, Any]:
    """A tokenizer.json document; the same texts give the same document."""
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(training_lines(lessons)),
        model_writer=out,
        model_type="unigram",
        vocab_size=PIECES,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="nfkc",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        required_chars=required_characters(),
        character_coverage=1.0,
        num_threads=1,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        user_defined_symbols=CONTROLS[4:],
        max_sentencepiece_length=12,
        minloglevel=1,
    )
    trained = spm.SentencePieceProcessor(model_proto=out.getvalue())
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(len(trained))]
    document = tokenizer_document(pieces)
    _same_ids(trained, Tokenizer.from_str(json.dumps(document)), training_lines(lessons))
    return document


def tokenizer_document(pieces: list[tuple[str, float]]) -> dict[str, Any]:
    """The tokenizer.json document of Unigram pieces whose first ids are CONTROLS."""
    if [piece for piece, _ in pieces[: len(CONTROLS)]] != CONTROLS:
        raise ValueError("the control pieces are not at ids 0 to 12")
    added = [
        {
            "id": i,
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": i < SPECIAL,
        }
        for i, piece in enumerate(CONTROLS)
    ]
    plain = [[p, 0.0 if i < len(CONTROLS) + 256 else s] for i, (p, s) in enumerate(pieces)]
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    bos_b = {"SpecialToken": {"id": "<s>", "type_id": 1}}
    a, b = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFKC"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, a],
            "pair": [bos, a, bos_b, b],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {"type": "Unigram", "unk_id": 0, "vocab": plain, "byte_fallback": True},
    }


def save_tokenizer(document: dict[str, Any], path: Path) -> None:
    """Writes the document with one piece a line, so that it can be read and compared."""
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _same_ids(trained: Any, made: Tokenizer, lines: list[str]) -> None:
    for line in dict.fromkeys(lines):
        expected = trained.encode(line)
        ids = made.encode(line, add_special_tokens=False).ids
        if ids != expected:
            raise ValueError(f"not the ids of SentencePiece: {line!r}: {ids} != {expected}")
