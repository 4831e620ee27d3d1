"""The synthetic model: its vocabulary and tokenizer.json fit each other, its weights are sane."""

from itertools import islice
from pathlib import Path

from scripts.make_synthetic_gguf import Shape, make_tokenizer, make_vocabulary, write_model
from tanuki_cli.engines.llama_cpp.facts import model_facts
from tanuki_cli.engines.llama_cpp.gguf import read_gguf
from tanuki_cli.engines.llama_cpp.vocabulary import tokenizer_from_metadata
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer
from tests.support.llama_models import GREEDY, load

TEXTS = (
    "たぬきは日本の昔話によく出てくる動物です。\n",
    "ＡＢＣ ﾊﾝｶｸ Hello, world! 12345 </s> <0x41> ＜／ｓ＞",
    "躊躇 醍醐 𠮷 😊 　",
    "",
)


def test_tokenizer_json_equals_the_one_in_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    write_model(path, Shape(n_embd=256, n_ff=256, n_layer=2, n_head=4, n_kv_head=2), seed=3)
    gguf = read_gguf(path)
    facts = model_facts(gguf)
    assert (facts.n_vocab, facts.n_ctx_train) == (65024, 8192)
    inside = tokenizer_from_metadata(gguf.metadata)
    assert inside is not None
    beside = make_tokenizer(make_vocabulary(65000))
    assert inside.to_str() == beside.to_str()
    tokenizer = ChatTokenizer(inside, bos_id=facts.bos_id, eos_id=facts.eos_id, vocab_size=facts.n_vocab)
    verify_tokenizer(tokenizer)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert not {*range(8), *range(9, 13)} & set(ids)
    model = load(path)
    ids = list(islice(token_ids(model.generate([1, *tokenizer.encode(TEXTS[0])], GREEDY)), 20))
    assert len(ids) == 20
    model.close()


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    shape = Shape(n_embd=256, n_ff=256, n_layer=1, n_head=2, n_kv_head=1, n_vocab=512, n_pieces=500)
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_model(tmp_path / name, shape, seed=seed)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_default_shape_is_tanuki_8b() -> None:
    shape = Shape()
    kv_width = shape.n_embd // shape.n_head * shape.n_kv_head
    per_layer = (
        2 * shape.n_embd**2 + 2 * shape.n_embd * kv_width + 3 * shape.n_embd * shape.n_ff + 2 * shape.n_embd
    )
    parameters = shape.n_layer * per_layer + 2 * shape.n_vocab * shape.n_embd + shape.n_embd
    assert round(parameters / 1e9, 2) == 7.51
