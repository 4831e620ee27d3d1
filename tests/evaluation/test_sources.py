"""What is written down of a model that was really loaded."""

import hashlib
from contextlib import closing
from pathlib import Path

import pytest

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.errors import EngineError
from tanuki_cli.evaluation.provenance import DigestMemory
from tanuki_cli.evaluation.sources import source_of
from tanuki_cli.loading import LoadedModel, Unattended, load_model
from tanuki_cli.settings.values import Directories, Settings
from tests.support.chat_server import ChatServer


def load(reference: str, home: Path) -> LoadedModel:
    directories = Directories(home, home, home, home)
    return load_model(
        reference, Settings(tune=False), Unattended(), use="chat", environ={}, directories=directories
    )


def test_a_local_model_is_named_by_its_file(tmp_path: Path) -> None:
    path = practice_model().path
    read: list[int] = []
    with closing(load("mame", tmp_path)) as model:
        source = source_of(model, DigestMemory(tmp_path / "digests.json"), progress=read.append)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.file_bytes == sum(read) == path.stat().st_size
    assert (source.reference, source.name, source.engine) == ("mame", "mame", "llama.cpp")


def test_a_served_model_is_named_by_its_server(tmp_path: Path) -> None:
    with ChatServer() as server, closing(load(server.url, tmp_path)) as model:
        source = source_of(model, DigestMemory(tmp_path / "digests.json"))
    assert (source.reference, source.name, source.sha256) == (server.url, "tanuki-8b", None)


def test_a_file_that_is_gone_is_said_so(tmp_path: Path) -> None:
    copy = tmp_path / "model.gguf"
    copy.write_bytes(practice_model().path.read_bytes())
    with closing(load(str(copy), tmp_path)) as model:
        copy.unlink()
        with pytest.raises(EngineError, match="cannot be read"):
            source_of(model, DigestMemory(tmp_path / "digests.json"))
