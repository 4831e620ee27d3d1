"""Mutants of config.toml and of the variables: read, listed, changed and mended by the real commands.

python -m tests.fuzz.settings --count 1000 --seed 1
"""

import base64
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.exceptions

from tanuki_cli.errors import ExitCode
from tanuki_cli.settings.file import MAX_BYTES
from tanuki_cli.settings.specs import SPECS
from tests.fuzz.command import tanuki
from tests.fuzz.harness import flip_bits, main, numbers, spoil_bytes

BASE = """# 設定
lang = "en"  # the language
temperature = 0.5
max_new_tokens = 256
stop = ["終わり", "END"]
system = \"\"\"短く
答えて\"\"\"

[remotes]
lab = "http://127.0.0.1:9/v1"  # 研究室
"""
KEYS = [spec.key for spec in SPECS]


def make(random_: random.Random, path: Path) -> str:
    """One mutant, with the variables that go with it, as JSON."""
    name, mutate = random_.choice(MUTATIONS)
    data, environ = mutate(random_)
    path.write_text(json.dumps({"config": base64.b64encode(data).decode(), "environ": environ}))
    return name


def _value(random_: random.Random) -> str:
    """A value as TOML spells it, or nearly."""
    number = random_.choice([*numbers(), -1])
    return random_.choice(
        (
            str(number),
            f"{number}.5",
            f"1e{number % 400}",
            "nan",
            "-inf",
            "inf",
            "true",
            '""',
            "''",
            "[]",
            "{}",
            '"auto"',
            '"' + "x" * random_.choice((100, 50_000)) + '"',
            '"\\u001b[31m"',
            '"\\u202e"',
            "1979-05-27",
            "07:32:00",
            "[[1]]",
            '{a = "b"}',
            '"\\ud800"',
            '[1, "a"]',
            '"\\u0000"',
            '"たぬき\\n### 指示:"',
            "0x1F",
            "1_000",
            '["a", "b", ""]',
            "[" * random_.choice((50, 2000)),
            "{a=" * random_.choice((50, 2000)),
            '"http://[::1"',
            '"http://u:p@h/v1"',
            '"http://h:99999/v1"',
            '"https://日本/v1?key=secret"',
            '"no"',
            '"ja"',
        )
    )


def _key(random_: random.Random) -> str:
    return random_.choice(
        (
            *KEYS,
            *KEYS,
            "Temperature",
            "max-new-tokens",
            "temprature",
            '""',
            '"\\u001b[2J"',
            "a.b.c",
            "remotes",
            '"' + "k" * 5000 + '"',
            "日本",
            '"日本"',
            "temperature.x",
            "remotes.a",
            '"__proto__"',
            "environ",
            "sampling",
        )
    )


def _lines(random_: random.Random) -> tuple[bytes, dict[str, str]]:
    lines = BASE.splitlines()
    for _index in range(random_.choice((1, 1, 2, 20))):
        line = f"{_key(random_)} = {_value(random_)}"
        lines.insert(random_.randrange(len(lines) + 1), line)
    if random_.random() < 0.5:
        lines = [line for line in lines if not line.startswith("[remotes]")]
    return "\n".join(lines).encode(), {}


def _one(random_: random.Random) -> tuple[bytes, dict[str, str]]:
    return f"{_key(random_)} = {_value(random_)}\n".encode(), {}


def _allowed(random_: random.Random) -> tuple[bytes, dict[str, str]]:
    """Only what may be there, written in odd ways."""
    chosen = random_.sample(SPECS, k=4)
    lines = [f"{spec.key} = {tomlkit.item(spec.default).as_string()}" for spec in chosen if spec.default]
    lines += random_.choice(([], ["[remotes]", '"研究室" = "http://127.0.0.1:9/v1"'], ["remotes = {}"]))
    return random_.choice((b"\n", b"\r\n", b"\n\n")).join(line.encode() for line in lines), {}


def _remotes(random_: random.Random) -> tuple[bytes, dict[str, str]]:
    lines = [
        f"{random_.choice(('lab', 'gpu-1', 'gpu_1', 'auto', 'mame', _key(random_)))} = {_value(random_)}"
        for _index in range(random_.choice((1, 2, 5)))
    ]
    head = random_.choice(("[remotes]", "[[remotes]]", "[remotes.x]", "[Remotes]", "remotes = 1"))
    return "\n".join([head, *lines]).encode(), {}


