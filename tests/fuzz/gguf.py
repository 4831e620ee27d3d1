"""GGUF mutants: what they say is changed key by key and tensor by tensor, and their bytes at random.

A part of them is whole and consistent: models of every geometry and of every type of weights that the
admission lets through, with random bytes for weights. Those must run, or say in a sentence why not.

    python -m tests.fuzz.gguf --count 3000 --seed 1
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf

from scripts.make_synthetic_gguf import CONTROLS, make_vocabulary
from tests.fuzz.harness import flip_bits, main, numbers, spoil_bytes
from tests.support.llama_models import ENGINE

if TYPE_CHECKING:
    from tanuki_cli.catalog import LocalModel

Kind = gguf.GGMLQuantizationType
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# Settings of other models of llama.cpp's, which mean nothing, or harm, in one of this kind.
FOREIGN = (
    "expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count",
    "nextn_predict_layers", "attention.sliding_window", "attention.causal", "attention.key_length_swa",
    "attention.value_length_swa", "rope.dimension_count_swa", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.attn_factor", "rope.scale_linear", "pooling_type",
    "classifier.output_labels", "embedding_length_out", "attention.key_length", "attention.value_length",
    "rope.dimension_count", "attention.scale", "logit_scale", "leading_dense_block_count",
)  # fmt: skip
TYPES = tuple(Kind)
_SMALL_SCALES = bytes(byte & 0x3F for byte in range(256))


@dataclass(frozen=True)
class Key:
    name: str
    kind: int
    value: Any
    item_kind: int = 0

    def encoded(self) -> bytes:
        head = _text(self.name) + struct.pack("<I", self.kind & 0xFFFFFFFF)
        if self.kind == ARRAY:
            items = b"".join(_scalar(self.item_kind, item) for item in self.value)
            return head + struct.pack("<IQ", self.item_kind, len(self.value)) + items
        return head + _scalar(self.kind, self.value)


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int
    nbytes: int
    offset: int | None = None


@dataclass(frozen=True)
class Whole:
    keys: tuple[Key, ...]
    tensors: tuple[Tensor, ...]
    alignment: int = 32
    seed: int = 0
    tame: bool = field(default=True, kw_only=True)
    """Weights that are small numbers, so that the model computes; otherwise any bytes."""

    def header(self) -> bytes:
        parts = [b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))]
        parts += [key.encoded() for key in self.keys]
        position = 0
        for tensor in self.tensors:
            offset = position if tensor.offset is None else tensor.offset
            dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            parts.append(_text(tensor.name) + dims + struct.pack("<IQ", tensor.kind, offset))
            position += _padded(tensor.nbytes, self.alignment)
        head = b"".join(parts)
        return head.ljust(_padded(len(head), self.alignment), b"\0")

    def encoded(self) -> bytes:
        random_ = random.Random(self.seed)
        return self.header() + b"".join(
            _weights(random_, tensor, tame=self.tame).ljust(_padded(tensor.nbytes, self.alignment), b"\0")
            for tensor in self.tensors
        )


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(data)) + data


def _scalar(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(str(value))
    form = FORMATS.get(kind, "I")
    if form in "fd":
        return struct.pack("<" + form, float(value))
    size = struct.calcsize("<" + form)
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment if alignment > 0 else size


def _weights(random_: random.Random, tensor: Tensor, *, tame: bool) -> bytes:
    size = min(tensor.nbytes, 1 << 22)
    data = random_.randbytes(size)
    return data.translate(_SMALL_SCALES) if tame else data


def _nbytes(shape: tuple[int, ...], kind: int) -> int:
    block, size = gguf.GGML_QUANT_SIZES[Kind(kind)]
    count = 1
    for width in shape:
        count *= width
    return count // block * size


@lru_cache
def _tokenizer_keys(n_vocab: int) -> tuple[Key, ...]:
    vocabulary = make_vocabulary(min(n_vocab, 600))
    types = [
        3 if piece in CONTROLS else 6 if index < 269 else 1 for index, (piece, _) in enumerate(vocabulary)
    ]
    types[0] = 2
    padding = n_vocab - len(vocabulary)
    return (
        Key("tokenizer.ggml.model", STRING, "llama"),
        Key(
            "tokenizer.ggml.tokens",
            ARRAY,
            [p for p, _ in vocabulary] + [f"[P{i}]" for i in range(padding)],
            STRING,
        ),
        Key("tokenizer.ggml.scores", ARRAY, [score for _, score in vocabulary] + [-1000.0] * padding, 6),
        Key("tokenizer.ggml.token_type", ARRAY, types + [5] * padding, 5),
        Key("tokenizer.ggml.bos_token_id", 4, 1),
        Key("tokenizer.ggml.eos_token_id", 4, 2),
        Key("tokenizer.ggml.add_bos_token", 7, 0),
    )


def model(
    *,
    n_embd: int = 64,
    n_ff: int = 96,
    n_layer: int = 2,
    n_head: int = 2,
    n_kv_head: int = 1,
    n_vocab: int = 608,
    kinds: Callable[[str], int] = lambda _name: Kind.F32,
    tied: bool = False,
    context: int = 256,
) -> Whole:
    """A whole model; ``kinds`` chooses the type of each matrix by its name."""
    head_dim = n_embd // n_head
    kv_width = head_dim * n_kv_head
    keys = (
        Key("general.architecture", STRING, "llama"),
        Key("general.name", STRING, "Fuzz"),
        Key("general.file_type", 4, 0),
        Key("llama.context_length", 4, context),
        Key("llama.embedding_length", 4, n_embd),
        Key("llama.block_count", 4, n_layer),
        Key("llama.feed_forward_length", 4, n_ff),
        Key("llama.attention.head_count", 4, n_head),
        Key("llama.attention.head_count_kv", 4, n_kv_head),
        Key("llama.attention.layer_norm_rms_epsilon", 6, 1e-5),
        Key("llama.rope.freq_base", 6, 500000.0),
        Key("llama.rope.dimension_count", 4, head_dim),
        Key("llama.vocab_size", 4, n_vocab),
        *_tokenizer_keys(n_vocab),
    )
    matrices = [("token_embd", n_embd, n_vocab)]
    norms = ["output_norm"]
    if not tied:
        matrices.append(("output", n_embd, n_vocab))
    for index in range(n_layer):
        prefix = f"blk.{index}."
        norms += [prefix + "attn_norm", prefix + "ffn_norm"]
        matrices += [
            (prefix + name, columns, rows)
            for name, columns, rows in (
                ("attn_q", n_embd, n_embd), ("attn_k", n_embd, kv_width), ("attn_v", n_embd, kv_width),
                ("attn_output", n_embd, n_embd), ("ffn_gate", n_embd, n_ff), ("ffn_up", n_embd, n_ff),
                ("ffn_down", n_ff, n_embd),
            )
        ]  # fmt: skip
    tensors = [Tensor(f"{name}.weight", (n_embd,), Kind.F32, 4 * n_embd) for name in norms]
    for name, columns, rows in matrices:
        kind = int(kinds(name))
        if columns % gguf.GGML_QUANT_SIZES[Kind(kind)][0]:
            kind = int(Kind.F32)
        tensors.append(Tensor(f"{name}.weight", (columns, rows), kind, _nbytes((columns, rows), kind)))
    return Whole(keys, tuple(tensors))


@lru_cache
def bases() -> tuple[Whole, ...]:
    return (
        model(),
        model(tied=True, kinds=lambda _name: Kind.Q8_0),
        model(
            n_embd=256,
            n_ff=256,
            n_head=4,
            n_kv_head=2,
            kinds=lambda name: Kind.Q6_K if "v" in name else Kind.Q4_K,
        ),
    )


def make(random_: random.Random, path: Path) -> str:
    """One mutant."""
    name, mutate = random_.choice(MUTATIONS)
    data = mutate(random_)
    path.write_bytes(data)
    return name


def _base(random_: random.Random) -> Whole:
    return random_.choice(bases())


def _value(random_: random.Random, key: Key) -> Any:
    if key.kind == STRING:
        return random_.choice(("", "x" * 5000, "yarn", "longrope", "\udcff", "\0", key.value + "a"))
    if key.kind == ARRAY:
        return random_.choice(
            ([], key.value[:-1], [*key.value, *key.value[:1]], key.value[::-1], key.value * 2)
        )
    number = random_.choice([*numbers(), int(key.value) + 1, int(key.value) - 1, int(key.value) * 2])
    if key.kind in (6, 12):
        return random_.choice((float(number), -1.0, 0.0, float("nan"), float("inf"), 1e-45, 3e38))
    return number


def _change_key(random_: random.Random) -> bytes:
    base = _base(random_)
    keys = list(base.keys)
    index = random_.randrange(len(keys))
    key = keys[index]
    action = random_.randrange(6)
    if action == 0:
        del keys[index]
    elif action == 1:
        keys.append(replace(key, value=_value(random_, key)))
    elif action == 2 and key.kind not in (STRING, ARRAY):
        keys[index] = replace(key, kind=random_.choice((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 255)))
    elif action == 3 and key.kind not in (STRING, ARRAY):
        keys[index] = Key(key.name, ARRAY, [key.value] * random_.choice((0, 1, 2, 600)), key.kind)
    else:
        keys[index] = replace(key, value=_value(random_, key))
    return replace(base, keys=tuple(keys)).encoded()


def _foreign_key(random_: random.Random) -> bytes:
    base = _base(random_)
    number = random_.choice([*numbers(), 1, 1, 2, 8])
    kind = random_.choice((4, 4, 4, 5, 6, 7, 2, 10))
    key = Key(f"llama.{random_.choice(FOREIGN)}", kind, number)
    if random_.random() < 0.2:
        key = replace(key, kind=STRING, value=random_.choice(("yarn", "longrope", "none", "linear", "?")))
    return replace(base, keys=(*base.keys, key)).encoded()


def _change_tensor(random_: random.Random) -> bytes:
    base = _base(random_)
    tensors = list(base.tensors)
    index, other = random_.randrange(len(tensors)), random_.randrange(len(tensors))
    tensor = tensors[index]
    action = random_.randrange(9)
    if action <= 2:  # another type, with as many bytes as that takes, so that all else is right
        kind = random_.choice(TYPES)
        tensors[index] = replace(tensor, kind=int(kind), nbytes=_nbytes(tensor.shape, kind))
    elif action == 3:
        tensors[index] = replace(tensor, kind=random_.choice([*range(64), 255, 1 << 31, (1 << 32) - 1]))
    elif action == 4:
        sizes = list(tensor.shape)
        sizes[random_.randrange(len(sizes))] = random_.choice([*numbers(), 0, tensor.shape[0] * 2])
        tensors[index] = replace(tensor, shape=tuple(sizes))
    elif action == 5:
        shape = tensor.shape
        shapes: list[tuple[int, ...]] = [shape[::-1], (*shape, 1), (1, *shape), shape[:1]]
        tensors[index] = replace(tensor, shape=random_.choice(shapes))
    elif action == 6:
        tensors[index] = replace(
            tensor, name=random_.choice((tensors[other].name, "x", "n" * 70, "blk.99.x"))
        )
    elif action == 7:
        tensors[index], tensors[other] = (
            replace(tensor, name=tensors[other].name), replace(tensors[other], name=tensor.name)
        )  # fmt: skip
    else:
        tensors[index] = replace(tensor, offset=random_.choice([*numbers(), 32, 64, 4096]))
    if random_.random() < 0.1:
        del tensors[random_.randrange(len(tensors))]
    return replace(base, tensors=tuple(tensors)).encoded()


def _alignment(random_: random.Random) -> bytes:
    base = _base(random_)
    alignment = random_.choice((1, 2, 4, 8, 16, 31, 32, 33, 64, 128, 1024, 4096, 1 << 17, 0, (1 << 32) - 1))
    keys = (*base.keys, Key("general.alignment", 4, alignment))
    return replace(base, keys=keys, alignment=alignment if 0 < alignment < 1 << 16 else 32).encoded()


def _whole(random_: random.Random) -> bytes:
    """A consistent model of any geometry and any types."""
    heads = random_.choice((1, 2, 3, 4, 8))
    width = heads * random_.choice((2, 4, 6, 10, 16, 32, 34, 64, 80, 128, 256))
    allowed = [kind for kind in TYPES if kind in gguf.GGML_QUANT_SIZES]
    chosen = random_.choices(allowed, k=random_.choice((1, 1, 3)))
    head_divisors = [count for count in range(1, heads + 1) if heads % count == 0]
    whole = model(
        n_embd=width,
        n_ff=random_.choice((2, 32, 96, 256, 512, 33)),
        n_layer=random_.choice((1, 2, 3, 7)),
        n_head=heads,
        n_kv_head=random_.choice(head_divisors),
        n_vocab=random_.choice((300, 600, 1024, 1009)),
        kinds=lambda _name: random_.choice(chosen),
        tied=random_.random() < 0.3,
        context=random_.choice((1, 2, 16, 32, 256, 8192, 1 << 20)),
    )
    return replace(whole, seed=random_.getrandbits(32), tame=random_.random() < 0.5).encoded()


def _weights_changed(random_: random.Random) -> bytes:
    base = _base(random_)
    head, data = base.header(), bytearray(base.encoded())
    for _index in range(random_.choice((1, 4, 64))):
        at = random_.randrange(len(head), len(data) - 8)
        data[at : at + 4] = random_.choice((b"\xff" * 4, b"\x7f\x80\0\0"[::-1], b"\x7f\x7f\xff\xff"[::-1]))
    return bytes(data)


def _flipped(random_: random.Random) -> bytes:
    base = _base(random_)
    return flip_bits(random_, base.encoded(), below=len(base.header()))


def _flipped_infos(random_: random.Random) -> bytes:
    """The same among the tensors' names, shapes and types: they are small beside a vocabulary."""
    base = _base(random_)
    data, head = base.encoded(), len(base.header())
    infos = head - len(replace(base, keys=()).header()) + 24
    return data[:infos] + flip_bits(random_, data[infos:head]) + data[head:]


