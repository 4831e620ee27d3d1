"""Finding and removing models on this machine, without any network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tanuki_cli.catalog import VARIANT_BY_NAME, PathReference, parse_reference
from tanuki_cli.catalog.types import HubReference
from tanuki_cli.errors import ModelError, SettingsError
from tanuki_cli.hub import Hub
from tanuki_cli.hub.files import Cache, HubFile, PinnedModel, cache_directory
from tanuki_cli.hub.records import Records

Q4 = VARIANT_BY_NAME["tanuki-8b:q4_k_m"]
Q8 = VARIANT_BY_NAME["tanuki-8b:q8_0"]
FULL = VARIANT_BY_NAME["tanuki-8b:full"]
AWQ = VARIANT_BY_NAME["tanuki-8b:awq"]
COMMIT = "1" * 40


class Shelf:
    """A cache as huggingface_hub lays it out, filled by hand."""

    def __init__(self, root: Path) -> None:
        self.cache = Cache(root / "hub")
        self.records = Records(root / "state" / "downloads.json")
        self.hub = Hub(cache=self.cache, records=self.records, offline=True)

    def put(self, repository: str, path: str, content: bytes, *, commit: str = COMMIT) -> Path:
        blob = self.cache.repository(repository) / "blobs" / f"{abs(hash(content)):x}"
        link = self.cache.snapshot(repository, commit) / path
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
        return link

    def put_gguf(self, variant_file: str, content: bytes) -> Path:
        return self.put(Q4.repository, variant_file, content)

    def put_tokenizer(self) -> Path:
        return self.put(FULL.repository, "tokenizer.json", b"{}")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_gguf_needs_its_tokenizer(shelf: Shelf) -> None:
    assert shelf.hub.locate(Q4) is None
    path = shelf.put_gguf("Tanuki-8B-dpo-v1.0-Q4_K_M.gguf", b"weights")
    assert shelf.hub.locate(Q4) is None
    tokenizer = shelf.put_tokenizer()
    model = shelf.hub.locate(Q4)
    assert model is not None
    assert (model.path, model.tokenizer, model.format) == (path, tokenizer, "gguf")
    assert shelf.hub.locate(Q8) is None
    assert [entry.reference for entry in shelf.hub.installed()] == [Q4]


def test_checkpoint_needs_every_shard_of_its_index(shelf: Shelf) -> None:
    shelf.put_tokenizer()
    shelf.put(FULL.repository, "config.json", b'{"quantization_config": {"quant_method": "awq"}}')
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    shelf.put(FULL.repository, "model.safetensors.index.json", json.dumps(index).encode())
    shelf.put(FULL.repository, "a.safetensors", b"a")
    assert shelf.hub.locate(FULL) is None
    shelf.put(FULL.repository, "b.safetensors", b"b")
    model = shelf.hub.locate(FULL)
    assert model is not None
    assert (model.format, model.quantization) == ("safetensors", "awq")


@pytest.mark.parametrize("index", [b"not json", b"[]", b'{"weight_map": 3}'])
def test_unreadable_index_is_not_whole(shelf: Shelf, index: bytes) -> None:
    shelf.put_tokenizer()
    shelf.put(FULL.repository, "config.json", b"{}")
    shelf.put(FULL.repository, "model.safetensors.index.json", index)
    shelf.put(FULL.repository, "a.safetensors", b"a")
    assert shelf.hub.locate(FULL) is None


def test_removing_keeps_what_others_need(shelf: Shelf) -> None:
    q4 = shelf.put_gguf("Tanuki-8B-dpo-v1.0-Q4_K_M.gguf", b"4" * 1000)
    q8 = shelf.put_gguf("Tanuki-8B-dpo-v1.0-Q8_0.gguf", b"8" * 2000)
    tokenizer = shelf.put_tokenizer()
    assert shelf.hub.remove(Q4) == 1000
    assert (q4.exists(), q8.exists(), tokenizer.exists()) == (False, True, True)
    assert shelf.hub.remove(Q8) == 2000 + len(b"{}")
    assert list(shelf.cache.root.rglob("*.gguf")) == []
    assert not shelf.cache.repository(Q4.repository).exists()
    assert not shelf.cache.repository(FULL.repository).exists()


def test_removing_the_checkpoint_leaves_the_tokenizer_to_the_gguf(shelf: Shelf) -> None:
    shelf.put_gguf("Tanuki-8B-dpo-v1.0-Q4_K_M.gguf", b"4" * 1000)
    shelf.put_tokenizer()
    shelf.put(FULL.repository, "config.json", b'{ "x": 1 }')
    shelf.put(FULL.repository, "model.safetensors", b"f" * 3000)
    assert shelf.hub.remove(FULL) == 3000 + len(b'{ "x": 1 }')
    assert shelf.hub.locate(FULL) is None
    assert shelf.hub.locate(Q4) is not None


def test_removing_takes_older_commits_along(shelf: Shelf) -> None:
    shelf.put_tokenizer()
    shelf.put_gguf("Tanuki-8B-dpo-v1.0-Q4_K_M.gguf", b"new" * 100)
    shelf.put(Q4.repository, "Tanuki-8B-dpo-v1.0-Q4_K_M.gguf", b"old" * 200, commit="2" * 40)
    assert shelf.hub.remove(Q4) == 900 + 2
    assert shelf.hub.locate(Q4) is None


def test_removing_an_unfinished_download(shelf: Shelf) -> None:
    file = HubFile(
        repository=Q4.repository, commit=COMMIT, path=str(Q4.filename), size=10, digest="a" * 64, lfs=True
    )
    shelf.records.pin(PinnedModel(name=Q4.name, revision="main", files=(file,)))
    partial = shelf.cache.partial(file)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"12345")
    assert shelf.hub.remove(Q4) == 5
    assert not partial.exists()
    with pytest.raises(ModelError):
        shelf.hub.remove(Q4)


def test_what_is_not_there_cannot_be_removed(shelf: Shelf) -> None:
    shelf.put_tokenizer()
    with pytest.raises(ModelError, match="not installed"):
        shelf.hub.remove(Q4)
    assert shelf.hub.reference_tokenizer(Q4.family) is not None


def test_paths_of_the_user(shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "モデル"
    folder.mkdir()
    gguf = folder / "my.gguf"
    gguf.write_bytes(b"GGUF")
    model = shelf.hub.locate(PathReference(gguf))
    assert model is not None
    assert (model.path, model.tokenizer, model.reference_tokenizer) == (gguf, None, None)
    (folder / "tokenizer.json").write_text("{}")
    tokenizer = shelf.put_tokenizer()
    for reference in (gguf, folder):
        model = shelf.hub.locate(PathReference(reference))
        assert model is not None
        assert (model.path, model.tokenizer) == (gguf, folder / "tokenizer.json")
        assert model.reference_tokenizer == tokenizer
    (folder / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    (folder / "model.safetensors").write_bytes(b"x")
    model = shelf.hub.locate(PathReference(folder))
    assert model is not None
    assert (model.format, model.quantization, model.path) == ("safetensors", "gptq", folder)


def test_a_folder_with_one_split_model(shelf: Shelf, tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"mix-0000{part}-of-00002.gguf").write_bytes(b"GGUF")
    model = shelf.hub.locate(PathReference(tmp_path))
    assert model is not None
    assert model.path.name == "mix-00001-of-00002.gguf"
    (tmp_path / "mix-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelError, match="holds no model"):
        shelf.hub.locate(PathReference(tmp_path))


def test_paths_without_a_model(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model file"):
        shelf.hub.locate(PathReference(tmp_path / "none.gguf"))
    with pytest.raises(ModelError, match="holds no model"):
        shelf.hub.locate(PathReference(tmp_path))


def test_hub_references_without_a_filename(shelf: Shelf) -> None:
    reference = parse_reference("hf:someone/mix")
    assert isinstance(reference, HubReference)
    shelf.put("someone/mix", "a.gguf", b"a")
    own = shelf.put("someone/mix", "tokenizer.json", b"[]")
    model = shelf.hub.locate(reference)
    assert model is not None
    assert model.tokenizer == own
    shelf.put("someone/mix", "b.gguf", b"b")
    assert shelf.hub.locate(reference) is None


def test_records_survive_what_happens_to_files(tmp_path: Path) -> None:
    records = Records(tmp_path / "downloads.json")
    file = HubFile(repository="a/b", commit=COMMIT, path="c", size=1, digest="d" * 64, lfs=True)
    model = PinnedModel(name="hf:a/b", revision="main", files=(file,))
    records.pin(model)
    assert records.pinned("hf:a/b") == model
    path = tmp_path / "c"
    path.write_bytes(b"x")
    records.set_verified(path, "d")
    assert records.is_verified(path, "d")
    assert not records.is_verified(path, "e")
    os.utime(path, ns=(1, 1))
    assert not records.is_verified(path, "d")
    (tmp_path / "downloads.json").write_text("{ broken", encoding="utf-8")
    assert records.all_pinned() == {}
    newer = '{"version": 99, "models": {}, "verified": {}}'
    (tmp_path / "downloads.json").write_text(newer, encoding="utf-8")
    with pytest.raises(SettingsError):
        records.pin(model)
    assert (tmp_path / "downloads.json").read_text(encoding="utf-8") == newer


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CACHE_HOME": "/tmp/x"},
        {"HF_HOME": "~/models"},
        {"HF_HOME": "$ROOT/hf", "ROOT": "/tmp/r"},
        {"HUGGINGFACE_HUB_CACHE": "/tmp/old"},
        {"HF_HUB_CACHE": "/tmp/new", "HUGGINGFACE_HUB_CACHE": "/tmp/old", "HF_HOME": "/tmp/h"},
    ],
)
def test_cache_directory_is_that_of_huggingface_hub(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert cache_directory(os.environ) == Path(theirs.stdout.strip())


def test_nothing_heavy_is_imported_to_look_around() -> None:
    code = "import sys, tanuki_cli.hub; print([n for n in sys.modules if n in ('huggingface_hub', 'httpx2')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
