"""``tanuki config`` through the real command line."""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from tanuki_cli.cli import app, run
from tanuki_cli.options import format_value
from tanuki_cli.settings.specs import SPECS, find_spec, value_of
from tanuki_cli.settings.values import load_settings

_NO_SCHEME = "The address of a server begins with http:// or https://."


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Cli:
    """Runs commands in this process, with their own home and streams that are no terminals."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = home / "config" / "config.toml"
        self._monkeypatch = monkeypatch
        for name in [name for name in os.environ if name.startswith("TANUKI_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("TANUKI_HOME", str(home))

    def __call__(self, *arguments: str) -> Result:
        streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8") for name in ("stdin", "stdout", "stderr")}
        with self._monkeypatch.context() as patch:
            for name, stream in streams.items():
                patch.setattr(f"sys.{name}", stream)
            code = run.run(app, ["config", *arguments])
        texts = {}
        for name, stream in streams.items():
            stream.flush()
            stream.seek(0)
            texts[name] = stream.read()
        return Result(int(code), texts["stdout"], texts["stderr"])

    def write(self, text: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text, encoding="utf-8")

    @property
    def text(self) -> str:
        return self.file.read_text(encoding="utf-8")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(tmp_path / "home", monkeypatch)


def test_list_names_value_and_source(config: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write('top-k = 40\nplain = true\n[remotes]\nlab = "http://lab:8000/v1"\n')
    monkeypatch.setenv("TANUKI_TEMPERATURE", "0.9")
    result = config("list")
    assert (result.code, result.err) == (0, "")
    rows = {
        key: (value, source) for key, value, source in (row.split("\t") for row in result.out.splitlines())
    }
    assert rows["top_k"] == ("40", "file")
    assert rows["plain"] == ("true", "file")
    assert rows["temperature"] == ("0.9", "environment")
    assert rows["max_new_tokens"] == ("1024", "default")
    assert rows["seed"] == ("", "default")
    assert rows["remotes.lab"] == ("http://lab:8000/v1", "file")
    assert set(rows) == {*(spec.key for spec in SPECS), "remotes.lab"}


def test_without_a_command_the_help_is_printed(config: Cli) -> None:
    result = config()
    assert (result.code, result.err) == (0, "")
    assert "tanuki config set temperature 0.2" in result.out


def test_set_get_unset(config: Cli) -> None:
    result = config("set", "temperature", "0.20")
    assert (result.code, result.out) == (0, "")
    assert result.err == f"temperature = 0.2  ({config.file})\n"
    assert config("get", "temperature") == Result(0, "0.2\n", "")
    assert config("unset", "temperature") == Result(
        0, "", f"temperature was removed from {config.file}; the default holds.\n"
    )
    assert config.text == ""
    assert config("get", "temperature").out == "0.5\n"
    result = config("unset", "temperature")
    assert (result.code, result.err) == (0, f"temperature is not set in {config.file}.\n")


@pytest.mark.parametrize("key", [*(spec.key for spec in SPECS if spec.key != "persona"), "remotes.lab"])
def test_what_is_typed_for_no_value_leads_to_unset(config: Cli, key: str) -> None:
    free_text = key in ("system", "stop")
    for word in ("-", "ー", *(() if free_text else ("none", "ＮＯＮＥ", "default", "なし"))):
        result = config("set", key, word)
        assert (result.code, f"tanuki config unset {key}" in result.err) == (2, True), (word, result.err)
    assert not config.file.exists()


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("max-new-tokens", "256", "max_new_tokens = 256"),
        ("plain", "yes", "plain = true"),
        ("model", "tanuki-8b:q4_k_m", 'model = "tanuki-8b:q4_k_m"'),
        ("system", '「"短く"」\\', 'system = "「\\"短く\\"」\\\\"'),
        ("top_p", "1", "top_p = 1.0"),
        ("ｔｏｐ＿ｋ", "４０", "top_k = 40"),
        ("stop", "。", 'stop = ["。"]'),
        ("stop", '["。", "Q:"]', 'stop = ["。", "Q:"]'),
    ],
)
def test_values_are_written_as_toml(config: Cli, key: str, value: str, line: str) -> None:
    assert config("set", key, value).code == 0
    assert config.text == f"{line}\n"
    stored = value_of(load_settings({}, config.file), find_spec(key))
    assert config("get", key).out == format_value(stored) + "\n"


def test_comments_and_places_are_kept(config: Cli) -> None:
    config.write('# mine\nTop-K = 7  # few\n\n[remotes]\nlab = "http://lab:8000/v1"\n')
    assert config("set", "top_k", "8").code == 0
    assert config("set", "seed", "5").code == 0
    assert config("set", "remotes.home", "http://127.0.0.1:8080/v1#llama").code == 0
    assert config.text.startswith("# mine\nTop-K = 8  # few\n")
    assert config.text.index("seed = 5") < config.text.index("[remotes]")
    settings = load_settings({}, config.file)
    assert (settings.sampling.top_k, settings.sampling.seed) == (8, 5)
    assert settings.remotes == (("lab", "http://lab:8000/v1"), ("home", "http://127.0.0.1:8080/v1#llama"))
    assert config("get", "remotes.home").out == "http://127.0.0.1:8080/v1#llama\n"
    assert config("unset", "remotes.lab").code == 0
    assert load_settings({}, config.file).remotes == (("home", "http://127.0.0.1:8080/v1#llama"),)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("set", "temperature", "3"),
            "temperature cannot be 3: allowed is 0 to 2.",
            "tanuki config set temperature 0.5",
        ),
        (("set", "seed", "-1"), "seed cannot be -1: allowed is 0 to 4294967294.", "tanuki config set seed 1"),
        (
            ("set", "plain", "maybe"),
            "plain cannot be 'maybe': allowed is true, false.",
            "tanuki config set plain true",
        ),
        (("set", "temprature", "1"), "There is no setting 'temprature'.", "Did you mean temperature?"),
        (("get", "temprature"), "There is no setting 'temprature'.", "Did you mean temperature?"),
        (("unset", "temprature"), "There is no setting 'temprature'.", "Did you mean temperature?"),
        (("set", "model", "tanuki-9b"), "There is no model named tanuki-9b.", "tanuki-8b"),
        (("set", "remotes.lab", "lab:8000"), _NO_SCHEME, "tanuki config set remotes.lab http://host:8000/v1"),
        (("set", "remotes.lab", "mame"), _NO_SCHEME, "tanuki config set remotes.lab http://host:8000/v1"),
        (("set", "remotes.lab", "http://"), "http:// is not the address of a server.", "http://host:8000/v1"),
        (("set", "remotes.mame", "http://a/v1"), "A server cannot be named 'mame'.", "remotes.lab"),
        (("set", "remotes.a b", "http://a/v1"), "A server cannot be named 'a b'.", "remotes.lab"),
        (("get", "remotes.lab"), "There is no server named lab.", "tanuki config set remotes.NAME URL"),
        (("set", "temperature"), "VALUE is missing.", "tanuki config set --help"),
    ],
)
def test_a_bad_command_line_is_exit_2_and_changes_nothing(
    config: Cli, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    result = config(*arguments)
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert lines[0] == f"Error: {message}"
    assert hint in lines[1]
    assert not config.file.exists()


def test_a_broken_file_is_exit_3(config: Cli) -> None:
    config.write("top_k == 3\n")
    for arguments in (("list",), ("get", "top_k"), ("set", "top_k", "3"), ("unset", "top_k")):
        result = config(*arguments)
        assert result.code == 3
        assert f"{config.file} is not valid TOML at line 1, column 8." in result.err
    assert config.text == "top_k == 3\n"
    assert config("path") == Result(0, f"{config.file}\n", "")


def test_what_mends_a_file_works_on_one_with_wrong_values(config: Cli) -> None:
    config.write("temperature = 9\ntemprature = 1\n")
    assert config("list").code == 3
    assert config("set", "temperature", "0.3").code == 0
    assert config("list").code == 3
    assert config("unset", "temprature").code == 0
    assert config("get", "temperature").out == "0.3\n"


def test_remotes_that_are_no_table_are_exit_3(config: Cli) -> None:
    config.write("remotes = 5\n")
    result = config("set", "remotes.lab", "http://lab/v1")
    assert result.code == 3
    assert "[remotes] must hold lines such as" in result.err


def test_a_variable_that_overrides_is_mentioned(config: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANUKI_TOP_K", "9")
    assert "TANUKI_TOP_K is set and comes before the file." in config("set", "top_k", "8").err
    assert config("get", "top_k").out == "9\n"


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    path = tmp_path / "my editor"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VISUAL", f"'{path}' --wait")


def test_edit_offers_every_key_and_checks_what_was_saved(
    config: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, 'test "$1" = --wait && cp "$2" "$2.seen"')
    assert config("edit") == Result(0, "", "")
    template = (config.file.parent / "config.toml.seen").read_text(encoding="utf-8")
    assert load_settings({}, config.file) == load_settings({}, tmp_path / "missing")
    # Every example in it is one that the program takes.
    examples = [
        line[2:]
        for line in template.splitlines()
        if " = " in line and line[2:].split(" = ")[0].isidentifier()
    ]
    assert {line.split(" = ")[0] for line in examples} >= {spec.key for spec in SPECS}
    config.write("\n".join(line for line in examples if not line.startswith("lab")))
    assert config("list").code == 0

    editor(tmp_path, monkeypatch, 'echo "top_k = many" > "$2"')
    result = config("edit")
    assert result.code == 3
    assert result.err.splitlines()[1].endswith("tanuki config edit")
    assert config.text == "top_k = many\n"


def test_an_editor_that_fails_is_an_error(
    config: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, "exit 1")
    assert config("edit").code == 2
    monkeypatch.setenv("VISUAL", "/nonexistent/editor")
    result = config("edit")
    assert result.code == 2
    assert "/nonexistent/editor" in result.err
