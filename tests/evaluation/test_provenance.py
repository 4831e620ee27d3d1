"""Where a result comes from: written, read again, and the digests that name a model."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from tanuki_cli import __version__
from tanuki_cli.evaluation.provenance import DigestMemory, ModelSource, Provenance, model_digest

SOURCE = ModelSource(
    reference="tanuki-8b:q4_k_m",
    name="tanuki-8b:q4_k_m",
    engine="llama.cpp",
    device="CPU",
    context_length=4096,
    sha256="0" * 64,
    file_bytes=4_500_000_000,
)
SERVED = ModelSource(reference="http://host/v1", name="tanuki", engine="vLLM", device="?", context_length=0)


def record() -> Provenance:
    return Provenance.now(
        "compare", [SOURCE, SERVED], options={"text": ["たぬき.txt"], "chunks": None}, sampling={"seed": 1}
    )


def test_a_record_survives_json() -> None:
    written = record()
    assert Provenance.from_json(json.loads(json.dumps(written.to_json(), ensure_ascii=False))) == written
    assert written.program == __version__
    assert "numpy" in written.packages


def test_a_record_of_another_version_is_read_as_far_as_it_goes() -> None:
    entry = record().to_json()
    entry["new"] = entry["models"][0]["new"] = {"of": "later"}
    for optional in ("packages", "system", "sampling"):
        del entry[optional]
    del entry["models"][0]["sha256"]
    read = Provenance.from_json(entry)
    assert read.models[0].sha256 is None
    assert read.options == record().options


@pytest.mark.parametrize(
    "damage",
    [
        None,
        [],
        {"models": [], "date": ""},
        {**record().to_json(), "models": [1]},
        {**record().to_json(), "options": 3},
        {**record().to_json(), "command": None},
        {**record().to_json(), "models": [{**record().to_json()["models"][0], "context_length": True}]},
    ],
)
def test_what_is_no_record_is_a_value_error(damage: object) -> None:
    with pytest.raises(ValueError, match=r"missing|object"):
        Provenance.from_json(damage)


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file, memory = tmp_path / "m.gguf", DigestMemory(tmp_path / "state" / "digests.json")
    file.write_bytes(b"a" * 3_000_000)
    read: list[int] = []
    assert model_digest(file, memory, progress=read.append) == hashlib.sha256(b"a" * 3_000_000).hexdigest()
    assert sum(read) == 3_000_000
    assert len(read) > 1
    read.clear()
    assert model_digest(file, memory, progress=read.append) == hashlib.sha256(b"a" * 3_000_000).hexdigest()
    assert read == [3_000_000]
    file.write_bytes(b"b" * 3_000_000)
    os.utime(file, ns=(1, 1))
    assert model_digest(file, memory) == hashlib.sha256(b"b" * 3_000_000).hexdigest()


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', "[" * 100_000])
def test_a_damaged_memory_is_forgotten(tmp_path: Path, content: str) -> None:
    file, remembered = tmp_path / "m.gguf", tmp_path / "digests.json"
    file.write_bytes(b"x")
    remembered.write_text(content, encoding="utf-8")
    assert DigestMemory(remembered).sha256(file) == hashlib.sha256(b"x").hexdigest()
    assert str(file) in remembered.read_text(encoding="utf-8")


def test_a_checkpoint_is_all_its_model_files(tmp_path: Path) -> None:
    memory = DigestMemory(tmp_path / "digests.json")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")
    first = model_digest(folder, memory)
    (folder / "README.md").write_text("no part of it", encoding="utf-8")
    assert model_digest(folder, memory) == first
    lines = [f"{hashlib.sha256(b'{}').hexdigest()}  config.json\n"]
    lines += [f"{hashlib.sha256(b'weights').hexdigest()}  model.safetensors\n"]
    assert first == hashlib.sha256("".join(lines).encode()).hexdigest()
    (folder / "config.json").write_text("{ }", encoding="utf-8")
    assert model_digest(folder, memory) != first
