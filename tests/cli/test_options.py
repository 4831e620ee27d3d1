"""One declaration per option: what it says is what every place that takes options knows."""

import json
import re
from pathlib import Path

import pytest
from msgspec import to_builtins

from tanuki_cli.options import format_value
from tanuki_cli.sampling import SAMPLING_SPECS, SamplingOptions
from tanuki_cli.settings.specs import SPECS
from tests.support.program import run

CHOSEN = SamplingOptions(
    temperature=0.25,
    top_p=0.9,
    top_k=40,
    min_p=0.05,
    repeat_penalty=1.1,
    max_new_tokens=3,
    stop=("Ｑ:", "終"),
    seed=7,
)
"""No value is a default, so that one that gets lost is seen."""


def as_json(options: SamplingOptions) -> object:
    return json.loads(json.dumps(to_builtins(options)))


def asked(home: Path, *options: str, env: dict[str, str] | None = None) -> object:
    done = run(home, "ask", "-m", "mame", "--json", *options, "こんにちは", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["sampling"]


def test_the_chosen_values_are_no_defaults() -> None:
    default = to_builtins(SamplingOptions())
    assert all(value != default[key] for key, value in to_builtins(CHOSEN).items())
    assert {spec.key for spec in SAMPLING_SPECS} == set(default)


def test_every_option_of_sampling_comes_from_the_command_line(tmp_path: Path) -> None:
    options: list[str] = []
    for spec in SAMPLING_SPECS:
        value = getattr(CHOSEN, spec.key)
        for one in value if isinstance(value, tuple) else (format_value(value),):
            options += [spec.flag, one]
    assert asked(tmp_path, *options) == as_json(CHOSEN)


def test_every_option_of_sampling_comes_from_the_environment(tmp_path: Path) -> None:
    env = {spec.environment: format_value(getattr(CHOSEN, spec.key)) for spec in SAMPLING_SPECS}
    assert asked(tmp_path, env=env) == as_json(CHOSEN)


def test_every_option_of_sampling_comes_from_the_file_and_is_kept_with_a_conversation(tmp_path: Path) -> None:
    for spec in SAMPLING_SPECS:
        assert (
            run(tmp_path, "config", "set", spec.key, format_value(getattr(CHOSEN, spec.key))).returncode == 0
        )
    assert asked(tmp_path) == as_json(CHOSEN)
    (tmp_path / "config" / "config.toml").unlink()
    assert asked(tmp_path, "--continue") == as_json(CHOSEN)
    assert asked(tmp_path, "--continue", "--top-k", "4") == {
        **to_builtins(CHOSEN),
        "stop": ["Ｑ:", "終"],
        "top_k": 4,
    }


def test_every_option_of_sampling_is_set_shown_and_taken_back_in_a_chat(tmp_path: Path) -> None:
    lines = [f"/set {spec.key} {format_value(getattr(CHOSEN, spec.key))}" for spec in SAMPLING_SPECS]
    lines += ["/params", "/set", "/set top_k", *(f"/set {spec.key} －" for spec in SAMPLING_SPECS), "/params"]
    stdin, env = "\n".join(lines).encode(), {"TANUKI_MIN_P": "0.5"}
    done = run(tmp_path, "chat", "-m", "mame", "--seed", "5", "--top-k", "9", stdin=stdin, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for spec in SAMPLING_SPECS:
        value = re.escape(format_value(getattr(CHOSEN, spec.key)))
        # set, listed by /set; shown by /params
        assert len(re.findall(rf"^ *{spec.key} = {value}(?: |$)", done.stderr, re.MULTILINE)) >= 2
        assert re.search(rf"^ *{spec.key} +{value}$", done.stderr, re.MULTILINE)
        # taken back: what holds without this command line and without /set
        default = "0.5" if spec.key == "min_p" else re.escape(format_value(spec.default) or "-")
        assert re.search(rf"^ *{spec.key} +{default}$", done.stderr.split("top_k = 40")[-1], re.MULTILINE)


def test_set_names_what_is_no_option_of_a_chat(tmp_path: Path) -> None:
    for line, words in (
        ("/set theme dark", "tanuki config set theme"),
        ("/set hat on", "Hint: /set\n"),
    ):
        done = run(tmp_path, "chat", "-m", "mame", stdin=line.encode())
        assert done.returncode != 0
        assert words in done.stderr


@pytest.mark.parametrize("language", ["en", "ja"])
def test_help_names_every_option_that_a_chat_takes(tmp_path: Path, language: str) -> None:
    page = run(tmp_path, "chat", "--help", "--lang", language, env={"COLUMNS": "100"}).stdout
    for spec in SPECS:
        shown = re.search(rf"^  (?:-\w, )?{re.escape(spec.flag)}(?: (\S+))?(?:  |$)", page, re.MULTILINE)
        assert bool(shown) == (spec.scope != "file"), spec.key
        if shown and spec.kind != "boolean":
            assert shown[1] == spec.short_range
