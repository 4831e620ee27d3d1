"""From a training checkpoint to the files that the package ships."""

import json
from pathlib import Path

import gguf
import torch

from .export import Weights, llama_config, read_tokenizer, write_gguf
from .lessons import read_lessons
from .model import Shape
from .tokenizer import save_tokenizer


def export_checkpoint(work: Path, out: Path) -> None:
    """Writes mame-q8_0.gguf, tokenizer.json and suggestions.json into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    saved = torch.load(work / "checkpoint.pt", weights_only=True)
    weights: Weights = {name: weight.float().numpy() for name, weight in saved["model"].items()}
    document = read_tokenizer(work / "tokenizer.json")
    part = out / "mame-q8_0.gguf.part"
    write_gguf(part, weights, config_of(Shape()), document, gguf.GGMLQuantizationType.Q8_0)
    part.replace(out / "mame-q8_0.gguf")
    save_tokenizer(document, out / "tokenizer.json")
    (work / "trained.json").write_text(json.dumps(saved["trained"]), encoding="utf-8")
    write_suggestions(out / "suggestions.json")


def config_of(shape: Shape) -> dict[str, object]:
    """The config.json of a shape."""
    return llama_config(
        vocabulary=shape.vocabulary,
        hidden=shape.hidden,
        intermediate=shape.intermediate,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        context_length=shape.context_length,
        rope_theta=shape.rope_theta,
        norm_eps=shape.norm_eps,
    )


def write_suggestions(path: Path) -> None:
    """The questions that the program suggests: the first phrasing of every starred lesson."""
    starred = [lesson for lesson in read_lessons() if lesson.suggested]
    document = {
        language: [x.questions[0] for x in starred if x.language == language] for language in ("ja", "en")
    }
    text = json.dumps(document, ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
