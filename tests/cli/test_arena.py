"""``tanuki arena`` as it is typed: votes from scripts, results, records of others, and kills."""

import json
import random
import signal
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import until
from tests.support.chat_server import ChatServer, Status, chat_answer
from tests.support.program import COMMAND, environment, run

LABELS = "良=first,否=second,同=tie,×=both-bad"


class Endless(list[Any]):
    """Answers every request with the same answer."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    def pop(self, index: Any = -1) -> list[bytes]:
        return chat_answer(self._answer)


def endless(answer: str) -> ChatServer:
    server = ChatServer()
    server.scripts = Endless(answer)
    return server


def kept(home: Path) -> list[dict[str, Any]]:
    text = (home / "data" / "arena" / "votes.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def questions(folder: Path, count: int) -> Path:
    path = folder / "questions.txt"
    path.write_text("".join(f"問{number}\n" for number in range(count)), encoding="utf-8")
    return path


def test_typed_questions_turns_and_votes(tmp_path: Path) -> None:
    """The practice model beside a server, from the lines of a script."""
    lines = "あなたは誰?\n1\n\nたぬきとは?\nm\nもう少し\nどちらも良い\nやあ\ns\n"
    with endless("サーバーの**答え**") as server:
        done = run(
            tmp_path, "arena", "mame", server.url, "--temperature", "0", "--category", "雑談", "--lang", "ja",
            stdin=lines.encode(),
        )  # fmt: skip
        sent = [request.body for request in server.requests]
    assert done.returncode == 0, done.stderr
    first, second, third = kept(tmp_path)
    assert [vote["verdict"] for vote in (first, second, third)] == ["first", "tie", "skip"]
    assert [turn["question"] for turn in second["turns"]] == ["たぬきとは?", "もう少し"]
    for vote in (first, second, third):
        position = vote["models"].index(server.url)
        assert vote["models"][1 - position] == "mame"
        assert {turn["answers"][position] for turn in vote["turns"]} == {"サーバーの**答え**"}
        assert all(turn["answers"][1 - position] for turn in vote["turns"])
        assert vote["category"] == "雑談"
        made = vote["provenance"]
        assert [model["reference"] for model in made["models"]] == vote["models"]
        assert len(made["models"][1 - position]["sha256"]) == 64
        assert made["sampling"]["temperature"] == 0
    assert "豆だぬき" in "".join(first["turns"][0]["answers"])
    # Each model sees its own side of the conversation, and both the same seed.
    messages: Any = sent[2]["messages"]
    assert [message["content"] for message in messages][-3:] == [
        "たぬきとは?",
        "サーバーの**答え**",
        "もう少し",
    ]
    assert sent[2]["seed"] == second["provenance"]["sampling"]["seed"]
    assert f"ひとつめ: {first['models'][0]}" in done.stderr
    assert done.stdout.count("■ ひとつめ") == done.stdout.count("■ ふたつめ") == 4
    assert done.stdout.index("> あなたは誰?") < done.stdout.index("■ ひとつめ")


def asked(server: ChatServer) -> list[str]:
    """What a server was asked, in an order of its own: several questions are put to it at a time."""
    return sorted(json.dumps(request.body) for request in server.requests)


def test_prepared_answers_are_made_once_and_each_question_voted_on_once(tmp_path: Path) -> None:
    path = questions(tmp_path, 3)
    with endless("甲") as one, endless("乙") as other:
        command = ("arena", one.url, other.url, "--prompts", str(path))
        done = run(tmp_path, *command, stdin=b"1\n4\n")
        assert done.returncode == 0, done.stderr
        assert (len(one.requests), len(other.requests)) == (3, 3)
        assert asked(one) == asked(other)
        again = run(tmp_path, *command, stdin=b"2\n2\n")
        assert again.returncode == 0, again.stderr
        assert "All questions have been voted on." in again.stderr
        third = run(tmp_path, *command)
        assert (third.returncode, third.stdout) == (0, "")
        assert (len(one.requests), len(other.requests)) == (3, 3)
    votes = kept(tmp_path)
    assert sorted(vote["turns"][0]["question"] for vote in votes) == ["問0", "問1", "問2"]
    assert [vote["verdict"] for vote in votes] == ["first", "both-bad", "second"]


def test_a_file_of_votes_is_asked_once_more(tmp_path: Path) -> None:
    """With its models, questions and options; the new votes lie beside the old ones, and it goes on, too."""
    path = tmp_path / "votes.jsonl"
    with endless("甲") as one, endless("乙") as other:
        options = ("--temperature", "0.3", "--seed", "9", "--system", "短く", "--file", str(path))
        prompts = ("--prompts", str(questions(tmp_path, 3)))
        run(tmp_path, "arena", one.url, other.url, *prompts, *options, stdin=b"1\n1\n1\n")
        (tmp_path / "data" / "arena" / "answers.jsonl").unlink()
        before = asked(one)
        again = run(tmp_path, "arena", "--again", str(path), stdin=b"2\n2\n")
        assert again.returncode == 0, again.stderr
        assert f"tanuki arena results --file {tmp_path / 'votes.again.jsonl'}" in again.stderr
        assert asked(one) == sorted(2 * before)
        rest = run(tmp_path, "arena", "--again", str(path), stdin=b"4\n")
        assert "All questions have been voted on." in rest.stderr
        both = run(tmp_path, "arena", "mame", "--again", str(path))
    new = (tmp_path / "votes.again.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["verdict"] for line in new] == ["second", "second", "both-bad"]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3
    assert both.returncode == 2
    nothing = run(tmp_path, "arena", "--again", str(tmp_path / "nothing.jsonl"))
    assert nothing.returncode == 2
    assert "holds no votes" in nothing.stderr


def test_models_are_named_only_at_the_end_if_wanted(tmp_path: Path) -> None:
    with endless("甲") as one, endless("乙") as other:
        command = (
            "arena",
            one.url,
            other.url,
            "--prompts",
            str(questions(tmp_path, 2)),
            "--blind-to-the-end",
        )
        done = run(tmp_path, *command, stdin=b"1\n2\n")
    before, _sign, after = done.stderr.partition("All questions have been voted on.")
    assert one.url not in before
    assert after.count(one.url) == after.count(other.url) == 2


def test_a_line_that_is_no_vote_ends_a_script_and_keeps_the_votes(tmp_path: Path) -> None:
    with endless("甲") as one, endless("乙") as other:
        done = run(
            tmp_path,
            "arena",
            one.url,
            other.url,
            "--prompts",
            str(questions(tmp_path, 3)),
            stdin=b"1\n9\n1\n",
        )
    assert done.returncode == 2
    assert "Line 2 is not a vote: '9'" in done.stderr
    assert "1 first · 2 second · 3 both good" in done.stderr
    assert len(kept(tmp_path)) == 1


def test_nobody_to_vote_is_said(tmp_path: Path) -> None:
    with endless("甲") as one, endless("乙") as other:
        done = run(tmp_path, "arena", one.url, other.url)
    assert done.returncode == 2
    assert "No vote came." in done.stderr


def test_a_model_that_fails_costs_its_question_only(tmp_path: Path) -> None:
    with endless("甲") as one, ChatServer(Status(500, b"{}"), chat_answer("乙")) as other:
        done = run(tmp_path, "arena", one.url, other.url, stdin="一\n二\n1\n".encode())
        assert done.returncode == 0, done.stderr
    assert [vote["turns"][0]["question"] for vote in kept(tmp_path)] == ["二"]
    assert "Error" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mame",), "at least two models"),
        ((), "at least two models"),
        (("mame", "mame"), "each named once"),
        (("mame", "./nothing.gguf"), "nothing.gguf"),
        (("mame", "http://127.0.0.1:1/v1", "--prompts", "nothing.txt"), "nothing.txt"),
        (("mame", "http://127.0.0.1:1/v1", "--limit", "0"), "--limit"),
        (("mame", "http://127.0.0.1:1/v1", "--temperature", "9"), "--temperature"),
        (("results",), "no votes"),
        (("export",), "no votes"),
        (("import", "nothing.jsonl"), "nothing.jsonl"),
        (("results", "--bootstrap", "1"), "--bootstrap"),
        (("results", "--prior", "0"), "--prior"),
        (("results", "--json", "--csv"), "--csv"),
        (("results", "--again", "nothing.json"), "nothing.json"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_with_a_hint(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run(tmp_path, "arena", *arguments)
    assert done.returncode in {2, 4}, done.stderr
    assert done.stdout == ""
    error, hint = done.stderr.strip().splitlines()
    assert message in error
    assert hint.startswith("  Hint: ")


def test_help_shows_the_models_the_options_and_the_other_commands(tmp_path: Path) -> None:
    for arguments in (("arena", "--help"), ("arena", "mame", "-h")):
        done = run(tmp_path, *arguments)
        assert "Usage: tanuki arena [OPTIONS] MODEL MODEL..." in done.stdout
        for part in ("--prompts FILE", "--blind-to-the-end", "--temperature", "  results ", "  import "):
            assert part in done.stdout
        assert " vote " not in done.stdout.partition("Commands:")[2]
    assert "Usage: tanuki arena results [OPTIONS]" in run(tmp_path, "arena", "results", "--help").stdout


def records(folder: Path, *, labels: tuple[str, ...] = ("良", "否", "同", "×")) -> Path:
    """Two hundred votes between three models in the published fields."""
    rng = random.Random(1)
    path = folder / "LLMChat.jsonl"
    lines = []
    for number in range(200):
        first, second = rng.sample(["大", "中", "小"], 2)
        better = ["大", "中", "小"].index(first) < ["大", "中", "小"].index(second)
        label = rng.choices(labels, weights=(8, 3, 2, 1) if better else (3, 8, 2, 1))[0]
        record = {
            "question": f"問{number}",
            "answer_1": "長い答え" * rng.randrange(1, 20),
            "answer_2": "- 短い\n" * rng.randrange(1, 20),
            "evaluation": label,
            "model_1": first,
            "model_2": second,
            "created_time": f"2024-08-{1 + number % 30:02d} 10:00:00",
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_records_of_others_are_asked_about_imported_and_rated_beside_ones_own(tmp_path: Path) -> None:
    path = records(tmp_path)
    unclear = run(tmp_path, "arena", "import", str(path))
    assert unclear.returncode == 2
    assert all(f"{label!r} (" in unclear.stderr for label in "良否同×")
    assert "--labels '" in unclear.stderr
    done = run(tmp_path, "arena", "import", str(path), "--labels", LABELS)
    assert (done.returncode, done.stderr) == (0, "Added as LLMChat: 200 votes; 0 were there already.\n")
    again = run(tmp_path, "arena", "import", str(path), "--labels", LABELS)
    assert again.stderr == "Added as LLMChat: 0 votes; 200 were there already.\n"
    rated = run(tmp_path, "arena", "results", "--json")
    document = json.loads(rated.stdout)
    assert (document["votes"], document["sources"]) == (200, {"LLMChat": 200})
    assert [model["model"] for model in document["models"]] == ["大", "中", "小"]
    assert sum(model["rating"] for model in document["models"]) == pytest.approx(3000)
    directly = run(tmp_path, "arena", "results", "--json", "--file", str(path), "--labels", LABELS)
    assert json.loads(directly.stdout)["models"] == document["models"]
    nothing = run(tmp_path, "arena", "results", "--source", "own")
    assert nothing.returncode == 2


def test_an_export_is_read_again_as_it_was(tmp_path: Path) -> None:
    run(tmp_path, "arena", "import", str(records(tmp_path)), "--labels", LABELS)
    out = tmp_path / "out.jsonl"
    done = run(tmp_path, "arena", "export", "--all", "-o", str(out))
    assert "(200 votes)" in done.stderr
    assert out.read_text(encoding="utf-8") == run(tmp_path, "arena", "export", "--all").stdout
    home = tmp_path / "other"
    assert "200 votes" in run(home, "arena", "import", str(out)).stderr
    one, other = (run(place, "arena", "results", "--csv") for place in (tmp_path, home))
    assert one.stdout == other.stdout
    assert run(tmp_path, "arena", "export", "--all", "-o", str(out)).returncode == 2


def test_results_in_every_form(tmp_path: Path) -> None:
    path = records(tmp_path, labels=("model_1", "model_2", "tie", "tie (bothbad)"))
    command = ("arena", "results", "--file", str(path))
    table = run(tmp_path, *command, "--style-control", "--anchor", "中=1200")
    assert table.returncode == 0, table.stderr
    assert "大 is better than 小" in table.stdout
    assert "Position: shown first won" in table.stdout
    assert "Style, length:" in table.stdout
    assert "\x1b" not in table.stdout
    assert [line.split()[1] for line in table.stdout.splitlines()[1:4]] == ["大", "中", "小"]
    assert "1200" in table.stdout.splitlines()[2]
    japanese = run(tmp_path, *command, "--lang", "ja")
    assert "大 は 小 より良い" in japanese.stdout
    rows = run(tmp_path, *command, "--csv").stdout.splitlines()
    assert rows[0].startswith("category,model,rank,rating,low,high,votes")
    assert len(rows) == 4
    picture = tmp_path / "ratings.svg"
    drawn = run(tmp_path, *command, "--svg", str(picture), "--json")
    assert "ratings.svg" in drawn.stderr
    assert ET.parse(picture).getroot().tag.endswith("svg")
    result = tmp_path / "ratings.json"
    first = run(tmp_path, *command, "--json", "--style-control", "--seed", "5", "--anchor", "小")
    result.write_text(first.stdout, encoding="utf-8")
    again = run(tmp_path, "arena", "results", "--again", str(result), "--json")
    one, other = json.loads(first.stdout), json.loads(again.stdout)
    for document in (one, other):
        document["provenance"].pop("date")
    assert other == one
    assert one["style"][0]["feature"] == "length"
    assert one["models"][-1]["rating"] == 1000


def test_damaged_lines_are_told_and_the_rest_is_rated(tmp_path: Path) -> None:
    run(tmp_path, "arena", "import", str(records(tmp_path)), "--labels", LABELS)
    path = tmp_path / "data" / "arena" / "votes.jsonl"
    with path.open("ab") as file:
        file.write(b"{}\n" * 6 + b'{"format": "tanu')
    done = run(tmp_path, "arena", "results", "--json")
    assert json.loads(done.stdout)["votes"] == 200
    assert "line 201" in done.stderr
    assert "4 more lines were left out." in done.stderr


def _wait_for_requests(one: ChatServer, other: ChatServer, count: int) -> None:
    before = len(one.requests) + len(other.requests)
    until(lambda: len(one.requests) + len(other.requests) >= before + count)


@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_and_nothing_counted_twice(tmp_path: Path) -> None:
    """While answers are made, and while votes are given; the same command always goes on."""
    path = questions(tmp_path, 30)
    rng = random.Random(7)
    told = 0
    with endless("甲") as one, endless("乙") as other:
        command = [*COMMAND, "arena", one.url, other.url, "--prompts", str(path), "--parallel", "4"]
        for attempt in range(20):
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment(tmp_path),
            )
            assert process.stdin is not None
            assert process.stderr is not None
            if attempt < 6:  # among the answers
                _wait_for_requests(one, other, 5)
            else:
                lines = rng.randrange(1, 4)
                process.stdin.write(b"1\n" * lines)
                process.stdin.flush()
                seen, enough = 0, rng.randrange(1, lines + 1)
                while seen < enough and (line := process.stderr.readline()):
                    seen += b"first better" in line
                told += seen
            process.send_signal(signal.SIGKILL)
            process.stdin.close()
            told += process.stderr.read().count(b"first better")
            process.stderr.close()
            process.wait()
        made = len(one.requests) + len(other.requests)
        done = run(tmp_path, *command[len(COMMAND) :], stdin=b"2\n" * 30)
    assert done.returncode == 0, done.stderr
    assert 60 <= made <= 60 + 7 * 4, "an answer that was whole was made again"
    voted = Counter(vote["turns"][0]["question"] for vote in kept(tmp_path))
    assert voted == dict.fromkeys([f"問{number}" for number in range(30)], 1)
    assert sum(vote["verdict"] == "first" for vote in kept(tmp_path)) >= told > 5
