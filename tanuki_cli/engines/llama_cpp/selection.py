"""Which library computes a GGUF model where the settings leave that open (``engine = auto``).

llama.cpp does, unless ik_llama.cpp is here, was measured beside it with this very model, is at least
1.2 times as fast for the use at hand, and gives the same probabilities. At a start two small files are
read for that; nothing is loaded to look.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.engines.base import Use
from tanuki_cli.engines.llama_cpp.ik_package import PACKAGE, build_version
from tanuki_cli.engines.llama_cpp.repacked import RepackedStore, repacked_folder
from tanuki_cli.engines.llama_cpp.tuning import (
    SMALL_MODEL_BYTES,
    Record,
    TuningStore,
    seconds_of,
    tuning_key,
    tuning_store,
)
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.packages import installed_version, missing

_LLAMA_CPP: Final = "llama_cpp"
WORTH_IT: Final = 1.2
MOST_DIVERGENCE: Final = 0.005
"""Of the probabilities of the next token, on average over a short chat (Kullback and Leibler, in nats). The
two were apart by 3.6e-4 with the practice model (Q8_0; either from the same weights in float32 by 2.6e-4).
What quantising changes is more (q4_K_M of Llama-3-8B 0.031, as published), unrelated texts are above 1. It
was 0.02 with random weights in the shape of the 8B, which spread rounding more than trained ones do."""


class Pair(Struct, frozen=True, kw_only=True):
    """What is remembered of a model on either library; of ik_llama.cpp as it is with ``copy``, the model with
    its weights rearranged, where there is one."""

    llama: Record
    ik: Record
    copy: Path | None = None

    @classmethod
    def of(cls, llama: Record, ik: Record, *, copy: Path | None) -> "Pair":
        """From what was measured without a copy."""
        return cls(llama=llama, ik=ik.with_copy() if copy else ik, copy=copy)

    @property
    def agrees(self) -> bool:
        """Whether they think the same, as far as rounding allows."""
        return self.ik.divergence is not None and self.ik.divergence <= MOST_DIVERGENCE

    def gain(self, use: Use) -> float | None:
        """How many times as fast ik_llama.cpp is for ``use``; None where that was not measured."""
        llama = self.llama.best(use)
        ik = self.ik.best(use)
        if llama is None or ik is None:
            return None
        return seconds_of(use, llama) / seconds_of(use, ik)

    def prefers_ik(self, use: Use) -> bool:
        """Whether ik_llama.cpp computes where nobody says otherwise."""
        gain = self.gain(use)
        return gain is not None and gain >= WORTH_IT and self.agrees


def find_pair(store: TuningStore, path: Path, *, copies: Path | None = None) -> Pair | None:
    """What ``store`` knows of the model at ``path`` on the CPU; None where the two were not compared.

    ``copies`` is the folder of repacked weights, which load quickly from there. llama.cpp is installed.
    Raises EngineError where ik_llama.cpp cannot be used, OSError if the file is gone.
    """
    versions = installed_version(_LLAMA_CPP, "llama_cpp_python"), build_version()
    llama, ik = (store.find(tuning_key(path, version, "f16", "0")) for version in versions)
    if llama is None or ik is None:
        return None
    # Of one that was skipped nothing is known, and nobody is made to wait again.
    if (llama.tuning.measured and llama.plain is None) or (ik.tuning.measured and ik.divergence is None):
        return None
    return Pair.of(llama, ik, copy=find_copy(path, versions[1], copies))


def find_copy(path: Path, version: str, copies: Path | None) -> Path | None:
    """The model at ``path`` with its weights rearranged for a library's ``version``, in the folder
    ``copies``; None where there is none."""
    return copies and RepackedStore(copies).find(path, version)


def explain_choice(path: Path, cache_folder: Path) -> str | None:
    """What ``auto`` chooses for the GGUF file at ``path``, and why; None where there is nothing to choose."""
    try:
        if missing([PACKAGE, _LLAMA_CPP]) or path.stat().st_size < SMALL_MODEL_BYTES:
            return None
        pair = find_pair(tuning_store(cache_folder), path, copies=repacked_folder(cache_folder))
    except (EngineError, OSError):
        return None
    return explain(pair)


def explain(pair: Pair | None) -> str:
    """What ``auto`` chooses, and why, in one line; ``pair`` is None where nothing is remembered."""
    once, chat, many = (pair and pair.gain(use) for use in ("once", "chat", "many"))
    if pair is None or once is None or chat is None or many is None:
        return _("llama.cpp is used; ik_llama.cpp was not compared with it on this CPU: tanuki bench --tune")
    if not pair.agrees:
        return _(
            "llama.cpp is used: the probabilities that ik_llama.cpp gives are too far from its own "
            "(KL {divergence:.1g}, at most {most:g})."
        ).format(divergence=pair.ik.divergence, most=MOST_DIVERGENCE)
    return _(
        "ik_llama.cpp is {once:.2f} times as fast as llama.cpp for one question, {chat:.2f} for a chat, "
        "{many:.2f} for many questions; it is used from {least} on."
    ).format(once=once, chat=chat, many=many, least=WORTH_IT)
