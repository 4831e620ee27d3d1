"""Files that cannot be run: a clear error before anything native can stop the process."""

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import gguf
import pytest

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp import loader as llama_cpp
from tanuki_cli.engines.llama_cpp import plan as llama_plan
from tanuki_cli.engines.llama_cpp.admission import KINDS
from tanuki_cli.engines.llama_cpp.facts import model_facts
from tanuki_cli.engines.llama_cpp.gguf import read_gguf
from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
from tanuki_cli.engines.llama_cpp.memory import all_layers, forecast, gpu_layers_that_fit
from tanuki_cli.engines.llama_cpp.vocabulary import tokenizer_from_metadata
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.errors import EngineError, ExitCode
from tanuki_cli.machine.hardware import Machine
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.fuzz import gguf as fuzzed
from tests.support.llama_models import ENGINE, GREEDY, PROMPT, TINY, load, rewrite, split, write_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def refusal(path: Path) -> EngineError:
    model = LocalModel(name="tiny", format="gguf", path=path)
    with pytest.raises(EngineError) as caught:
        open_engine(model, Settings(context_length=512, threads=1, engine=ENGINE))
    assert caught.value.exit_code == ExitCode.ENGINE
    assert caught.value.hint
    assert "--verify" not in caught.value.hint  # the file is the user's own
    return caught.value


@pytest.mark.parametrize("content", [b"", b"G", b"GGUF", b"PK\x03\x04" * 99, b"GGUF" + b"\xff" * 4096])
def test_what_is_not_a_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert str(path) in refusal(path).message


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    refusal(tmp_path / "none.gguf")
    refusal(tmp_path)


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.003, 0.01, 0.3, 0.7, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, tiny: Path, share: float) -> None:
    content = tiny.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged or incomplete" in refusal(path).message


def test_other_architecture_is_refused(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "other.gguf"
    content = tiny.read_bytes()
    key = b"general.architecture" + (8).to_bytes(4, "little") + (5).to_bytes(8, "little")
    assert content.count(key + b"llama") == 1
    path.write_bytes(content.replace(key + b"llama", key + b"qwen2"))
    assert "qwen2" in refusal(path).message


def test_mixture_of_experts_is_refused_with_two_ways_out(tmp_path: Path, tiny: Path) -> None:
    path = rewrite(
        tiny, tmp_path / "moe.gguf", {"llama.expert_count": lambda writer: writer.add_expert_count(8)}
    )
    error = refusal(path)
    assert "8x8B" in error.message
    assert error.hint is not None
    assert "http://" in error.hint
    assert "--trust-remote-code" in error.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count", 7),
        ("llama.attention.head_count_kv", 3),
        ("llama.embedding_length", 512),
        ("llama.block_count", 3),
        ("llama.block_count", 1),
        ("llama.context_length", 0),
        ("llama.attention.key_length", 32),
        ("llama.attention.value_length", 32),
        ("llama.rope.dimension_count", 32),
        ("tokenizer.ggml.eos_token_id", 5000),
    ],
)
def test_impossible_sizes_are_refused(tmp_path: Path, tiny: Path, key: str, value: int) -> None:
    path = rewrite(tiny, tmp_path / "bad.gguf", {key: lambda writer: writer.add_uint32(key, value)})
    assert "damaged" in refusal(path).message


def test_negative_epsilon_is_refused(tmp_path: Path, tiny: Path) -> None:
    key = "llama.attention.layer_norm_rms_epsilon"
    path = rewrite(tiny, tmp_path / "bad.gguf", {key: lambda writer: writer.add_float32(key, -1e-5)})
    assert "epsilon" in refusal(path).message


@pytest.mark.parametrize("other", [b"<0x42>", b"<\0x41>"], ids=["twice", "NUL"])
def test_pieces_that_are_the_same_are_refused(tmp_path: Path, tiny: Path, other: bytes) -> None:
    content = tiny.read_bytes()
    assert content.count(b"<0x41>") == content.count(b"<0x42>") == 1
    path = tmp_path / "twice.gguf"
    path.write_bytes(content.replace(b"<0x41>", other))
    assert "damaged" in refusal(path).message


