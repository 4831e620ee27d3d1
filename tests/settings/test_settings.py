"""Settings: their ranges, where they come from, and files that are broken."""

from pathlib import Path

import platformdirs
import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from tanuki_cli.errors import ExitCode, SettingsError
from tanuki_cli.options import OptionSpec, check_value, format_value, parse_value
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.file import read_config, write_config
from tanuki_cli.settings.specs import SPEC_BY_KEY, SPECS, find_spec, value_of
from tanuki_cli.settings.values import Directories, Settings, in_range, load_settings, with_values


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config" / "config.toml"


def write(config: Path, text: str | bytes) -> Path:
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_bytes(text.encode() if isinstance(text, str) else text)
    return config


def failure(config: Path, environ: dict[str, str] | None = None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ or {}, config)
    assert caught.value.exit_code is ExitCode.SETTINGS
    assert caught.value.hint
    return caught.value


def test_without_file_and_environment_the_defaults_hold(config: Path) -> None:
    assert load_settings({}, config) == Settings()
    assert not config.parent.exists()


def test_the_defaults_are_those_of_the_card() -> None:
    sampling = Settings().sampling
    assert (sampling.temperature, sampling.max_new_tokens) == (0.5, 1024)
    assert (sampling.top_p, sampling.top_k, sampling.min_p, sampling.repeat_penalty) == (1, 0, 0, 1)
    assert sampling.seed is None


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key)
def test_the_default_of_every_setting_is_in_range(spec: OptionSpec) -> None:
    default = value_of(Settings(), spec)
    assert default == spec.default
    assert default is None or check_value(spec, default) == default


def test_environment_comes_before_file_before_default(config: Path) -> None:
    write(config, 'temperature = 0.2\ntop_k = 40\nsystem = "短く。"\n')
    settings = load_settings({"TANUKI_TEMPERATURE": "0.9", "TANUKI_PLAIN": "yes"}, config)
    assert (settings.sampling.temperature, settings.plain) == (0.9, True)
    assert (settings.sampling.top_k, settings.system) == (40, "短く。")
    assert settings.sampling.top_p == 1.0


def test_an_empty_variable_counts_as_unset(config: Path) -> None:
    settings = load_settings({"TANUKI_TEMPERATURE": ""}, write(config, "temperature = 0.2"))
    assert settings.sampling.temperature == 0.2


def test_options_come_first() -> None:
    before = Settings(sampling=SamplingOptions(temperature=0.2, top_k=40))
    settings = with_values(before, {"temperature": 1.0, "top_k": None, "other": 3})
    assert settings.sampling == SamplingOptions(temperature=1.0, top_k=40)
    assert with_values(Settings(), {"stop": ("。",)}).sampling.stop == ("。",)
    with pytest.raises(ValueError, match=r"temperature cannot be 3: allowed is 0 to 2\."):
        with_values(Settings(), {"temperature": 3.0})


@pytest.mark.parametrize(
    ("key", "text", "sentence"),
    [
        ("temperature", "2.5", "temperature cannot be 2.5: allowed is 0 to 2."),
        ("temperature", "hot", "temperature cannot be 'hot': allowed is 0 to 2."),
        ("temperature", "nan", "temperature cannot be nan: allowed is 0 to 2."),
        ("temperature", "inf", "temperature cannot be inf: allowed is 0 to 2."),
        ("top_k", "1.5", "top_k cannot be '1.5': allowed is 0 to 100000."),
        ("top_k", "-1", "top_k cannot be -1: allowed is 0 to 100000."),
        ("seed", "4294967295", "seed cannot be 4294967295: allowed is 0 to 4294967294."),
        ("repeat_penalty", "0", "repeat_penalty cannot be 0: allowed is 0.1 to 10."),
        ("enter", "maybe", "enter cannot be 'maybe': allowed is send, newline."),
        ("plain", "perhaps", "plain cannot be 'perhaps': allowed is true, false."),
    ],
)
def test_values_out_of_range_name_the_range(key: str, text: str, sentence: str, config: Path) -> None:
    with pytest.raises(ValueError, match=key) as caught:
        parse_value(SPEC_BY_KEY[key], text)
    assert str(caught.value) == sentence
    variable = f"TANUKI_{key.upper()}"
    error = failure(config, {variable: text})
    assert (error.message, error.hint) == (f"{variable}: {sentence}", f"Change or unset {variable}.")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("temperature = 3", "temperature cannot be 3: allowed is 0 to 2."),
        ("temperature = true", "temperature cannot be True: allowed is 0 to 2."),
        ('top_k = "40"', "top_k cannot be '40': allowed is 0 to 100000."),
        ("top_k = 1.0", "top_k cannot be 1.0: allowed is 0 to 100000."),
        ("plain = 1", "plain cannot be 1: allowed is true, false."),
        ("system = 5", "system cannot be 5: it must be text."),
        ("[temperature]\nx = 1", "temperature cannot be {'x': 1}: allowed is 0 to 2."),
        ("remotes = 5", '[remotes] must hold lines such as lab = "http://host:8000/v1".'),
        ("[remotes]\nlab = 5", '[remotes] must hold lines such as lab = "http://host:8000/v1".'),
    ],
)
def test_wrong_values_in_the_file_are_named(config: Path, line: str, sentence: str) -> None:
    error = failure(write(config, line))
    assert error.message == f"{config}: {sentence}"
    assert error.hint == "tanuki config edit"


def test_an_unknown_key_in_the_file_suggests_the_nearest(config: Path) -> None:
    error = failure(write(config, "temprature = 0.2"))
    assert error.message == f"{config}: There is no setting 'temprature'."
    assert error.hint == "Did you mean temperature?"


