"""Questions, references and prompts, in the forms that the published copies have."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.mtbench import wordings
from tanuki_cli.evaluation.mtbench.prompts import name_for, needed_references, read_prompts
from tanuki_cli.evaluation.mtbench.questions import (
    CATEGORIES,
    MINI_FOLDER,
    NEEDS_REFERENCE,
    category_of,
    find_bench,
    most_questions,
    read_questions,
    read_references,
)
from tanuki_cli.evaluation.mtbench.wordings import WORDINGS, Wording


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def question(id_: int | str, category: str = "writing") -> dict[str, object]:
    return {"question_id": id_, "category": category, "turns": [f"問い {id_}", "続き"]}


def prompt(name: str, template: str = "{question} {answer}", **fields: object) -> dict[str, object]:
    return {
        "name": name,
        "type": "single",
        "system_prompt": "採点者です。",
        "prompt_template": template,
        "output_format": "[[rating]]",
        **fields,
    }


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "japanese_mt_bench",
        "fastchat/llm_judge/data/japanese_mt_bench",
        "fastchat/fastchat/llm_judge/data/japanese_mt_bench",
    ],
)
def test_a_copy_is_found_wherever_it_is_named(tmp_path: Path, inside: str) -> None:
    base = tmp_path / inside
    write(base / "question.jsonl", [question(1), question(2)])
    write(base / "question_full.jsonl", [question(1)])
    write(base.parent / "judge_prompts.jsonl", [])
    write(base / "judge_ja_prompts.jsonl", [])
    for name in ("gpt-4-raw", "gpt-4", "zzz"):
        write(base / "reference_answer" / f"{name}.jsonl", [])
    bench = find_bench(tmp_path)
    # The file with the most questions, whatever its name: 60 of 80, and 79, were both published.
    assert most_questions(bench.questions).path == base / "question.jsonl"
    assert [path.name for path in bench.prompts] == ["judge_prompts.jsonl", "judge_ja_prompts.jsonl"]
    found = {judge: bench.references_for(judge) for judge in ("zzz", "someone")}
    assert found == {
        "zzz": base / "reference_answer" / "zzz.jsonl",
        "someone": base / "reference_answer" / "gpt-4.jsonl",
    }
    assert find_bench(base / "question_full.jsonl").questions == (base / "question_full.jsonl",)


def test_where_there_is_none_it_is_said_where_they_are_published(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no questions") as caught:
        find_bench(tmp_path)
    assert "git clone" in str(caught.value.hint)
    assert "--mini" in str(caught.value.hint)


def test_damaged_rows_cost_no_others(tmp_path: Path) -> None:
    path = write(
        tmp_path / "question.jsonl",
        [
            question("7"),
            {"question_id": 8, "category": "writing", "turns": "one text"},
            {"question_id": True, "category": "writing", "turns": ["a"]},
            {"question_id": "²", "category": "writing", "turns": ["a"]},
            {"question_id": 9, "turns": ["a"]},
            question(7),
            question(10, "STEM"),
        ],
    )
    with path.open("ab") as file:
        file.write(b'{"question_id": 50, "category": "reasoning", "turns": ["\n')
    read = read_questions(path)
    assert [(one.id, one.category) for one in read.questions] == [(7, "writing"), (10, "stem")]
    assert [line.line for line in read.left_out] == [2, 3, 4, 5, 6, 8]
    assert len(read.remarks) == 7
    with pytest.raises(InputError, match="holds no question"):
        read_questions(write(tmp_path / "empty.jsonl", [{}]))


def test_a_published_wording_is_known_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "question.jsonl", [question(2), question("1")])
    read = read_questions(path)
    # Neither the order of the rows nor ids as texts make another wording; one character does.
    assert read_questions(write(tmp_path / "b.jsonl", [question(1), question(2)])).digest == read.digest
    assert (
        read_questions(write(tmp_path / "c.jsonl", [question(1), question(2, "math")])).digest != read.digest
    )
    assert "not among the published ones" in read.remarks[0]
    monkeypatch.setitem(WORDINGS, read.digest, Wording(name="Someone 2024", caveat="It lacks coding."))
    assert read_questions(path).remarks == [f"{path}: Someone 2024. It lacks coding."]


def test_published_digests_are_whole() -> None:
    assert all(len(digest) == 16 and int(digest, 16) for digest in wordings.WORDINGS)


def test_the_id_of_a_published_question_tells_its_category() -> None:
    japanese = ["coding", "extraction", "humanities", "math", "reasoning", "roleplay", "stem", "writing"]
    assert [category_of(id_) for id_ in range(1, 81)] == [name for name in japanese for _row in range(10)]
    assert [category_of(id_) for id_ in range(81, 161)] == [name for name in CATEGORIES for _row in range(10)]
    assert {category_of(id_) for id_ in (-5, 0, 161, 10**12)} == {None}


def test_references_are_read_by_question(tmp_path: Path) -> None:
    def answer(id_: object, *turns: str) -> dict[str, object]:
        return {"question_id": id_, "choices": [{"index": 0, "turns": list(turns)}]}

    path = write(
        tmp_path / "gpt-4.jsonl",
        [answer("31", "a", "b"), answer(41, "c"), answer(1, "d", "e"), answer(2), {}],
    )
    references = read_references(path)
    assert references.answers == {31: ("a", "b"), 41: ("c",), 1: ("d", "e")}
    assert [line.line for line in references.left_out] == [4, 5]
    questions = read_questions(
        write(
            tmp_path / "question.jsonl",
            [question(31, "math"), question(41, "reasoning"), question(1, "coding"), question(2, "stem")],
        )
    ).questions
    assert needed_references(questions, references) == [41]
    assert needed_references(questions, None) == [31, 41, 1]


def test_prompts_are_chosen_by_category_and_turn(tmp_path: Path) -> None:
    names = ["single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"]
    pair = prompt("pair-v2", type="pairwise", output_format="[[A]]")
    english = write(tmp_path / "judge_prompts.jsonl", [pair, *map(prompt, names)])
    japanese = write(
        tmp_path / "judge_ja_prompts.jsonl",
        [prompt(name, "和 {answer}", output_format="[[評価]]") for name in names[:2]],
    )
    assert read_prompts(english).turns == (1, 2)
    assert read_prompts(japanese).turns == (1,)
    both = read_prompts(japanese, multi_turn=english)
    assert both.turns == (1, 2)
    assert both.digest not in (read_prompts(english).digest, read_prompts(japanese).digest)
    for one in read_questions(MINI_FOLDER / "question.jsonl").questions:
        for turn in (1, 2):
            chosen = both.prompt_for(one, turn)
            assert chosen.name == name_for(one.category in NEEDS_REFERENCE, turn)
            assert chosen.fill({"question": "問", "answer": "答"}) == ("和 答" if turn == 1 else "問 答")
    for missing in ([], [prompt("single-v1")]):
        with pytest.raises(InputError, match="single-math-v1"):
            read_prompts(write(tmp_path / "few.jsonl", missing))
    with pytest.raises(InputError, match="multi-turn"):
        read_prompts(english, multi_turn=japanese)


@pytest.mark.parametrize(
    "template",
    [
        "{answer.__class__}",
        "{answer[0]}",
        "{answer!r}",
        "{answer:>1000000000}",
        "{0}",
        "{}",
        "{other}",
        "{",
        "}",
    ],
)
def test_a_template_reaches_nothing_but_its_texts(tmp_path: Path, template: str) -> None:
    rows = [
        prompt("single-v1", template),
        prompt("single-v1"),
        prompt("single-math-v1", "{{{answer}}} {{x}}"),
    ]
    prompts = read_prompts(write(tmp_path / "judge_prompts.jsonl", rows))
    assert [line.line for line in prompts.left_out] == [1]
    # Doubled braces are single ones, as FastChat's str.format has it; braces of an answer stay.
    assert prompts.by_name["single-math-v1"].fill({"answer": "{answer}"}) == "{{answer}} {x}"


def test_the_mini_set_is_whole() -> None:
    bench = find_bench(MINI_FOLDER)
    questions = most_questions(bench.questions)
    assert tuple(one.category for one in questions.questions) == CATEGORIES
    assert all(len(one.turns) == 2 for one in questions.questions)
    [references] = bench.references
    assert needed_references(questions.questions, read_references(references)) == []
    prompts = read_prompts(bench.prompts[0])
    assert prompts.turns == (1, 2)
    assert not prompts.left_out
    assert prompts.by_name["single-math-v1-multi-turn"].placeholders >= {
        "ref_answer_1",
        "ref_answer_2",
        "answer_2",
    }
