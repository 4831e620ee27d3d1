"""What is to be compared, as it is asked for, written down, and read again from a result."""

import json
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import fields

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.provenance import Provenance
from tanuki_cli.i18n import _
from tanuki_cli.text.decoding import read_text_file

_CONTEXT: Final = 1024
_LLAMA_CONTEXT: Final = 512
_ROOM_FOR_QUESTIONS: Final = 1024
_COUNTS: Final = ("limit", "context_length", "answer_tokens", "gpu_layers")


class Request(Struct, frozen=True, kw_only=True):
    """The models, the reference first, and everything that decides the figures.

    Without ``text`` and ``history`` the built-in texts are meant. ``limit`` is the most scored tokens of
    a category. ``llama_chunks`` cuts as llama.cpp's perplexity tool does.
    """

    models: tuple[str, ...]
    text: tuple[str, ...] = ()
    history: bool = False
    limit: int | None = None
    context_length: int | None = None
    llama_chunks: bool = False
    questions: tuple[str, ...] = ()
    answer_tokens: int = 128
    one_by_one: bool = False
    gpu_layers: int | None = None
    kv_type: str = "f16"

    @property
    def length(self) -> int:
        """Tokens that passages are cut to."""
        return self.context_length or (_LLAMA_CONTEXT if self.llama_chunks else _CONTEXT)

    @property
    def model_context_length(self) -> int:
        """Tokens that the models must have room for."""
        room = self.answer_tokens + _ROOM_FOR_QUESTIONS if self.questions else 0
        return max(self.length, room)

    def to_json(self) -> dict[str, Any]:
        """The ``options`` of a record: everything but the models."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "models"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


class Record(Struct, frozen=True, kw_only=True):
    """A result that was written as JSON: what was asked, where it came from, which texts, and the mean
    divergence of each candidate, None where it had none."""

    request: Request
    provenance: Provenance
    texts_sha256: str
    mean_kl: tuple[float | None, ...]


def read_record(path: Path) -> Record:
    """A result of ``tanuki compare --json``. Raises InputError for anything else."""
    try:
        value = json.loads(read_text_file(path))
        provenance = Provenance.from_json(value["provenance"])
        if provenance.command != "compare":
            raise ValueError(f"tanuki {provenance.command}")
        return Record(
            request=_request(provenance),
            provenance=provenance,
            texts_sha256=str(value["texts"]["sha256"]),
            mean_kl=tuple(_mean_kl(entry) for entry in value["candidates"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InputError(
            _("{path} is not a result of tanuki compare --json.").format(path=path),
            hint="tanuki compare A B --json > result.json",
        ) from exc


def _request(provenance: Provenance) -> Request:
    """Raises ValueError for an option of another kind."""
    default = Request(models=())
    values: dict[str, Any] = {}
    for name, usual in default.to_json().items():
        value = provenance.options.get(name, usual)
        kinds = (int, type(None)) if name in _COUNTS else (type(usual),)
        if type(value) not in kinds:
            raise ValueError(f"{name!r} is missing or of another kind")
        values[name] = tuple(map(str, value)) if isinstance(value, list) else value
    return Request(models=tuple(model.reference for model in provenance.models), **values)


def _mean_kl(entry: Any) -> float | None:
    """Raises KeyError or TypeError where it is no candidate."""
    everything = entry["categories"].get("all")
    return None if everything is None else float(everything["kl"]["value"])
