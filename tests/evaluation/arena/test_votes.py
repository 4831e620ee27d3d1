"""The file of votes: what was added is there after any crash, and a damaged line costs no other."""

import json
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.votes import (
    FORMAT_VERSION,
    LONGEST_TEXT,
    MOST_TURNS,
    Turn,
    Vote,
    VoteFile,
    to_json,
)
from tests.support.program import ROOT

TIME = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


def vote(question: str = "狸とは?", **changes: object) -> Vote:
    values: dict[str, object] = {
        "time": TIME,
        "models": ("mame", "tanuki-8b:q4_k_m"),
        "verdict": "first",
        "turns": (Turn(question=question, answers=("動物です。", "だぬき\n")),),
        **changes,
    }
    return Vote(**values)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> VoteFile:
    return VoteFile(tmp_path / "arena" / "votes.jsonl")


def test_votes_come_back_as_they_were(file: VoteFile) -> None:
    assert file.read().votes == ()
    first = vote(
        turns=(
            Turn(question="一", answers=("あ", "い"), finish_reasons=("stop", "length")),
            Turn(question="二", answers=("う", "え")),
        ),
        category="雑談",
        provenance={"sampling": {"temperature": 0.5}},
    )
    second = vote(verdict="both-bad", source="LLMChat", time=None)
    file.add([first])
    file.add([second])
    assert file.read().votes == (first, second)
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_cut_off_costs_only_itself(file: VoteFile) -> None:
    votes = [vote(f"問{number}") for number in range(3)]
    file.add(votes[:2])
    data = file.path.read_bytes()
    whole = len(data.split(b"\n")[1])
    for cut in (1, 2, 3, whole // 2, whole - 1, whole):
        file.path.write_bytes(data[:-cut])
        assert list(file.read().votes) == votes[: 2 if cut == 1 else 1]
        assert [line.line for line in file.read().left_out] == ([] if cut == 1 else [2])
        file.add(votes[2:])
        kept = [votes[0], *votes[1:2][: cut == 1], votes[2]]
        assert list(file.read().votes) == kept, f"{cut} bytes are missing"


def test_damaged_lines_are_left_out_and_told(file: VoteFile) -> None:
    good = to_json(vote())
    bad: list[object] = [
        "text",
        [],
        {**good, "format": "other"},
        {**good, "verdict": "model_a"},
        {**good, "verdict": ["first"]},
        {**good, "models": ["mame", "mame"]},
        {**good, "models": ["mame", ""]},
        {**good, "models": ["mame", 5]},
        {**good, "models": ["mame", "x" * 1000]},
        {**good, "turns": []},
        {**good, "turns": good["turns"] * (MOST_TURNS + 1)},
        {**good, "turns": [{"question": "問"}]},
        {**good, "turns": [{"question": "問" * (LONGEST_TEXT + 1), "answers": ["", ""]}]},
        {**good, "id": None},
        {**good, "category": 3},
        {**good, "provenance": []},
    ]
    lines = [json.dumps(value).encode() for value in bad]
    lines += [b"\xff\xfe\x00", b"{" * 100_000, b'{"format": 1e999999999999}', b"9" * 10_000, b"nul\0"]
    file.path.parent.mkdir()
    file.path.write_bytes(b"\n".join([json.dumps(good).encode(), b"", *lines, b""]))
    ballots = file.read()
    assert ballots.votes == (vote(id=good["id"]),)
    assert [line.line for line in ballots.left_out] == list(range(3, 3 + len(lines)))
    assert all(line.reason for line in ballots.left_out)


def test_a_vote_that_stands_there_twice_counts_once(file: VoteFile) -> None:
    one = vote()
    file.add([one, vote("別の問")])
    file.path.write_bytes(file.path.read_bytes() * 2)
    ballots = file.read()
    assert len(ballots.votes) == 2
    assert ballots.repeated == 2


def test_a_newer_file_is_refused_and_left_alone(file: VoteFile) -> None:
    file.path.parent.mkdir()
    newer = json.dumps({**to_json(vote()), "version": FORMAT_VERSION + 1})
    file.path.write_text(newer, encoding="utf-8")
    with pytest.raises(InputError, match="newer version"):
        file.read()
    assert file.path.read_text(encoding="utf-8") == newer


def test_what_could_not_be_read_again_is_not_written(file: VoteFile) -> None:
    with pytest.raises(ValueError, match="question"):
        file.add([vote("問" * (LONGEST_TEXT + 1))])
    assert not file.path.exists()


def test_half_a_character_does_not_cost_the_vote(file: VoteFile) -> None:
    file.add([vote("前\ud800後")])
    (found,) = file.read().votes
    assert found.turns[0].question == "前\N{REPLACEMENT CHARACTER}後"


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    folder, below_a_file = tmp_path / "votes.jsonl", tmp_path / "plain" / "votes.jsonl"
    folder.mkdir()
    below_a_file.parent.write_text("", encoding="utf-8")
    for path in (folder, below_a_file):
        with pytest.raises(InputError, match=r"votes\.jsonl") as caught:
            VoteFile(path).add([vote()])
        assert caught.value.hint == f"Check the permissions and the free space of {path.parent}."
    with pytest.raises(InputError, match=r"votes\.jsonl"):
        VoteFile(folder).read()


WRITER = """
import sys
from pathlib import Path
from tanuki_cli.evaluation.arena.votes import VoteFile
from tests.evaluation.arena.test_votes import vote
file = VoteFile(Path(sys.argv[1]))
for number in range(100_000):
    file.add([vote(f"{sys.argv[2]} {number} " + "長い問" * 3000)])
    print(number, flush=True)
"""


def test_killed_twenty_times_nothing_is_lost_and_nothing_counted_twice(file: VoteFile) -> None:
    """Two writers at once, both killed in the middle of their work."""
    confirmed: dict[str, int] = {}
    for attempt in range(10):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(file.path), f"{attempt}-{side}"],
                cwd=ROOT,
                env={"PYTHONPATH": str(ROOT), "PATH": ""},
                stdout=subprocess.PIPE,
            )
            for side in "ab"
        ]
        for writer in writers:
            assert writer.stdout is not None
            for _line in range(3):
                writer.stdout.readline()
        time.sleep(attempt * 0.003)  # elsewhere in its work every time
        for side, writer in zip("ab", writers, strict=True):
            writer.kill()
            output, _errors = writer.communicate()
            confirmed[f"{attempt}-{side}"] = 3 + len(output.splitlines())
    ballots = file.read()
    assert ballots.repeated == 0
    found: dict[str, list[int]] = {}
    for one in ballots.votes:
        name, number, _text = one.turns[0].question.split(" ")
        found.setdefault(name, []).append(int(number))
    assert found.keys() == confirmed.keys()
    for name, numbers in found.items():
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= confirmed[name] - 1  # the last line that was read may have been cut off
