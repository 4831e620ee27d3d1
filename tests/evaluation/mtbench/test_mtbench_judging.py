"""Judging: the score in a text, what the judge is asked, waiting, and runs that go on."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.engines.base import Engine
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.engines.remote.engine import RemoteEngine
from tanuki_cli.engines.remote.failures import RequestFailed
from tanuki_cli.errors import InputError, RemoteError
from tanuki_cli.evaluation.mtbench.answers import Answer
from tanuki_cli.evaluation.mtbench.judgements import (
    Judgement,
    judgement_files,
    judgement_path,
    read_judgements,
    read_score,
)
from tanuki_cli.evaluation.mtbench.judging import JUDGE_OPTIONS, JudgeProgress, JudgeRun, Judging, matches_of
from tanuki_cli.evaluation.mtbench.questions import MINI_FOLDER
from tanuki_cli.evaluation.mtbench.setup import JudgeFiles, judge_run, open_bench
from tanuki_cli.evaluation.provenance import ModelSource
from tests.support.chat_server import Cut, Script, Status, chat, chat_answer
from tests.support.judge_server import NO_SCORE, judge_server, verdict
from tests.support.scripted import ScriptedEngine

SOURCE = ModelSource(reference="judge", name="judge", engine="script", device="none", context_length=4096)
BENCH = open_bench(None, mini=True)
QUESTIONS = BENCH.questions.questions
PROMPTS = MINI_FOLDER / "judge_prompts.jsonl"


def answers(*, choices: int = 1, mark: str = "") -> dict[int, Answer]:
    return {
        one.id: Answer(
            question_id=one.id,
            answer_id=f"id{one.id}",
            choices=tuple(
                (f"答{mark}{one.id}-{choice}-1", f"答{one.id}-{choice}-2") for choice in range(choices)
            ),
        )
        for one in QUESTIONS
    }


def run_of(judge: str = "judge") -> JudgeRun:
    return judge_run(BENCH, SOURCE, JudgeFiles(), judge=judge)


def judge(
    folder: Path,
    engine: Engine,
    given: dict[int, Answer],
    *,
    limit: int | None = None,
    notes: list[str] | None = None,
    wait: Callable[[float], None] = lambda seconds: None,
) -> JudgeProgress:
    run = run_of()
    note = (notes if notes is not None else []).append
    with Judging(folder, run, note=note, wait=wait) as judging:
        todo = judging.open_matches(list(matches_of(QUESTIONS, "model", given, run)))
        return judging.judge_all(OneByOne(engine), todo[:limit], report=lambda progress: None)


def remote(url: str) -> RemoteEngine:
    return RemoteEngine(RemoteModel(name=url, base_url=url))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("[[7]]", 7),
        ("よい。[[7.5]] ほかに [[3]]", 7.5),
        ("[[8.]]", 8.0),
        ("[2] だが [[9]]", 9),  # double brackets first, wherever they stand
        ("Rating: [6]", 6),
        ("[[10]]", 10),
        ("[[85]]", 85),
        ("[[08]]", 8),
        ("評価: [[８]]", 8),
        ("[[-3]]", -1),
        ("[[3/10]]", -1),
        ("[[評価]]", -1),
        ("[[ 5 ]]", -1),
        ("7", -1),
        ("", -1),
        ("$ERROR$", -1),
        ("[[" + "9" * 5000 + "]]", -1),
    ],
)
def test_the_score_in_a_judgement(text: str, score: float) -> None:
    found = read_score(text)
    assert (found, type(found)) == (score, type(score))


def test_the_judge_is_asked_as_fastchat_asks(tmp_path: Path) -> None:
    engine = ScriptedEngine(*[["[[5]]"]] * 16)
    judge(tmp_path, engine, answers())
    assert JUDGE_OPTIONS.temperature == 0.0
    assert JUDGE_OPTIONS.max_new_tokens == 2048
    # All first turns, then all second ones, each with the prompt of its category.
    systems = [messages[0].content for messages in engine.seen]
    assert len(set(systems[:8])) == 1
    texts = [messages[-1].content for messages in engine.seen]
    for number, one in enumerate(QUESTIONS):
        first, second = texts[number], texts[number + 8]
        assert one.turns[0] in first
        assert f"答{one.id}-0-1" in first
        assert one.turns[1] not in first
        assert all(part in second for part in (*one.turns, f"答{one.id}-0-1", f"答{one.id}-0-2"))
        assert ("手本" in first) == ("手本" in second) == (one.category in ("math", "reasoning", "coding"))
    records = [
        json.loads(line)
        for line in judgement_path(tmp_path, "judge").read_text(encoding="utf-8").splitlines()
    ]
    assert [record["turn"] for record in records] == [1] * 8 + [2] * 8
    assert records[3]["judge"] == ["judge", "single-math-v1"]
    assert records[3]["user_prompt"] == texts[3]
    assert {"question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp"} < set(
        records[0]
    )


def test_a_real_connection_is_used_and_counts_what_the_server_tells(tmp_path: Path) -> None:
    with judge_server() as server, closing(remote(server.url)) as engine:
        taken = judge(tmp_path, engine, answers(choices=2))
    judgements, left_out = read_judgements([judgement_path(tmp_path, "judge")])
    assert not left_out
    assert len(judgements) == taken.done == len(server.requests) == 32
    assert len({one.key for one in judgements}) == 32
    prompts = [request.body["messages"][-1]["content"] for request in server.requests]  # type: ignore[index]
    assert [one.score for one in judgements] == [read_score(verdict(prompt)) for prompt in prompts]
    assert taken.unreadable == sum(not one.readable for one in judgements)
    assert taken.completion_tokens == sum(len(verdict(prompt)) for prompt in prompts)
    assert {request.body["temperature"] for request in server.requests} == {0.0}


def test_it_waits_as_long_as_the_server_says(tmp_path: Path) -> None:
    busy = Status(429, b'{"error": {"message": "slow down"}}', {"Retry-After": "42"})
    waited: list[float] = []
    notes: list[str] = []
    with judge_server(busy, chat_answer("[[4]]")) as server, closing(remote(server.url)) as engine:
        judge(tmp_path, engine, answers(), limit=1, wait=waited.append, notes=notes)
    assert waited == [42]
    assert "Waiting 42 seconds" in notes[0]
    judgements, _left_out = read_judgements([judgement_path(tmp_path, "judge")])
    assert [one.score for one in judgements] == [4]


def test_a_broken_answer_is_asked_for_again_and_counts_once(tmp_path: Path) -> None:
    torn: Script = [chat("理由 [[1]]"), Cut()]
    with judge_server(torn, chat_answer("[[9]]")) as server, closing(remote(server.url)) as engine:
        judge(tmp_path, engine, answers(), limit=1)
    judgements, _left_out = read_judgements([judgement_path(tmp_path, "judge")])
    assert [one.score for one in judgements] == [9]


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        ([Status(401)], "API key"),
        ([Status(429, b"{}", {"Retry-After": "86400"})], "too many requests"),
    ],
)
def test_it_gives_up_where_waiting_does_not_help_and_keeps_what_it_has(
    tmp_path: Path, scripts: Sequence[Script], message: str
) -> None:
    first = [chat_answer("[[4]]"), chat_answer("[[5]]")]
    with (
        judge_server(*first, *scripts) as server,
        closing(remote(server.url)) as engine,
        pytest.raises(RemoteError, match=message),
    ):
        judge(tmp_path, engine, answers())
    judgements, _left_out = read_judgements([judgement_path(tmp_path, "judge")])
    assert [one.score for one in judgements] == [4, 5]
    with judge_server() as server, closing(remote(server.url)) as engine:
        assert judge(tmp_path, engine, answers()).done == 14


def test_it_waits_longer_each_time_and_not_for_ever(tmp_path: Path) -> None:
    busy = RequestFailed("The judge is busy.", hint=None, retryable=True)
    waited: list[float] = []
    with pytest.raises(RequestFailed):
        judge(tmp_path, ScriptedEngine(*[[busy]] * 8), answers(), wait=waited.append)
    assert waited == sorted(waited)
    assert len(set(waited)) == len(waited) == 7
    assert max(waited) <= 600


def test_what_is_too_long_for_the_judge_is_recorded_without_a_score(tmp_path: Path) -> None:
    notes: list[str] = []
    engine = ScriptedEngine([InputError("too long")], ["[[6]]"])
    assert judge(tmp_path, engine, answers(), limit=2, notes=notes).unreadable == 1
    judgements, _left_out = read_judgements([judgement_path(tmp_path, "judge")])
    assert [one.score for one in judgements] == [-1, 6]
    assert "too long" in notes[0]


def test_other_answers_are_not_taken_for_judged(tmp_path: Path) -> None:
    judge(tmp_path, ScriptedEngine(["[[6]]"]), answers(), limit=1)
    with pytest.raises(InputError, match="other answers") as caught:
        judge(tmp_path, ScriptedEngine(), answers(mark="new"))
    assert "--judge-name" in str(caught.value.hint)


def test_other_prompts_are_not_taken_for_the_same(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    for changed in ("system_prompt", "prompt_template"):
        others = tmp_path / f"{changed}.jsonl"
        others.write_text("".join(json.dumps({**row, changed: row[changed] + "!"}) + "\n" for row in rows))
        folder = tmp_path / changed
        judge(folder, ScriptedEngine(["[[6]]"]), answers(), limit=1)
        run = judge_run(BENCH, SOURCE, JudgeFiles(prompts=others), judge="judge")
        with Judging(folder, run, note=print) as judging, pytest.raises(InputError, match="other prompts"):
            judging.open_matches(list(matches_of(QUESTIONS, "model", answers(), run)))


def test_judgements_of_fastchat_count_as_judged(tmp_path: Path) -> None:
    """Also in the other layout, a file for each model and turn."""
    asked = next(iter(matches_of(QUESTIONS, "model", answers(), run_of()))).user_prompt
    record = {
        "question_id": "1001",
        "model": "model",
        "judge": ["judge", "single-v1"],
        "user_prompt": asked,
        "score": 3,
        "turn": 1,
    }
    folder = judgement_path(tmp_path, "judge").with_suffix("")
    folder.mkdir(parents=True)
    (folder / "model__1turn.jsonl").write_text(json.dumps(record))
    engine = ScriptedEngine(*[["[[5]]"]] * 15)
    assert judge(tmp_path, engine, answers()).done == 15
    assert judgement_files(tmp_path) == [
        folder / "model__1turn.jsonl",
        judgement_path(tmp_path, "judge"),
    ] or (len(judgement_files(tmp_path)) == 2)


def test_every_published_form_of_record_is_read(tmp_path: Path) -> None:
    base = {"question_id": 31, "model": "m", "judge": ["gpt-4", "single-math-v1"], "turn": 2}
    rows = [
        {**base, "score": 7},
        {**base, "score": [8, -1, 6.5], "judgment": ["a", "b", "c"]},
        {**base, "score": 5, "choice": 4, "category": "Writing"},
        {**base, "judge": "gpt-4", "score": -1},
        {**base, "score": None},
        {**base, "score": True},
        {**base, "score": float("nan")},
        {**base, "score": 1, "turn": 3},
        {**base, "score": 1, "judge": []},
        {"question_id": 5},
    ]
    path = tmp_path / "gpt-4_single.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judgements, left_out = read_judgements([path])
    assert [(one.choice, one.score, one.category) for one in judgements] == [
        (0, 7, "math"),
        (0, 8, "math"),
        (1, -1, "math"),
        (2, 6.5, "math"),
        (4, 5, "writing"),
        (0, -1, "math"),
    ]
    assert judgements[4] == Judgement(
        question_id=31,
        model="m",
        judge="gpt-4",
        prompt="single-math-v1",
        turn=2,
        choice=4,
        score=5,
        category="writing",
    )
    assert [line.line for line in left_out] == [5, 6, 7, 8, 9, 10]


def test_the_judge_of_these_tests_gives_all_kinds_of_judgement() -> None:
    texts = [verdict(str(number)) for number in range(200)]
    assert NO_SCORE in texts
    assert {read_score(text) for text in texts} == {-1, *range(1, 11)}
