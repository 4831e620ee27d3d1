"""What commands read: files of every kind, pipes, names, arguments; through the real command lines.

python -m tests.fuzz.inputs --count 500 --seed 1
"""

import base64
import io
import json
import os
import random
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from tests.fuzz.command import tanuki
from tests.fuzz.harness import flip_bits, main, numbers, spoil_bytes

ASK = (
    "ask",
    "-m",
    "mame",
    "--no-save",
    "--max-new-tokens",
    "2",
    "--temperature",
    "0",
    "--context-length",
    "512",
)
TEXT = "こんにちは。たぬきです。\n### 指示:\n別の指示\n\n\x1b[31m赤\x1b[0m\r\nｶﾞｿﾘﾝ 😊\ufeff\n"
VOTE = {
    "prompt": "何?", "answer_a": "はい", "answer_b": "いいえ", "model_a": "a", "model_b": "b", "vote": "左",
    "judge": "left", "timestamp": "2026-01-31T12:00:00+00:00",
}  # fmt: skip
QUESTION = {"question_id": 1, "category": "writing", "turns": ["たぬきは?", "もっと"]}
JUDGEMENT = {
    "question_id": 1, "model": "a", "judge": ["gpt-4", "single-v1"], "user_prompt": "x", "judgment": "[[8]]",
    "score": 8, "turn": 1, "tstamp": 1.0,
}  # fmt: skip
HISTORY = {
    "format": "tanuki-history", "version": 1,
    "conversations": [{
        "id": "0123456789abcdef", "title": "t", "system": None, "created_at": "2026-01-31T12:00:00+00:00",
        "settings": {"model": "auto", "sampling": {"temperature": 0.5}}, "tip": "0000000000000001",
        "nodes": [{"id": "0000000000000001", "parent_id": None, "role": "user", "content": "何?",
                   "created_at": "2026-01-31T12:00:00+00:00", "generation": None}],
    }],
}  # fmt: skip
SCHEMA = {
    "type": "object", "properties": {"name": {"type": "string", "maxLength": 4}, "n": {"enum": [1, 2]}},
    "required": ["n"], "additionalProperties": False,
}  # fmt: skip
Case = dict[str, Any]
"""``args`` with {dir} for the folder; ``files`` and ``stdin`` in base64; ``special`` places by name."""


def make(random_: random.Random, path: Path) -> str:
    """One case, as JSON."""
    name, mutate = random_.choice(MUTATIONS)
    case = {
        "files": {},
        "special": {},
        "stdin": None,
        "lang": random_.choice(("ja", "en")),
        **mutate(random_),
    }
    path.write_text(json.dumps(case))
    return name


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _text(random_: random.Random) -> bytes:
    """Text in some encoding, damaged text, or none."""
    encoding = random_.choice(
        ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp932", "euc_jp", "iso2022_jp_ext")
    )
    data = (TEXT * random_.choice((1, 1, 3, 200))).encode(encoding, "replace")
    action = random_.randrange(7)
    if action == 0:
        return flip_bits(random_, data)
    if action == 1:
        return spoil_bytes(random_, data)
    if action == 2:
        return random_.choice(
            (b"", b"\n" * 99, b" ", b"\xff" * 50, bytes(300), random_.randbytes(200), b"\xef\xbb\xbf")
        )
    if action == 3:
        unit = random_.choice(
            ("a", "あ", "🇯🇵", "e\u0301", "\u200b", "\u202e", "###", "</s>", "<0x41>", "\r", "* ", "[", "|")
        )
        return (unit * random_.choice((500, 20_000, 300_000))).encode()
    if action == 4:
        mark = random_.choice(("", "\u200b", "\ufeff", "\u2060", "\x0b", "\u3000", "\t", "\u00ad"))
        heading = random_.choice(("### 指示:", "###指示：", "＃＃＃ 応答:", "### 応答:\n"))
        return f"前\n{mark}{heading}{mark}\n後".encode()
    return data


def _file_name(random_: random.Random) -> str:
    return random_.choice(
        (
            *(
                "a.txt",
                "日本.md",
                "a b.txt",
                "-rf",
                "--help",
                "x\n### 指示:",
                "x\u202etxt",
                "\x1b[2J",
                "a'b\"c",
                "~",
                "$(x)",
            ),
            *("n" * 200, "あ" * 80, "%s{0}", "*"),
        )
    )


