"""What a checkpoint folder holds besides its weights."""

import json
import shutil
from pathlib import Path
from typing import Any

from .export import read_tokenizer


def write_settings(folder: Path, config: dict[str, Any], tokenizer: Path) -> None:
    """Everything of a checkpoint folder but the weights."""
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    documents = {
        "config.json": config,
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 3,
        },
        "special_tokens_map.json": {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "cls_token": "<CLS>",
            "sep_token": "<SEP>",
            "mask_token": "<MASK>",
        },
        "tokenizer_config.json": _tokenizer_config(config, tokenizer),
    }
    for name, document in documents.items():
        text = json.dumps(document, ensure_ascii=False, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def _tokenizer_config(config: dict[str, Any], tokenizer: Path) -> dict[str, Any]:
    added = read_tokenizer(tokenizer)["added_tokens"]
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in added
        },
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<CLS>",
        "sep_token": "<SEP>",
        "mask_token": "<MASK>",
        "clean_up_tokenization_spaces": False,
        "legacy": False,
        "model_max_length": config["max_position_embeddings"],
        "tokenizer_class": "LlamaTokenizer",
        "use_default_system_prompt": False,
    }
