"""Write a GGUF of Tanuki-8B's exact shape with random weights, and the tokenizer.json that fits it.

For memory and speed work only: what it says is noise. Q4_K_M with the mix of types that llama.cpp's
own quantiser chooses (4.2 GiB, under a minute); never in git.

    python scripts/make_synthetic_gguf.py /somewhere/synthetic
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice, product
from pathlib import Path
from typing import Final, Literal, cast

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from msgspec import Struct
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import Unigram

Quantization = Literal["Q4_K_M", "F32"]
Tensor = tuple[str, int, int, Type]
Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

CONTROLS: Final = (
    "<unk>", "<s>", "</s>", "<pad>", "<CLS>", "<SEP>", "<EOD>", "<MASK>", "\n",
    "<llm-code>", "</llm-code>", "<llm-code-output>", "</llm-code-output>",
)  # fmt: skip
SPECIAL: Final = CONTROLS[:3]
WEIGHT_STD: Final = 0.02
ALIGNMENT: Final = gguf.GGUF_DEFAULT_ALIGNMENT
_MAX_POOL_BLOCKS: Final = 1 << 18


class Shape(Struct, frozen=True, kw_only=True):
    """A Llama model's shape; the defaults are Tanuki-8B's. ``n_pieces`` of ``n_vocab`` rows are used."""

    n_embd: int = 4096
    n_ff: int = 14336
    n_layer: int = 32
    n_head: int = 32
    n_kv_head: int = 8
    n_vocab: int = 65024
    n_pieces: int = 65000
    n_ctx_train: int = 8192


def make_vocabulary(n_pieces: int) -> list[tuple[str, float]]:
    """Pieces with scores as SentencePiece gives them: controls, the 256 bytes, then text.

    Japanese text is cut into pairs of kana, and kanji with the kana that often follows, so that token
    counts are lifelike.
    """
    hiragana = [chr(code) for code in range(0x3041, 0x3094)]
    katakana = [chr(code) for code in [*range(0x30A1, 0x30F5), 0x30FC]]
    kanji = [chr(code) for code in range(0x4E00, 0x9FA0) if _is_common(chr(code))]
    signs = list("▁、。「」『』・…ー!?\"#$%&'()*+,-./:;<=>@[\\]^_`{|}~")
    letters = [chr(code) for code in chain(range(0x30, 0x3A), range(0x41, 0x5B), range(0x61, 0x7B))]
    latin = letters[36:]
    singles = chain(signs, hiragana, katakana, letters, kanji)
    longer = chain(
        map("".join, product(hiragana, hiragana)),
        map("".join, product(latin, latin)),
        map("".join, product(kanji, "のにをはがでといりるしさ")),
        map("".join, product(latin, latin, latin)),
        map("".join, product(katakana, katakana)),
    )
    heads = [*CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256))]
    texts = islice(dict.fromkeys(chain(singles, longer)), max(0, n_pieces - len(heads)))
    vocabulary = [(piece, 0.0) for piece in heads]
    # GGUF keeps scores in single precision; tokenizer.json must hold the same numbers.
    vocabulary += [
        (piece, float(np.float32(-8.001 - 1.5 * rank / n_pieces))) for rank, piece in enumerate(texts)
    ]
    return vocabulary


def _is_common(kanji: str) -> bool:
    """Whether it is of the first level of JIS X 0208: the 2,965 kanji in daily use."""
    code = kanji.encode("euc_jp", errors="ignore")
    return len(code) == 2 and 0xB0 <= code[0] <= 0xCF


def make_tokenizer(vocabulary: list[tuple[str, float]]) -> Tokenizer:
    """A tokenizer of the same kind as Tanuki's over ``vocabulary``."""
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_tokens(
        [AddedToken(piece, normalized=False, special=piece in SPECIAL) for piece in CONTROLS]
    )
    return tokenizer


def _token_type(index: int) -> int:
    if index == 0:
        return int(gguf.TokenType.UNKNOWN)
    if index < len(CONTROLS):
        return int(gguf.TokenType.CONTROL if CONTROLS[index] in SPECIAL else gguf.TokenType.USER_DEFINED)
    return int(gguf.TokenType.BYTE if index < len(CONTROLS) + 256 else gguf.TokenType.NORMAL)