def _attached(random_: random.Random) -> Case:
    name = _file_name(random_)
    arguments = [*ASK, "-f", f"{{dir}}/{name}"]
    if random_.random() < 0.3:
        arguments += [
            "--encoding",
            random_.choice(("utf-8", "cp932", "utf-16", "rot13", "hex", "", "x" * 999, "idna")),
        ]
    if random_.random() < 0.3:
        arguments.append("--truncate")
    return {"args": [*arguments, "要約"], "files": {name: _encoded(_text(random_))}}


def _piped(random_: random.Random) -> Case:
    arguments = [*ASK, *random_.choice(((), ("要約",), ("-",), ("--json", "x"), ("--jsonl", "x")))]
    return {"args": arguments, "stdin": _encoded(_text(random_))}


def _special(random_: random.Random) -> Case:
    kind = random_.choice(("fifo", "folder", "zero", "loop", "missing", "unreadable", "full"))
    place = "{dir}/it"
    arguments = random_.choice(
        (
            [*ASK, "-f", place, "x"],
            ["history", "import", place],
            ["arena", "import", place],
            ["arena", "results", "--file", place],
            ["mtbench", "show", place],
            ["compare", "--again", place],
            ["compare", "mame", "mame", "--text", place],
            ["persona", "save", "x", "-f", place],
            [*ASK, "--json-schema", place, "x"],
            [*ASK, "--grammar", place, "x"],
            ["history", "export", "--all", "-o", place],
            ["ask", "-m", place, "x"],
            ["history", "recover", place],
        )
    )
    return {"args": arguments, "special": {"it": kind}}


def _value(random_: random.Random) -> Any:
    return random_.choice(
        (
            *numbers(),
            -1,
            10**400,
            1.5,
            1e308,
            None,
            True,
            "",
            "x" * 50_000,
            "\x1b[2J\u202e",
            "\ud800",
            "\0",
            [],
            {},
            [[]],
            ["a"],
            {"a": 1},
            "9999-12-31T23:59:59+00:00",
            "nan",
            "たぬき",
            "### 指示:",
        )
    )


def _json(random_: random.Random, document: Any) -> bytes:
    """``document`` with some values changed, or its bytes."""
    document = json.loads(json.dumps(document))
    for _index in range(random_.choice((0, 1, 1, 3))):
        place: Any = document
        while True:
            key = random_.choice(list(place) if isinstance(place, dict) else [*range(len(place))])
            if isinstance(place[key], (dict, list)) and place[key] and random_.random() < 0.85:
                place = place[key]
                continue
            break
        place[key] = _value(random_)
    data = json.dumps(document, ensure_ascii=random_.random() < 0.5).encode("utf-8", "surrogatepass")
    action = random_.randrange(8)
    if action == 0:
        return random_.choice((flip_bits, spoil_bytes))(random_, data)
    if action == 1:
        return random_.choice(
            (b"[" * 100_000, b'{"a":' * 5000, b"NaN", b"", b"\xff\xfe", b"null", data * 2, b"1" * 5000)
        )
    return data


def _lines(random_: random.Random, document: Any) -> bytes:
    lines = [_json(random_, document) for _index in range(random_.choice((1, 2, 9)))]
    return random_.choice((b"\n", b"\n", b"\r\n", b"\n\n")).join(lines)


def _import(random_: random.Random) -> Case:
    return {
        "args": ["history", "import", "{dir}/h.json"],
        "files": {"h.json": _encoded(_json(random_, HISTORY))},
    }


def _votes(random_: random.Random) -> Case:
    data = _lines(random_, VOTE)
    if random_.random() < 0.3:
        data = _csv(random_)
    arguments = random_.choice(
        (
            ["arena", "import", "{dir}/v.jsonl", "--labels", "左=first,右=second"],
            ["arena", "results", "--file", "{dir}/v.jsonl", "--labels", "左=first", "--bootstrap", "10"],
            ["arena", "results", "--file", "{dir}/v.jsonl", "--json", "--bootstrap", "10"],
            ["arena", "results", "--again", "{dir}/v.jsonl"],
            [
                "arena",
                "import",
                "{dir}/v.jsonl",
                "--labels",
                random_.choice(("", "=", "a=b", "x" * 999, "左=first,左=tie")),
            ],
        )
    )
    return {"args": arguments, "files": {"v.jsonl": _encoded(data)}}


def _csv(random_: random.Random) -> bytes:
    cell = random_.choice(("a", '"', '"a\nb"', "=cmd()", "\x1b", "x" * 200_000, ",", "あ", "\0"))
    return "\n".join(",".join([cell] * random_.choice((1, 3, 2000))) for _row in range(5)).encode()


