"""What the transformers engine must not do: run a repository's code, tokenise, or fail unclearly."""

import json
import shutil
import socket
import unicodedata
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.lazy import lazy_imports

with lazy_imports():
    import transformers

    from tanuki_cli.engines.transformers.loader import TransformersModel, load_transformers
    from tests.support.checkpoints import edit_config, write_checkpoint

ON_CPU = Settings(gpu_layers=0, threads=1)
GREEDY = SamplingOptions(temperature=0.0, seed=0)
CODE = """
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).touch()


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, input_ids=None, past_key_values=None, use_cache=None, **kwargs):
        output = super().forward(input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache)
        if past_key_values.get_seq_length() > 20:
            raise KeyError("a mistake of its own")
        output.logits = -output.logits
        return output
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A checkpoint that brings its own code, and the file which that code makes when it is run."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    marker = tmp_path / "ran"
    path = write_checkpoint(tmp_path / "own")
    (path / "modeling_own.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    edit_config(
        path,
        model_type="own",
        architectures=["OwnForCausalLM"],
        auto_map={
            "AutoConfig": "modeling_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
        },
    )
    return path, marker


def load(path: Path, *, agree: bool = False) -> TransformersModel:
    local = LocalModel(name="own", format="safetensors", path=path)
    return load_transformers(local, ON_CPU, debug=False, consent=lambda _request: agree)


def test_own_code_does_not_run_without_a_yes(own_code: tuple[Path, Path]) -> None:
    path, marker = own_code
    with pytest.raises(EngineError, match=r"modeling_own\.py") as error:
        load(path)
    assert "--trust-remote-code" in (error.value.hint or "")
    assert not marker.exists()


def test_own_code_runs_after_a_yes(own_code: tuple[Path, Path]) -> None:
    path, marker = own_code
    model = load(path, agree=True)
    assert marker.exists()
    prompt = [1, 40, 41, 42]
    with pytest.raises(EngineError, match="a mistake of its own"):
        list(token_ids(model.generate(prompt, GREEDY)))
    shutil.copytree(path, path.parent / "stock")
    edit_config(path.parent / "stock", architectures=["LlamaForCausalLM"], auto_map=None, model_type="llama")
    stock = load(path.parent / "stock")
    assert next(token_ids(model.generate(prompt, GREEDY))) != next(token_ids(stock.generate(prompt, GREEDY)))


def test_own_code_that_does_not_import(own_code: tuple[Path, Path]) -> None:
    path, _marker = own_code
    (path / "modeling_own.py").write_text("import a_package_nobody_has\n", encoding="utf-8")
    with pytest.raises(EngineError, match="a-package-nobody-has"):
        load(path, agree=True)
    (path / "modeling_own.py").write_text("def f():\n    import a_package_nobody_has\n", encoding="utf-8")
    with pytest.raises(EngineError, match="a_package_nobody_has"):
        load(path, agree=True)


def test_a_stock_model_runs_no_file_beside_it(own_code: tuple[Path, Path]) -> None:
    """Without auto_map the code is not asked for, and the tokenizer's or a custom generate's neither."""
    path, marker = own_code
    edit_config(path, architectures=["LlamaForCausalLM"], auto_map=None, model_type="llama")
    (path / "custom_generate").mkdir()
    shutil.copy(path / "modeling_own.py", path / "custom_generate" / "generate.py")
    assert len(list(islice(load(path).generate([1, 40], GREEDY), 3))) == 3
    assert not marker.exists()


def test_nothing_is_asked_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert next(load(write_checkpoint(tmp_path)).generate([1, 40], GREEDY)).id >= 0


def checkpoint_tokenizer(directory: Path, tokenizer: Path) -> Path:
    """The tokenizer files of a published checkpoint around ``tokenizer``."""
    directory.mkdir()
    shutil.copy(tokenizer, directory / "tokenizer.json")
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def chat_texts(golden: Path) -> tuple[list[str], list[list[int]]]:
    """Answers and questions of the golden chats with their ids inside the whole."""
    records = [json.loads(line) for line in golden.read_text(encoding="utf-8").splitlines()]
    return [record["messages"][-1]["content"] for record in records], [record["ids"] for record in records]


def share_of_other_ids(texts: Sequence[str], ours: ChatTokenizer, theirs: object) -> float:
    other = [
        ours.encode(text) != theirs(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
        for text in texts
    ]
    return sum(other) / len(other)


def test_auto_tokenizer_is_still_wrong(
    real_tokenizer: ChatTokenizer, golden_dir: Path, tmp_path: Path
) -> None:
    """The reason for a tokenizer of our own: if this fails, transformers has been mended."""
    directory = checkpoint_tokenizer(tmp_path / "published", golden_dir / "tokenizer.json")
    texts, golden_ids = chat_texts(golden_dir / "golden_chats.jsonl")
    auto = transformers.AutoTokenizer.from_pretrained(directory)
    assert share_of_other_ids(texts, real_tokenizer, auto) > 0.9
    whole = real_tokenizer.backend.decode(golden_ids[0], skip_special_tokens=False)
    assert auto(whole, add_special_tokens=False)["input_ids"] != golden_ids[0]


def test_the_file_itself_is_right_in_transformers_too(
    real_tokenizer: ChatTokenizer, golden_dir: Path, tmp_path: Path
) -> None:
    directory = checkpoint_tokenizer(tmp_path / "published", golden_dir / "tokenizer.json")
    (directory / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(directory)
    texts, _ids = chat_texts(golden_dir / "golden_chats.jsonl")
    plain = [text for text in texts if "<" not in unicodedata.normalize("NFKC", text)]
    assert share_of_other_ids(plain, real_tokenizer, fast) == 0.0
