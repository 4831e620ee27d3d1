"""``tanuki ask`` with a shape, as its users run it."""

import json
import math
from pathlib import Path

import jsonschema
import pytest

from tests.support.program import run

SCHEMA = {
    "type": "object",
    "properties": {
        "名前": {"type": "string", "maxLength": 12, "description": "呼び名"},
        "種類": {"enum": ["狸", "狐"]},
    },
    "required": ["名前", "種類"],
    "additionalProperties": False,
}
TEXT = json.dumps(SCHEMA, ensure_ascii=False)
ASK = ("ask", "-m", "mame", "--seed", "1")


@pytest.mark.parametrize("where", ["given", "file", "stdin"])
def test_a_json_schema_from_anywhere(tmp_path: Path, where: str) -> None:
    path = tmp_path / "形.json"
    path.write_text(TEXT, encoding="utf-8")
    given = {"given": TEXT, "file": str(path), "stdin": "-"}[where]
    stdin = TEXT.encode() if where == "stdin" else b""
    done = run(tmp_path, *ASK, "--json-schema", given, "たぬきの名前は?", stdin=stdin)
    assert done.returncode == 0, done.stderr
    jsonschema.validate(json.loads(done.stdout), SCHEMA)


def test_the_other_shapes(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("たぬき\r\n\r\nきつね\r\n", encoding="cp932")
    rules = tmp_path / "rules.lark"
    rules.write_text('start: "答え: " /[0-9]/', encoding="utf-8")
    assert run(tmp_path, *ASK, "--choices", "はい, いいえ", "どう?").stdout in ("はい\n", "いいえ\n")
    for comma in "，、":  # of an input method
        assert run(tmp_path, *ASK, "--choices", f"はい{comma}いいえ", "どう?").stdout in (
            "はい\n",
            "いいえ\n",
        )
    assert run(tmp_path, *ASK, "--choices-file", str(lines), "誰?").stdout in ("たぬき\n", "きつね\n")
    assert run(tmp_path, *ASK, "--regex", r"\d{3}", "何?").stdout.strip().isdecimal()
    assert run(tmp_path, *ASK, "--grammar", str(rules), "何?").stdout.startswith("答え: ")
    assert isinstance(json.loads(run(tmp_path, *ASK, "--json-object", "何?").stdout), dict)


def test_an_answer_that_is_cut_is_printed_and_told(tmp_path: Path) -> None:
    done = run(tmp_path, *ASK, "--json", "--max-new-tokens", "4", "--json-schema", TEXT, "名前は?")
    assert done.returncode == 6
    result = json.loads(done.stdout)
    assert result["finish_reason"] == "length"
    assert result["answer"].startswith("{")
    assert "--max-new-tokens" in done.stderr
    assert "Traceback" not in done.stderr
    stopped = run(tmp_path, *ASK, "--stop", "名", "--json-schema", TEXT, "名前は?")
    assert stopped.returncode == 6
    assert stopped.stdout.startswith("{")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--choices", "a", "--json-object"], "--json-object and --choices"),
        (["--choices", "a", "--choices-file", "x"], "--choices and --choices-file"),
        (["--explain-schema"], "--json-schema"),
        (["--json-schema", '{"uniqueItems": true, "maxlength": 1}'], "maxlength, uniqueItems"),
        (["--json-schema", "missing.json"], "missing.json"),
        (["--regex", "("], "unclosed"),
        (["--grammar", "missing.lark"], "missing.lark"),
        (["--choices", ","], "--choices"),
    ],
)
def test_what_cannot_be_asked_for_is_told_before_a_model_is_loaded(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = run(tmp_path, "ask", "-m", "./missing.gguf", *arguments, "何?")
    assert done.returncode == 2
    assert told in done.stderr
    assert "  Hint: " in done.stderr


def test_the_schema_is_explained(tmp_path: Path) -> None:
    plain, explained = (
        json.loads(run(tmp_path, *ASK, "--json", "--json-schema", TEXT, *more, "名前は?").stdout)
        for more in ([], ["--explain-schema"])
    )
    assert explained["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    shown = run(tmp_path, "history", "show", explained["conversation_id"]).stdout
    assert "名前は?" in shown
    assert "- 名前: 呼び名" in shown


def test_a_shaped_answer_is_kept_and_goes_on(tmp_path: Path) -> None:
    first = json.loads(run(tmp_path, *ASK, "--json", "--choices", "はい,いいえ", "どう?").stdout)
    second = json.loads(run(tmp_path, "ask", "-c", "--json", "なぜ?").stdout)
    assert second["conversation_id"] == first["conversation_id"]
    assert first["answer"] in run(tmp_path, "history", "show", first["conversation_id"]).stdout


def test_choices_as_json_say_how_likely_each_is(tmp_path: Path) -> None:
    command = [*ASK, "--json", "--choices", "はい,いいえ,不明", "どう?"]
    sampled = json.loads(run(tmp_path, *command).stdout)
    greedy = json.loads(run(tmp_path, *command, "--temperature", "0").stdout)
    assert greedy["choices"] == sampled["choices"]
    assert greedy["answer"] == greedy["choices"][0]["text"]
    assert {choice["text"] for choice in greedy["choices"]} == {"はい", "いいえ", "不明"}
    assert sum(choice["normalized"] for choice in greedy["choices"]) == pytest.approx(1)
    assert all(
        math.log(choice["probability"]) == pytest.approx(choice["logprob"]) for choice in greedy["choices"]
    )
    for choice in greedy["choices"]:
        score = json.loads(run(tmp_path, *ASK, "--json", "--score", choice["text"], "どう?").stdout)
        assert score["logprob"] == pytest.approx(choice["logprob"], abs=1e-2)  # eight-bit weights


def test_logprobs_of_every_token(tmp_path: Path) -> None:
    command = [*ASK, "--max-new-tokens", "20", "--logprobs", "3", "𠮷野家😀と言って"]
    whole = json.loads(run(tmp_path, *command, "--json").stdout)
    *deltas, last = map(json.loads, run(tmp_path, *command, "--jsonl").stdout.splitlines())
    assert whole["logprobs"] == last["logprobs"]
    assert len(whole["logprobs"]) == whole["usage"]["completion_tokens"]
    streamed = [token for delta in deltas for token in delta["logprobs"]]
    assert streamed == whole["logprobs"][: len(streamed)]
    content = b"".join(
        bytes(token["bytes"]) if token["text"] is None else token["text"].encode()
        for token in whole["logprobs"]
        if token["id"] != 2
    )
    assert content.decode(errors="replace").startswith(whole["answer"].rstrip("\ufffd"))
    assert all(token["logprob"] <= 0 and len(token["alternatives"]) == 3 for token in whole["logprobs"])


def test_a_score_is_no_conversation(tmp_path: Path) -> None:
    done = run(tmp_path, *ASK, "--score", "はい", "どう?")
    assert done.returncode == 0, done.stderr
    assert [line.rsplit(None, 1)[0] for line in done.stdout.splitlines()] == [
        "log probability",
        "perplexity",
        "tokens",
    ]
    assert json.loads(run(tmp_path, "history", "list", "--json").stdout)["conversations"] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--logprobs", "3"], "--json"),
        (["--json", "--logprobs", "0"], "1 to 20"),
        (["--json", "--logprobs", "x"], "1 to 20"),
        (["--score", "a", "--json-object"], "--score"),
    ],
)
def test_probabilities_that_cannot_be_asked_for(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run(tmp_path, *ASK, *arguments, "何?")
    assert done.returncode == 2
    assert told in done.stderr