def test_a_part_with_another_name_than_parts_have_is_refused(tmp_path: Path, tiny: Path) -> None:
    path = rewrite(
        tiny, tmp_path / "part.gguf", {"split.count": lambda writer: writer.add_uint16("split.count", 3)}
    )
    hint = refusal(path).hint
    assert hint is not None
    assert "-00001-of-00003.gguf" in hint


@pytest.mark.parametrize(
    ("key", "add"),
    [
        ("llama.expert_used_count", lambda writer, key: writer.add_uint32(key, 1)),
        ("llama.nextn_predict_layers", lambda writer, key: writer.add_uint32(key, 99)),
        ("llama.block_count", lambda writer, key: writer.add_uint32(key, 600)),
        ("llama.context_length", lambda writer, key: writer.add_uint64(key, 2048)),
        ("llama.attention.sliding_window", lambda writer, key: writer.add_uint32(key, 1)),
        ("llama.rope.freq_base", lambda writer, key: writer.add_float32(key, float("nan"))),
        ("llama.rope.scaling.type", lambda writer, key: writer.add_string(key, "longrope")),
    ],
)
def test_settings_that_this_kind_does_not_have_are_refused(
    tmp_path: Path, tiny: Path, key: str, add: Callable[[gguf.GGUFWriter, str], None]
) -> None:
    path = rewrite(tiny, tmp_path / "bad.gguf", {key: lambda writer: add(writer, key)})
    assert key in refusal(path).message


def test_notes_of_other_tools_are_let_through(tmp_path: Path, tiny: Path) -> None:
    notes = {
        "tool.made_by": lambda writer: writer.add_string("tool.made_by", "x" * 5000),
        "general.license": lambda writer: writer.add_string("general.license", "apache-2.0"),
        "llama.expert_count": lambda writer: writer.add_uint32("llama.expert_count", 0),
    }
    load(rewrite(tiny, tmp_path / "noted.gguf", notes)).close()


