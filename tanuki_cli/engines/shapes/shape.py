"""The shapes an answer can be asked for. Pure: what follows one token by token is in ``guidance``."""

import json
from typing import Literal

from msgspec import Struct

ShapeKind = Literal["json_schema", "json_object", "choices", "regex", "grammar"]


class Shape(Struct, frozen=True):
    """What an answer must look like. ``text`` is the schema, the choices as a JSON array, the pattern or
    the Lark grammar; made by the functions of ``reading``, which check
    it."""

    kind: ShapeKind
    text: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The answers to choose from; empty for another kind."""
        return tuple(json.loads(self.text)) if self.kind == "choices" else ()

    @property
    def is_json(self) -> bool:
        """Whether the answer is JSON."""
        return self.kind in ("json_schema", "json_object")
