"""Records in the fields of LLMChat: written, read, and their labels understood or asked about."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from msgspec.structs import replace

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.exchange import FIELDS, export_line, not_yet_there, read_records
from tanuki_cli.evaluation.arena.labels import guess, read_labels
from tanuki_cli.evaluation.arena.votes import VERDICTS, Turn, Verdict, Vote

RECORD = {
    "question": "狸とは?",
    "answer_1": "動物です。",
    "answer_2": "知りません。",
    "evaluation": "model_1",
    "model_1": "Tanuki-8B",
    "model_2": "Other-7B",
    "created_time": "2024-08-30 12:00:00",
}


def written(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_published_record_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "LLMChat.jsonl", RECORD, {**RECORD, "evaluation": "tie (bothbad)"})
    first, second = read_records(path, {}, source="LLMChat").votes
    assert first == Vote(
        id=first.id,
        time=datetime(2024, 8, 30, 12, tzinfo=timezone.utc),
        models=("Tanuki-8B", "Other-7B"),
        verdict="first",
        turns=(Turn(question="狸とは?", answers=("動物です。", "知りません。")),),
        source="LLMChat",
    )
    assert second.verdict == "both-bad"


def test_a_file_without_any_record_is_refused_for_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "質問.txt"
    path.write_text("日本の首都は?\nあなたは誰?\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1, cannot be used: it is not valid JSON"):
        read_records(path, {}, source="own")


def test_what_is_written_has_the_published_fields_and_comes_back(tmp_path: Path) -> None:
    plain = Vote(
        time=datetime(2026, 1, 1, tzinfo=timezone.utc),
        models=("a", "b"),
        verdict="second",
        turns=(Turn(question="問", answers=("一\n行", "二")),),
    )
    several = replace(
        plain, id="other", verdict="tie", category="数学", turns=(*plain.turns, *plain.turns), time=None
    )
    assert tuple(json.loads(export_line(plain))) == FIELDS
    path = tmp_path / "votes.jsonl"
    path.write_text(export_line(plain) + export_line(several), encoding="utf-8")
    found = read_records(path, {}, source="own").votes
    assert [replace(vote, id=own.id) for vote, own in zip(found, (plain, several), strict=True)] == [
        plain,
        several,
    ]


def test_an_import_is_repeated_without_counting_twice(tmp_path: Path) -> None:
    """Records that are alike in everything are as many as they were."""
    path = written(tmp_path / "votes.jsonl", RECORD, RECORD, {**RECORD, "question": "他"})
    votes = list(read_records(path, {}, source="x").votes)
    again = read_records(path, {}, source="x").votes
    assert not_yet_there(again, []) == list(again)
    assert not_yet_there(again, votes) == []
    assert len(not_yet_there(again, votes[:1])) == 2


@pytest.mark.parametrize(
    ("label", "verdict"),
    [
        ("model_a", "first"),
        ("model_b", "second"),
        ("Model A", "first"),
        ("👈  A is better", None),
        ("model_a is better", "first"),
        ("tie", "tie"),
        ("Tie", "tie"),
        ("tie (bothbad)", "both-bad"),
        ("Both are bad", "both-bad"),
        ("both good", "tie"),
        ("回答１", "first"),
        ("回答2の方がよい", "second"),
        ("一つ目の方が良い。", "first"),
        ("ふたつめ", "second"),
        ("どちらも良い", "tie"),
        ("どちらも悪い", "both-bad"),
        ("引き分け", "tie"),
        ("A", None),
        ("1", None),
        ("良い", None),
        ("", None),
        ("比較できない", None),
    ],
)
def test_a_label_is_guessed_only_where_it_is_certain(label: str, verdict: Verdict | None) -> None:
    assert guess(label) == verdict


def test_labels_that_are_not_certain_are_shown_with_their_counts(tmp_path: Path) -> None:
    records = [{**RECORD, "evaluation": label} for label in ("A", "A", "B", "=", None, "tie")]
    path = written(tmp_path / "votes.jsonl", *records)
    with pytest.raises(InputError) as error:
        read_records(path, {}, source="x")
    assert "'A' (2), 'B' (1), '=' (1), 'null' (1), 'tie' (1)" in error.value.message
    assert "--labels 'A=first,B=second,==tie,null=both-bad'" in str(error.value.hint)
    given = read_labels(["A=first,B=second,==tie,null=both-bad"])
    votes = read_records(path, given, source="x").votes
    assert [vote.verdict for vote in votes] == ["first", "first", "second", "tie", "both-bad", "tie"]


def test_a_mapping_wins_over_a_guess(tmp_path: Path) -> None:
    path = written(tmp_path / "votes.jsonl", RECORD)
    assert read_records(path, {"model_1": "skip"}, source="x").votes[0].verdict == "skip"


def test_labels_may_hold_what_separates_them() -> None:
    text = "どちらも良い, 同じ=tie,a=b=first , 左 =second"
    assert read_labels([text, "x=skip"]) == {
        "どちらも良い, 同じ": "tie",
        "a=b": "first",
        "左": "second",
        "x": "skip",
    }


@pytest.mark.parametrize("text", ["A", "A=", "A=better", "=first", "A=first,B"])
def test_labels_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--labels") as error:
        read_labels([text])
    assert set(read_labels([str(error.value.hint).split("'")[1]]).values()) == set(VERDICTS)


def test_records_that_cannot_be_used_are_told_and_the_others_kept(tmp_path: Path) -> None:
    bad = [
        {name: value for name, value in RECORD.items() if name != "answer_2"},
        {**RECORD, "question": None},
        {**RECORD, "model_2": "Tanuki-8B"},
        {**RECORD, "model_2": ""},
        {**RECORD, "evaluation": ["model_a"]},
        {**RECORD, "turns": {}},
        {**RECORD, "turns": [5]},
        7,
    ]
    ballots = read_records(written(tmp_path / "votes.jsonl", *bad, RECORD), {}, source="x")
    assert len(ballots.votes) == 1
    assert [line.line for line in ballots.left_out] == list(range(1, 9))


@pytest.mark.parametrize("time", [None, "", "yesterday", "9" * 40, 1e300, True, {"a": 1}])
def test_a_time_that_cannot_be_read_costs_no_vote(tmp_path: Path, time: object) -> None:
    path = written(tmp_path / "votes.jsonl", {**RECORD, "created_time": time})
    assert read_records(path, {}, source="x").votes[0].time is None


@pytest.mark.parametrize(
    "time", [1725019200, 1725019200000, "2024-08-30T12:00:00Z", "2024/08/30 21:00:00+09:00"]
)
def test_times_in_the_usual_spellings(tmp_path: Path, time: object) -> None:
    path = written(tmp_path / "votes.jsonl", {**RECORD, "created_time": time})
    assert read_records(path, {}, source="x").votes[0].time == datetime(2024, 8, 30, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "no records"),
        ("\n", "no records"),
        ("[]\n", "line 1.*not a JSON object"),
        ("{}\n", "line 1.*'model_1'"),
        ("not json\n", "line 1.*not valid JSON"),
    ],
)
def test_a_file_without_records_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=complaint) as error:
        read_records(path, {}, source="x")
    assert "created_time" in str(error.value.hint)