def write_model(
    path: Path, shape: Shape, *, quantization: Quantization = "Q4_K_M", seed: int = 0, name: str = "Synthetic"
) -> None:
    """Write the GGUF; the same arguments give the same bytes."""
    tensors = list(_tensors(shape, quantization))
    writer = _write_header(path, shape, tensors, quantization=quantization, name=name)
    largest = max(rows * columns for _name, rows, columns, _kind in tensors)
    weights = _RandomWeights(seed, pool_blocks=min(_MAX_POOL_BLOCKS, largest // 256))
    for _name, rows, columns, kind in tensors:
        writer.write_tensor_data(weights.tensor(rows, columns, kind))
    writer.close()


def write_hollow_model(path: Path, shape: Shape) -> None:
    """As :func:`write_model`, but with a hole for weights: all zero, and no disk is taken."""
    tensors = list(_tensors(shape, "Q4_K_M"))
    writer = _write_header(path, shape, tensors, quantization="Q4_K_M", name="Hollow")
    writer.close()
    sizes = (rows * _row_bytes(columns, kind) for _name, rows, columns, kind in tensors)
    align = writer.ggml_pad
    os.truncate(path, align(path.stat().st_size, ALIGNMENT) + sum(align(size, ALIGNMENT) for size in sizes))


def _write_header(
    path: Path, shape: Shape, tensors: Sequence[Tensor], *, quantization: Quantization, name: str
) -> gguf.GGUFWriter:
    """Write all but the weights of ``tensors``; the writer goes on with these."""
    writer = gguf.GGUFWriter(path, "llama")
    vocabulary = make_vocabulary(shape.n_pieces)
    padding = [f"[PAD{index}]" for index in range(len(vocabulary), shape.n_vocab)]
    writer.add_name(name)
    writer.add_context_length(shape.n_ctx_train)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_kv_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_vocab_size(shape.n_vocab)
    is_q4 = quantization == "Q4_K_M"
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q4_K_M if is_q4 else gguf.LlamaFileType.ALL_F32))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _score in vocabulary] + padding)
    writer.add_token_scores([score for _piece, score in vocabulary] + [-1000.0] * len(padding))
    types = [_token_type(index) for index in range(len(vocabulary))]
    writer.add_token_types(types + [int(gguf.TokenType.UNUSED)] * len(padding))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    for tensor_name, rows, columns, kind in tensors:
        nbytes = rows * _row_bytes(columns, kind)
        dimensions = (columns,) if rows == 1 else (rows, columns)
        writer.add_tensor_info(tensor_name, dimensions, np.dtype(np.float32), nbytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return writer


def _row_bytes(columns: int, kind: Type) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return columns // block * size


def _tensors(shape: Shape, quantization: Quantization) -> Iterator[Tensor]:
    """Name, rows, columns and type of each, in the file's order; one row is a norm."""
    kv_width = shape.n_embd // shape.n_head * shape.n_kv_head
    small, large = (Type.Q4_K, Type.Q6_K) if quantization == "Q4_K_M" else (Type.F32, Type.F32)
    yield "token_embd.weight", shape.n_vocab, shape.n_embd, small
    eighth = shape.n_layer // 8
    for index in range(shape.n_layer):
        # llama.cpp's quantiser spends more bits on the first and last layers and on every third.
        more = index < eighth or index >= 7 * shape.n_layer // 8 or (index - eighth) % 3 == 2
        prefix = f"blk.{index}."
        yield prefix + "attn_norm.weight", 1, shape.n_embd, Type.F32
        yield prefix + "attn_q.weight", shape.n_embd, shape.n_embd, small
        yield prefix + "attn_k.weight", kv_width, shape.n_embd, small
        yield prefix + "attn_v.weight", kv_width, shape.n_embd, large if more else small
        yield prefix + "attn_output.weight", shape.n_embd, shape.n_embd, small
        yield prefix + "ffn_norm.weight", 1, shape.n_embd, Type.F32
        yield prefix + "ffn_gate.weight", shape.n_ff, shape.n_embd, small
        yield prefix + "ffn_up.weight", shape.n_ff, shape.n_embd, small
        yield prefix + "ffn_down.weight", shape.n_embd, shape.n_ff, large if more else small
    yield "output_norm.weight", 1, shape.n_embd, Type.F32
    yield "output.weight", shape.n_vocab, shape.n_embd, large


class _RandomWeights:
    """Blocks drawn from a pool of random ones: making gigabytes of fresh ones would take minutes."""

    def __init__(self, seed: int, *, pool_blocks: int) -> None:
        self._random = np.random.default_rng(seed)
        self._pool_blocks = pool_blocks
        self._pools: dict[Type, Bytes] = {}

    def tensor(self, rows: int, columns: int, kind: Type) -> Bytes:
        if rows == 1:
            return np.ones(columns, dtype=np.float32).view(np.uint8)
        if kind == Type.F32:
            values = self._random.standard_normal((rows, columns), dtype=np.float32)
            return (values * np.float32(WEIGHT_STD)).view(np.uint8)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        pool = self._pools.setdefault(kind, self._pool(kind))
        count = rows * columns // block
        start = int(self._random.integers(len(pool)))
        picks: Bytes = np.resize(np.roll(pool, -start, axis=0), (count, size))
        return cast("Bytes", picks.reshape(rows, -1))

    def _pool(self, kind: Type) -> Bytes:
        """Random quants with scales that give a mean of about 0 and the standard deviation wanted."""
        blocks = self._random.integers(
            0, 256, (self._pool_blocks, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8
        )
        if kind == Type.Q4_K:  # d, dmin, 8 scales and 8 minima of 6 bits, 256 quants of 4 bits
            unit = WEIGHT_STD / (32 * 4.61)
            blocks[:, 0:4] = np.array([unit, 7.5 * unit], dtype=np.float16).view(np.uint8)
            blocks[:, 4:16] = [160] * 8 + [0] * 4  # all scales and minima are 32
        elif kind == Type.Q6_K:  # low 4 bits, high 2 bits, 16 scales of 8 bits, d
            unit = WEIGHT_STD / (16 * 18.47)
            blocks[:, 192:208] = 16
            blocks[:, 208:210] = np.array([unit], dtype=np.float16).view(np.uint8)
        else:
            raise ValueError(f"no pool for {kind}")
        return blocks


def main() -> None:
    """Write the model and its tokenizer into a directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path, help="where synthetic-8b-q4_k_m.gguf and tokenizer.json go")
    parser.add_argument("--layers", type=int, default=Shape().n_layer, help="fewer layers for a smaller file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    path = arguments.directory / "synthetic-8b-q4_k_m.gguf"
    started = time.monotonic()
    shape = Shape(n_layer=arguments.layers)
    write_model(path, shape, seed=arguments.seed, name="Synthetic 8B")
    make_tokenizer(make_vocabulary(shape.n_pieces)).save(str(arguments.directory / "tokenizer.json"))
    seconds = time.monotonic() - started
    print(f"{path}: {path.stat().st_size / 2**30:.2f} GiB in {seconds:.0f} s")


if __name__ == "__main__":
    main()
