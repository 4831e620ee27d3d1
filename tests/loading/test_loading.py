"""The one door to a model, where nobody can be asked: as a server or an evaluation goes through it."""

from contextlib import closing
from pathlib import Path

import pytest

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Message
from tanuki_cli.errors import ModelError
from tanuki_cli.loading import Finder, NotInstalled, Unattended, load_model
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Directories, Settings

QUESTION = [Message("user", "あなたは誰?")]
GREEDY = SamplingOptions(temperature=0, max_new_tokens=20)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"TANUKI_HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}


def _answer(reference: str, environ: dict[str, str]) -> str:
    directories = Directories.from_environment(environ)
    model = load_model(
        reference, Settings(), Unattended(), use="chat", environ=environ, directories=directories
    )
    with closing(model):
        assert model.reference == reference
        assert model.tokenizer is not None
        return "".join(chunk.text for chunk in model.engine.stream(QUESTION, GREEDY))


def test_a_name_and_a_path_lead_to_the_same_model(environ: dict[str, str], tmp_path: Path) -> None:
    by_name = _answer("mame", environ)
    assert by_name
    assert _answer(str(practice_model().path), environ) == by_name
    assert not list(tmp_path.glob("**/*.sqlite3")), "a model keeps no conversation"


def test_nothing_is_downloaded_where_nobody_can_be_asked(environ: dict[str, str]) -> None:
    told: list[str] = []
    with pytest.raises(ModelError, match=r"tanuki-8b:q4_k_m is not installed") as caught:
        load_model(
            "tanuki-8b:q4_k_m",
            Settings(),
            Unattended(told.append),
            use="chat",
            environ={**environ, "HF_ENDPOINT": "http://127.0.0.1:9"},
            directories=Directories.from_environment(environ),
        )
    assert caught.value.hint is not None
    assert "tanuki pull tanuki-8b:q4_k_m" in caught.value.hint


def test_a_finder_says_what_is_missing_and_what_it_would_take(environ: dict[str, str]) -> None:
    finder = Finder(
        Settings(), environ=environ, directories=Directories.from_environment(environ), asker=Unattended()
    )
    missing = finder.look_up("tanuki-8b:q4_k_m")
    assert isinstance(missing, NotInstalled)
    offer = finder.offer(missing)
    assert offer.name == "tanuki-8b:q4_k_m"
    assert offer.bytes_to_receive is not None
    assert offer.bytes_to_receive > 4_000_000_000
    assert not offer.begun


@pytest.mark.parametrize("reference", ["qwen3", "./nothing-here", "hf:only-a-name"])
def test_what_is_no_model_is_one_sentence(reference: str, environ: dict[str, str]) -> None:
    directories = Directories.from_environment(environ)
    with pytest.raises(ModelError) as caught:
        load_model(reference, Settings(), Unattended(), use="chat", environ=environ, directories=directories)
    assert caught.value.hint
