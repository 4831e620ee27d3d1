"""The models: what a reference such as ``tanuki-8b:q4_k_m`` means."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["gguf", "safetensors"]
Quantization = Literal["awq", "gptq"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model whose files are on this machine.

    ``path`` is the ``.gguf`` file or the checkpoint's directory. ``tokenizer`` is the tokenizer.json
    to use; None where it must come from the GGUF's own metadata. ``name`` is what users call it.
    """

    name: str
    format: Format
    path: Path
    tokenizer: Path | None = None
    quantization: Quantization | None = None
    practice: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model behind an OpenAI-compatible server; ``served_name`` None asks the server."""

    name: str
    base_url: str
    served_name: str | None = None


Target = LocalModel | RemoteModel