def _bytes(random_: random.Random) -> tuple[bytes, dict[str, str]]:
    change = random_.choice((flip_bits, spoil_bytes))
    return change(random_, BASE.encode()), {}


def _encoded(random_: random.Random) -> tuple[bytes, dict[str, str]]:
    encoding = random_.choice(("utf-16", "utf-8-sig", "cp932", "euc_jp", "utf-32"))
    return BASE.encode(encoding, "replace"), {}


def _big(random_: random.Random) -> tuple[bytes, dict[str, str]]:
    size = random_.choice((1 << 10, 4_000, 1 << 20, 11 << 20))
    kind = random_.randrange(4)
    if kind == 0:
        return b"#" + b"a" * size, {}
    if kind == 1:
        return b"\n" * size, {}
    if kind == 2:
        return b"".join(b"a%d = 1\n" % number for number in range(min(size // 9, 20_000))), {}
    return b'system = "' + "あ".encode() * (size // 3) + b'"', {}


def _environment(random_: random.Random) -> tuple[bytes, dict[str, str]]:
    environ = {
        random_.choice(SPECS).environment: random_.choice(
            (
                *map(str, numbers()),
                "-1",
                "nan",
                "1e999",
                "x" * 5000,
                "\x1b[2J",
                "\u202e",
                "\udcff",
                "ja",
                "auto",
                "true",
                "はい",
                "１２",
                "0.5",
                "[",
                "\n",
                "http://h:1/v1",
            )
        )
        for _index in range(random_.choice((1, 3)))
    }
    return BASE.encode(), environ


MUTATIONS = (
    ("lines", _lines),
    ("lines", _lines),
    ("one line", _one),
    ("one line", _one),
    ("allowed", _allowed),
    ("allowed", _allowed),
    ("servers", _remotes),
    ("bytes", _bytes),
    ("bytes", _bytes),
    ("another encoding", _encoded),
    ("size", _big),
    ("variables", _environment),
)


def attempt(path: Path) -> str:
    """List it, get from it, and change it, by which nothing else of it may change."""
    content = json.loads(path.read_text())
    environ, lang = content["environ"], "ja" if len(content["config"]) % 2 else "en"
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        file = home / "config" / "config.toml"
        file.parent.mkdir()
        file.write_bytes(base64.b64decode(content["config"]))
        listed = tanuki(home, ["config", "list"], environ=environ, lang=lang)
        assert listed.code in {ExitCode.SUCCESS, ExitCode.SETTINGS}
        for command in (["config", "get", "temperature"], ["models"], ["ask", "-m", "lab", "x"]):
            tanuki(home, command, environ=environ, lang=lang)
        before = _parsed(file)
        for command in (
            ["set", "seed", "7"],
            ["unset", "temperature"],
            ["set", "remotes.new", "http://h/v1"],
        ):
            done = tanuki(home, ["config", *command], environ=environ, lang=lang)
            after = _parsed(file)
            if done.code != ExitCode.SUCCESS:
                assert after == before, f"refused, but changed: {command}"
                continue
            assert after is not None, f"written, but not to be read: {command}"
            kept = {key: value for key, value in (before or {}).items() if _is_other(key, command[1])}
            assert {key: after.get(key) for key in kept} == kept, f"{command} changed more than it should"
            before = after
        return "read" if listed.code == ExitCode.SUCCESS else "refused"


def _is_other(key: str, changed: str) -> bool:
    return key.strip().lower().replace("-", "_") != changed.partition(".")[0]


def _parsed(file: Path) -> dict[str, Any] | None:
    """Its values, as text, since NaN equals nothing; None where it is not TOML, or larger than is read."""
    if file.stat().st_size > MAX_BYTES:
        return None
    try:
        values = tomlkit.parse(file.read_bytes().decode("utf-8-sig")).unwrap()
    except (tomlkit.exceptions.TOMLKitError, UnicodeDecodeError, RecursionError, ValueError, MemoryError):
        return None
    return {key: repr(value) for key, value in values.items()}


if __name__ == "__main__":
    main((("tests.fuzz.settings", ".json", make),), __doc__ or "")
