"""What every check of ``tanuki doctor`` comes to."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding. ``name`` is the same in every language; ``fix`` is a command or a sentence."""

    name: str
    status: Status
    detail: str
    fix: str | None = None
