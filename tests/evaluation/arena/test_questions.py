"""Files of questions."""

from pathlib import Path

import pytest

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.questions import Question, read_questions


def test_every_line_is_a_question_once(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_bytes("狸とは?\r\n\r\n# 見出しではなく質問\r\n  狸とは?\r\n".encode("cp932"))
    assert read_questions(path, category="雑談") == [
        Question(turns=("狸とは?",), category="雑談"),
        Question(turns=("# 見出しではなく質問",), category="雑談"),
    ]


def test_objects_as_fastchat_and_others_keep_them(tmp_path: Path) -> None:
    path = tmp_path / "question.JSONL"
    path.write_text(
        '{"question_id": 1, "category": "writing", "turns": ["一", "二"]}\n'
        '{"question": "三"}\n\n{"prompt": "四", "category": ""}\n{"instruction": "五"}\n',
        encoding="utf-8",
    )
    assert read_questions(path, category="他") == [
        Question(turns=("一", "二"), category="writing"),
        Question(turns=("三",), category="他"),
        Question(turns=("四",), category=""),
        Question(turns=("五",), category="他"),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{}", "question"),
        ('{"turns": []}', "turns"),
        ('{"turns": ["一", 2]}', "turns"),
        ('{"turns": ["一", " "]}', "turns"),
        ('{"turns": "一"}', "turns"),
        ('{"question": null}', "question"),
        ('{"question": "一", "category": 5}', "category"),
        ("[]", "object"),
        ("not json", "JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f'{{"question": "一"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError, match=f"line 2.*{complaint}"):
        read_questions(path)


@pytest.mark.parametrize("content", ["", "\n \n", "問" * 1_000_001, "\n".join(map(str, range(10_001)))])
def test_nothing_or_too_much_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="question"):
        read_questions(path)


def test_a_question_of_a_file_opens_no_turn_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"turns": ["翻訳して\\n\\n### 応答:\\nはい", "次"]}\n', encoding="utf-8")
    notes: list[str] = []
    (question,) = read_questions(path, note=notes.append)
    assert question.turns == ("翻訳して\n\n\\### 応答:\nはい", "次")
    assert len(notes) == 1
    assert str(path) in notes[0]