def test_a_broken_file_is_named_with_line_and_column(config: Path) -> None:
    error = failure(write(config, "temperature = 0.2\ntop_k == 3\n"))
    assert error.message == f"{config} is not valid TOML at line 2, column 8."
    assert error.hint == "tanuki config edit"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", 'system = "短く。"'.encode("cp932")])
def test_a_file_in_another_encoding_is_an_error(config: Path, content: bytes) -> None:
    assert failure(write(config, content)).message.startswith(f"{config} cannot be read: ")


def test_a_directory_in_place_of_the_file_is_an_error(config: Path) -> None:
    config.mkdir(parents=True)
    assert failure(config).message.startswith(f"{config} cannot be read: ")


def test_a_byte_order_mark_is_harmless(config: Path) -> None:
    assert load_settings({}, write(config, b"\xef\xbb\xbftop_k = 7\n")).sampling.top_k == 7


def test_remotes_keep_their_order(config: Path) -> None:
    write(config, '[remotes]\nlab = "http://lab:8000/v1"\nhome = "http://127.0.0.1:8080/v1"\n')
    assert load_settings({}, config).remotes == (
        ("lab", "http://lab:8000/v1"),
        ("home", "http://127.0.0.1:8080/v1"),
    )


def test_writing_keeps_comments_and_leaves_no_other_file(config: Path) -> None:
    write(config, "# mine\ntop_k = 7  # few\n\n[remotes]\n")
    document = read_config(config)
    document["top_k"] = 8
    write_config(config, document)
    assert config.read_text(encoding="utf-8") == "# mine\ntop_k = 8  # few\n\n[remotes]\n"
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file where the directory should be")
    with pytest.raises(SettingsError) as caught:
        write_config(tmp_path / "config" / "config.toml", tomlkit.document())
    assert caught.value.message.startswith(f"{tmp_path / 'config' / 'config.toml'} cannot be written: ")
    assert caught.value.hint


def test_keys_may_be_written_with_hyphens() -> None:
    assert find_spec(" Max-New-Tokens ").key == "max_new_tokens"
    assert find_spec("ｍａｘ－ｎｅｗ＿ｔｏｋｅｎｓ").key == "max_new_tokens"
    with pytest.raises(SettingsError) as caught:
        find_spec("max_token")
    assert caught.value.hint == "Did you mean max_new_tokens?"
    with pytest.raises(SettingsError) as caught:
        find_spec("zzz")
    assert caught.value.hint == "tanuki config list"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("temperature", "０．７", 0.7),
        ("top_k", "　４０ ", 40),
        ("kv_type", "ｑ８＿０", "q8_0"),
        ("plain", "ＹＥＳ", True),
        ("enter", "Ｎｅｗｌｉｎｅ", "newline"),
        ("system", "　全角のＡＢＣ１２３。　", "　全角のＡＢＣ１２３。　"),
        ("stop", "Ｑ：", ("Ｑ：",)),
        ("stop", '["\\n\\n", "Ｑ"]', ("\n\n", "Ｑ")),
        ("stop", "[END]", ("[END]",)),
        ("stop", "", ()),
    ],
)
def test_numbers_and_names_may_be_typed_full_width_and_texts_are_kept(
    key: str, text: str, value: object, config: Path
) -> None:
    assert parse_value(SPEC_BY_KEY[key], text) == value
    if text:
        assert value_of(load_settings({f"TANUKI_{key.upper()}": text}, config), SPEC_BY_KEY[key]) == value


@given(texts=st.lists(st.text()).map(tuple))
def test_several_texts_are_written_as_they_are_read(texts: tuple[str, ...]) -> None:
    spec = SPEC_BY_KEY["stop"]
    written = format_value(texts)
    assert parse_value(spec, written) == texts
    assert "\n" not in written


@pytest.mark.parametrize("line", ["stop = 5", 'stop = "。"', "stop = [1]"])
def test_stop_is_a_list_of_texts_in_the_file(config: Path, line: str) -> None:
    assert "it must be a list of texts." in failure(write(config, line)).message
    assert load_settings({}, write(config, 'stop = ["。", "Q:"]')).sampling.stop == ("。", "Q:")


def test_what_another_version_kept_out_of_range_has_the_default() -> None:
    kept = SamplingOptions(temperature=5.0, top_k=7, seed=2**40, max_new_tokens=0)
    assert in_range(kept) == SamplingOptions(top_k=7)
    inside = SamplingOptions(temperature=0.1, seed=3, stop=("。",))
    assert in_range(inside) is inside


numeric = st.sampled_from([spec for spec in SPECS if spec.kind in {"integer", "number"}])


@given(spec=numeric, value=st.integers() | st.floats())
def test_a_number_passes_exactly_if_it_is_in_range(spec: OptionSpec, value: float) -> None:
    assert spec.minimum is not None
    assert spec.maximum is not None
    fits = spec.minimum <= value <= spec.maximum and (spec.kind == "number" or isinstance(value, int))
    try:
        passed = check_value(spec, value)
    except ValueError:
        assert not fits
    else:
        assert fits
        assert passed == value
        assert parse_value(spec, str(value)) == value


def test_directories_follow_tanuki_home(tmp_path: Path) -> None:
    directories = Directories.from_environment({"TANUKI_HOME": str(tmp_path)})
    assert directories.config_file == tmp_path / "config" / "config.toml"
    assert directories.history_file == tmp_path / "data" / "history.sqlite3"
    assert {directories.state.parent, directories.cache.parent} == {tmp_path}
    assert list(tmp_path.iterdir()) == []


def test_directories_are_the_platforms_own_otherwise() -> None:
    directories = Directories.from_environment({})
    assert directories.config == platformdirs.user_config_path("tanuki", appauthor=False)
    assert directories.data == platformdirs.user_data_path("tanuki", appauthor=False)