def _benchmark(random_: random.Random) -> Case:
    name = "mtbench/judgements/a.jsonl"
    arguments = random_.choice(
        (
            ["mtbench", "show", "{dir}/mtbench", *random_.choice(((), ("--json",), ("--csv",)))],
            ["mtbench", "show", f"{{dir}}/{name}"],
            ["mtbench", "show", "{dir}/mtbench", "--data", "{dir}"],
        )
    )
    files = {name: _lines(random_, JUDGEMENT), "question.jsonl": _lines(random_, QUESTION)}
    return {"args": arguments, "files": {key: _encoded(data) for key, data in files.items()}}


def _shape(random_: random.Random) -> Case:
    grammar = random_.choice(
        (b'root ::= "a"', b"root ::= root", b"root ::=", b"start: /(a+)+$/", b"%" * 9999, b"\xff")
    )
    data = _json(random_, SCHEMA)
    arguments, content = random_.choice(
        (
            (["--json-schema", "{dir}/s"], data),
            (["--json-schema", data.decode("utf-8", "replace").replace("\0", "")[:50_000]], b""),
            (["--grammar", "{dir}/s"], grammar),
            (
                [
                    "--regex",
                    random_.choice(
                        ("(", "a{1000}{1000}", "(a|b)*" * 50, "\\p{Han}{1,3}", "[あ-ん]+", "x" * 9999)
                    ),
                ],
                b"",
            ),
            (
                [
                    "--choices",
                    random_.choice((",", "a", "a,a", "はい,いいえ", "x" * 9999, "a," * 5000, "### 指示:")),
                ],
                b"",
            ),
        )
    )
    return {"args": [*ASK, *arguments, "--", "何?"], "files": {"s": _encoded(content)}}


def _arguments(random_: random.Random) -> Case:
    word = random_.choice(
        (
            "\udcff\udcfe",
            "caf\udce9",
            "",
            " ",
            "\x1b[2J",
            "x" * 100_000,
            "--",
            "あ" * 20_000,
            "### 指示:",
            "\u200b",
            "\n" * 50,
        )
    )
    option = random_.choice(
        (
            "-s",
            "--stop",
            "--prefill",
            "--seed",
            "--temperature",
            "--resume",
            "-m",
            "--persona",
            "--top-k",
            "--lang",
        )
    )
    lines = (
        [*ASK, word],
        [*ASK, option, word, "何?"],
        [word],
        ["history", "search", word],
        ["history", "show", word],
        ["history", "title", "a", word],
        ["config", "set", word, word],
        ["pull", word],
        ["help", word],
        ["rm", word],
    )
    return {"args": random_.choice(lines)}


MUTATIONS: tuple[tuple[str, Callable[[random.Random], Case]], ...] = (
    ("an attached file", _attached),
    ("an attached file", _attached),
    ("a pipe", _piped),
    ("a pipe", _piped),
    ("no file", _special),
    ("an import", _import),
    ("votes", _votes),
    ("a benchmark", _benchmark),
    ("a shape", _shape),
    ("arguments", _arguments),
)


def attempt(path: Path) -> str:
    """Run the command line."""
    case = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in case["files"].items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(base64.b64decode(data))
        for place, kind in case["special"].items():
            _make_special(folder / place, kind)
        stdin: BinaryIO = io.BytesIO(base64.b64decode(case["stdin"] or ""))
        arguments = [argument.replace("{dir}", name) for argument in case["args"]]
        done = tanuki(folder / "home", arguments, stdin=stdin, lang=case["lang"])
        return "done" if done.code == 0 else f"code {done.code}"


def _make_special(place: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(place)  # as a shell makes them for <(…): somebody writes into it
        threading.Thread(target=_fill, args=(place,), daemon=True).start()
    elif kind == "folder":
        place.mkdir()
    elif kind == "loop":
        place.symlink_to(place)
    elif kind in {"zero", "full"}:
        place.symlink_to(f"/dev/{kind}")
    elif kind == "unreadable":
        place.write_bytes(b"x")
        place.chmod(0)


def _fill(pipe: Path) -> None:
    with suppress(OSError):
        pipe.write_text(TEXT)


def prepare() -> None:
    """Load the practice model once, before the clock runs: its libraries take a while."""
    with tempfile.TemporaryDirectory() as name:
        tanuki(Path(name), [*ASK, "何?"])


if __name__ == "__main__":
    main((("tests.fuzz.inputs", ".json", make),), __doc__ or "")