@pytest.mark.parametrize("kind", [KIND for KIND in gguf.GGMLQuantizationType if KIND not in KINDS])
def test_weights_in_a_type_that_is_not_computed_with_are_refused(
    tmp_path: Path, kind: gguf.GGMLQuantizationType
) -> None:
    path = tmp_path / "kind.gguf"
    whole = fuzzed.model(n_embd=256, n_ff=256, kinds=lambda name: kind if name == "token_embd" else 0)
    path.write_bytes(whole.encoded())
    message = refusal(path).message
    assert "token_embd" in message or "too early" in message


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_weights_in_every_published_type_are_loaded(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "kind.gguf"
    path.write_bytes(fuzzed.model(n_embd=256, n_ff=256, kinds=lambda _name: kind).encoded())
    model = load(path, Settings(context_length=64, threads=1))
    assert len(list(islice(model.generate([1, 300], GREEDY), 3))) == 3
    model.close()


def test_norms_in_anything_but_floats_are_refused(tmp_path: Path, tiny: Path) -> None:
    content = tiny.read_bytes()
    name = b"blk.1.ffn_norm.weight"
    at = content.index(name) + len(name) + 4 + 8
    assert content[at : at + 4] == bytes(4)
    path = tmp_path / "norm.gguf"
    path.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    assert "ffn_norm" in refusal(path).message


def test_a_name_of_megabytes_is_cut_in_messages(tmp_path: Path, tiny: Path) -> None:
    content = tiny.read_bytes()
    key = b"general.name"
    at = content.index(key) + len(key) + 4
    path = tmp_path / "name.gguf"
    path.write_bytes(content[: at + 2] + b"\x0f" + content[at + 3 :])  # its length, now 983,044
    assert len(refusal(path).message) < 500


def test_a_pipe_in_place_of_a_model_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    refusal(tmp_path / "pipe.gguf")


def test_a_model_in_parts_is_one_model(tmp_path: Path, tiny: Path) -> None:
    parts = split(tiny, tmp_path, 3)
    whole, joined = load(tiny), load(parts[1])
    assert list(islice(joined.generate(PROMPT, GREEDY), 8)) == list(islice(whole.generate(PROMPT, GREEDY), 8))
    assert joined.facts.file_bytes == whole.facts.file_bytes
    whole.close()
    joined.close()
    parts[2].rename(tmp_path / "kept")
    assert parts[2].name in refusal(parts[0]).message
    parts[1].rename(parts[2])
    (tmp_path / "kept").rename(parts[1])
    assert "another part" in refusal(parts[0]).message


def test_weights_that_are_no_numbers_are_an_error(tmp_path: Path, tiny: Path) -> None:
    content = bytearray(tiny.read_bytes())
    path = tmp_path / "nan.gguf"
    reader = gguf.GGUFReader(tiny)
    norm = next(tensor for tensor in reader.tensors if tensor.name == "output_norm.weight")
    start = int(norm.data_offset)
    content[start : start + 1024] = b"\xff" * 1024
    path.write_bytes(content)
    model = load(path)
    with pytest.raises(EngineError, match="damaged"):
        next(token_ids(model.generate([1, 300], SamplingOptions(temperature=0.5, seed=1))))
    model.close()


def test_too_big_for_the_memory_is_refused_before_loading(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Machine(ram_bytes=10**8, available_ram_bytes=5 * 10**7, physical_cores=1)
    monkeypatch.setattr(llama_plan, "inspect_machine", lambda _environ: small)
    monkeypatch.setattr(llama_cpp, "Model", None)
    error = refusal(tiny)
    assert "tiny" in error.message
    assert "50.0 MB" in error.message


def test_facts_of_the_tiny_model(tiny: Path) -> None:
    facts = model_facts(read_gguf(tiny))
    assert (facts.n_vocab, facts.n_layer, facts.n_embd) == (TINY.n_vocab, TINY.n_layer, TINY.n_embd)
    assert (facts.n_head, facts.n_kv_head, facts.head_dim) == (4, 2, 64)
    assert (facts.bos_id, facts.eos_id, facts.n_ctx_train) == (1, 2, 2048)
    assert facts.name == "Tiny"
    assert facts.embedding_bytes == TINY.n_vocab * TINY.n_embd * 4
    assert facts.file_bytes == facts.embedding_bytes + sum(facts.layer_bytes) + facts.output_bytes


def test_gpu_layers_follow_the_free_memory(tiny: Path) -> None:
    facts = model_facts(read_gguf(tiny))

    def layers(*free: int) -> int:
        return gpu_layers_that_fit(facts, free_bytes=free, context_length=512, kv_type="f16", n_batch=512)

    assert layers() == layers(0) == layers(10**8) == 0
    assert layers(10**10) == all_layers(facts) == 3
    counts = [layers(600_000_000 + room) for room in range(0, 30_000_000, 500_000)]
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}
    for count in (1, 2, 3):
        needs = forecast(facts, context_length=512, kv_type="f16", n_batch=512, gpu_layers=count)
        assert layers(600_000_000 + needs.gpu_bytes) == count
        assert layers(600_000_000 + needs.gpu_bytes - 1) == count - 1


def test_tokenizer_needs_real_scores(tmp_path: Path, tiny: Path) -> None:
    metadata = read_gguf(tiny).metadata
    assert tokenizer_from_metadata(metadata) is not None
    scores = metadata["tokenizer.ggml.scores"]
    assert isinstance(scores, list)
    placeholders = (
        [-1000.0] * len(scores),
        [-float(rank) for rank in range(len(scores))],
        [float("nan")] * 1024,
    )
    for wrong in (*placeholders, scores[:-1], []):
        assert tokenizer_from_metadata({**metadata, "tokenizer.ggml.scores": wrong}) is None
    assert tokenizer_from_metadata({}) is None


def test_load_with_a_header_that_was_read_already(tiny: Path) -> None:
    model = LocalModel(name="tiny", format="gguf", path=tiny)
    loaded = load_llama_cpp(
        model, Settings(threads=1, engine=ENGINE), debug=False, facts=model_facts(read_gguf(tiny))
    )
    assert loaded.info.model == "tiny"
    assert loaded.info.device == "CPU"
    loaded.close()
