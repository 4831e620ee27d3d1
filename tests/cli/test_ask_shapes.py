"""``tanuki ask`` with a shape, as its users run it."""

import json
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
    assert "  Next: " in done.stderr


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
