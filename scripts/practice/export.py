"""Writes the practice model as GGUF. Needs numpy, gguf and tokenizers, no torch."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]  # under transformers' names

NAME = "mame 豆だぬき (practice)"
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def gguf_name(name: str) -> str:
    """The GGUF name of a weight with the given name in transformers."""
    if name in _OUTER_NAMES:
        return _OUTER_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def interleave(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a query or key weight, from transformers' half-split rotary order to llama.cpp's,
    in which the two values of a rotated pair are neighbours."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2)
    return np.asarray(pairs.reshape(rows, columns))


def halves(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The way back from `interleave`."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2)
    return np.asarray(pairs.reshape(rows, columns))


def write_gguf(
    path: Path,
    weights: Weights,
    config: dict[str, Any],
    tokenizer: dict[str, Any],
    kind: gguf.GGMLQuantizationType,
) -> None:
    """Writes the model with its matrices as `kind` (F32, F16 or Q8_0) and its norms as F32."""
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, config, kind)
    _add_vocabulary(writer, tokenizer, config["vocab_size"])
    for name, weight in weights.items():
        if "q_proj" in name:
            weight = interleave(weight, config["num_attention_heads"])
        elif "k_proj" in name:
            weight = interleave(weight, config["num_key_value_heads"])
        stored = gguf.GGMLQuantizationType.F32 if weight.ndim == 1 else kind
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(weight, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any], kind: gguf.GGMLQuantizationType) -> None:
    writer.add_name(NAME)
    writer.add_description("A tiny model for practice and tests; it knows only what it was taught.")
    writer.add_license("apache-2.0")
    writer.add_languages(["ja", "en"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    types = gguf.GGMLQuantizationType
    file_types = {
        types.F32: gguf.LlamaFileType.ALL_F32,
        types.F16: gguf.LlamaFileType.MOSTLY_F16,
        types.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    }
    writer.add_file_type(file_types[kind])


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], rows: int) -> None:
    pieces: list[list[Any]] = tokenizer["model"]["vocab"]
    normal, unused = gguf.TokenType.NORMAL, gguf.TokenType.UNUSED
    types = [_piece_type(i, piece) for i, (piece, _) in enumerate(pieces)]
    padding = [f"<pad_{i:04d}>" for i in range(1, rows - len(pieces) + 1)]
    assert types.count(normal) + 269 == len(pieces)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, _ in pieces] + padding)
    writer.add_token_scores([score for _, score in pieces] + [0.0] * len(padding))
    writer.add_token_types(types + [unused] * len(padding))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(3)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _piece_type(index: int, piece: str) -> gguf.TokenType:
    if index == 0:
        return gguf.TokenType.UNKNOWN
    if index < 4:
        return gguf.TokenType.CONTROL
    if index < 13:
        return gguf.TokenType.USER_DEFINED
    is_byte = len(piece) == 6 and piece.startswith("<0x")
    return gguf.TokenType.BYTE if is_byte else gguf.TokenType.NORMAL


def read_gguf(path: Path) -> tuple[Weights, dict[str, Any]]:
    """The weights, dequantised and under transformers' names, and a LlamaForCausalLM config."""
    reader = gguf.GGUFReader(path)
    config = _read_config(reader)
    names = [*_OUTER_NAMES]
    names += [
        f"model.layers.{i}.{part}.weight" for i in range(config["num_hidden_layers"]) for part in _LAYER_NAMES
    ]
    stored = {tensor.name: tensor for tensor in reader.tensors}
    weights: Weights = {}
    for name in names:
        tensor = stored[gguf_name(name)]
        shape = tuple(int(n) for n in reversed(tensor.shape))
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        if "q_proj" in name:
            weight = halves(weight, config["num_attention_heads"])
        elif "k_proj" in name:
            weight = halves(weight, config["num_key_value_heads"])
        weights[name] = np.ascontiguousarray(weight, dtype=np.float32)
    return weights, config


def _read_config(reader: gguf.GGUFReader) -> dict[str, Any]:
    def value(key: str) -> Any:
        field = reader.get_field(f"llama.{key}")
        if field is None:
            raise ValueError(f"the GGUF file has no llama.{key}")
        return field.contents()

    return llama_config(
        vocabulary=value("vocab_size"),
        hidden=value("embedding_length"),
        intermediate=value("feed_forward_length"),
        layers=value("block_count"),
        heads=value("attention.head_count"),
        kv_heads=value("attention.head_count_kv"),
        context_length=value("context_length"),
        rope_theta=value("rope.freq_base"),
        norm_eps=round(value("attention.layer_norm_rms_epsilon"), 9),
    )


def llama_config(
    *,
    vocabulary: int,
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int,
    context_length: int,
    rope_theta: float,
    norm_eps: float,
) -> dict[str, Any]:
    """A config.json of transformers' LlamaForCausalLM, with the keys of the published one."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": intermediate,
        "max_position_embeddings": context_length,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": norm_eps,
        "rope_scaling": None,
        "rope_theta": rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": vocabulary,
    }


def read_tokenizer(path: Path) -> dict[str, Any]:
    """The document of a tokenizer.json."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