def _flipped_keys(random_: random.Random) -> bytes:
    base = _base(random_)
    return flip_bits(random_, base.encoded(), below=600)


def _spoiled(random_: random.Random) -> bytes:
    base = _base(random_)
    return spoil_bytes(random_, base.encoded(), below=random_.choice((600, len(base.header()), None)))


def _spliced(random_: random.Random) -> bytes:
    one, other = (_base(random_).encoded() for _index in range(2))
    at = random_.randrange(min(len(one), len(other)))
    return one[:at] + other[at:]


MUTATIONS = (
    ("a key changed", _change_key),
    ("a setting of another model", _foreign_key),
    ("a tensor changed", _change_tensor),
    ("a tensor changed", _change_tensor),
    ("another alignment", _alignment),
    ("a whole model", _whole),
    ("a whole model", _whole),
    ("weights changed", _weights_changed),
    ("bits flipped", _flipped),
    ("bits flipped among the tensors", _flipped_infos),
    ("bits flipped among the keys", _flipped_keys),
    ("bytes spoiled", _spoiled),
    ("two files spliced", _spliced),
)


def attempt(path: Path) -> str:
    """Load the file and let it compute, whether it has a tokenizer that fits or not."""
    from tanuki_cli.catalog import LocalModel
    from tanuki_cli.engines.llama_cpp.facts import model_facts, without_vocabulary
    from tanuki_cli.engines.llama_cpp.gguf import read_gguf
    from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
    from tanuki_cli.engines.llama_cpp.native import Model, start
    from tanuki_cli.engines.llama_cpp.vocabulary import tokenizer_from_metadata
    from tanuki_cli.errors import DamagedModelError
    from tanuki_cli.sampling import SamplingOptions
    from tanuki_cli.settings.values import Settings

    target = LocalModel(name="mutant", format="gguf", path=path)
    try:
        header = read_gguf(path)
        facts = model_facts(header)
        tokenizer_from_metadata(header.metadata)
        settings = Settings(context_length=min(64, facts.n_ctx_train), threads=1, engine=ENGINE)
        start(debug=False)
        if path.stat().st_size % 3 == 0:  # as it is loaded where repacked weights run faster
            Model(path, gpu_layers=0, repack=True, metadata=without_vocabulary(facts)).close()
        loaded = load_llama_cpp(target, settings, debug=False, facts=facts)
        try:
            prompt = [facts.bos_id, *(index * 7 % facts.n_vocab for index in range(20))]
            prompt = prompt[: max(1, settings.context_length - 4)] if settings.context_length else prompt
            options = SamplingOptions(temperature=0.8, top_p=0.95, top_k=0, seed=1)
            count = len(list(islice(loaded.generate(prompt, options), 3)))
        finally:
            loaded.close()
    except DamagedModelError as exc:
        exc.hint = exc.hint or target.get_again
        raise
    if path.stat().st_size % 3 == 1:
        return _through_the_door(target)
    return "runs" if count else "runs, no room"


def _through_the_door(target: "LocalModel") -> str:
    """As ``tanuki ask`` uses a model, its own tokenizer included."""
    from tanuki_cli.conversation import Message
    from tanuki_cli.engines.opening import open_engine
    from tanuki_cli.sampling import SamplingOptions
    from tanuki_cli.settings.values import Settings

    engine = open_engine(target, Settings(threads=1, engine=ENGINE))
    try:
        options = SamplingOptions(temperature=0.5, max_new_tokens=3, seed=1)
        for _chunk in engine.stream([Message("user", "たぬき")], options):
            pass
    finally:
        engine.close()
    return "answers"


if __name__ == "__main__":
    main((("tests.fuzz.gguf", ".gguf", make),), __doc__ or "")
