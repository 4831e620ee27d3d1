"""What a model is: in the catalog, on this machine, behind a server."""

import shlex
from pathlib import Path
from typing import Literal

from msgspec import Struct

from tanuki_cli.i18n import _

Format = Literal["gguf", "safetensors"]
Quantization = Literal["awq", "gptq"]


class LocalModel(Struct, frozen=True, kw_only=True):
    """A model whose files are on this machine.

    ``path`` is the ``.gguf`` file or the checkpoint's directory. ``tokenizer`` is the tokenizer.json
    to use; None where it must come from the GGUF's own metadata. ``name`` is what users call it.
    ``repository`` and ``revision``, a commit, are known for what came from the hub.
    """

    name: str
    format: Format
    path: Path
    tokenizer: Path | None = None
    reference_tokenizer: Path | None = None
    quantization: Quantization | None = None
    repository: str | None = None
    revision: str | None = None
    practice: bool = False

    @property
    def get_again(self) -> str:
        """What to do where its files are damaged."""
        if self.practice:
            return _("Install tanuki again: {command}").format(command="tanuki help install")
        if self.repository is None:
            return _("Get the file again from where it came from: tanuki did not download it.")
        return f"tanuki pull {shlex.quote(self.name)} --verify"


class RemoteModel(Struct, frozen=True, kw_only=True):
    """A model behind an OpenAI-compatible server; ``served_name`` None asks the server."""

    name: str
    base_url: str
    served_name: str | None = None


Target = LocalModel | RemoteModel


class ModelShape(Struct, frozen=True, kw_only=True):
    """The numbers that decide how much memory a model needs."""

    parameters: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_size: int
    vocab_size: int
    max_context_length: int


class Family(Struct, frozen=True, kw_only=True):
    """A model in all its formats. The reference repository holds the one right tokenizer.json.

    ``cuda_only``: its checkpoints come with code that uses flash-attn, which needs an NVIDIA GPU.
    """

    name: str
    title: str
    reference_repository: str
    shape: ModelShape
    cuda_only: bool = False

    @property
    def tokenizer_command(self) -> str:
        """What fetches its tokenizer.json without any weights."""
        return f"tanuki pull {self.name} --tokenizer-only"


class Variant(Struct, frozen=True, kw_only=True):
    """One row of the catalog: a family in one format.

    ``filename`` is set for a GGUF, which is one file among many of its repository. ``caveat`` is a
    message id, translated where it is shown. A ``refused`` variant gives wrong output on the engines
    there are; ``caveat`` says why.
    """

    family: Family
    tag: str
    repository: str
    format: Format
    approximate_bytes: int
    filename: str | None = None
    quantization: Quantization | None = None
    caveat: str | None = None
    refused: bool = False

    @property
    def name(self) -> str:
        """What users call it, e.g. ``tanuki-8b:q4_k_m``."""
        return f"{self.family.name}:{self.tag}"


class AutoReference(Struct, frozen=True):
    """``auto``: the program chooses."""


class PracticeReference(Struct, frozen=True):
    """``mame``: the practice model inside the package."""


class FamilyReference(Struct, frozen=True):
    """``tanuki-8b``: the variant of a family that suits the machine."""

    family: Family


class PathReference(Struct, frozen=True):
    """``./dir`` or ``./file.gguf``: files of the user's own."""

    path: Path


class HubReference(Struct, frozen=True):
    """``hf:owner/repo`` or ``hf:owner/repo/file.gguf``."""

    repository: str
    filename: str | None = None

    @property
    def name(self) -> str:
        """The reference as users write it."""
        return "/".join(filter(None, (f"hf:{self.repository}", self.filename)))


Downloadable = Variant | HubReference
Reference = AutoReference | PracticeReference | FamilyReference | PathReference | Downloadable | RemoteModel
