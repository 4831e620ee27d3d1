"""How a model is run on this machine: as measured once and remembered, else by good defaults.

A record is one small JSON file, named by the model file and the machine it holds for: when either
changes, or llama.cpp's version, it is not found any more.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.drafting import CPU_COSTS, GPU_COSTS, LENGTHS
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.kv_store import state_key
from tanuki_cli.files import read_bounded, write_atomically
from tanuki_cli.machine.hardware import cpu_name, usable_physical_cores

SMALL_MODEL_BYTES: Final = 100_000_000
N_BATCH: Final = 256
_MAX_RECORD_BYTES: Final = 1 << 20
_MAX_THREADS: Final = 1024
_MAX_BATCH: Final = 4096
_BATCH_SIZES: Final = (1, *(length + 1 for length in LENGTHS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What may be chosen freely: it changes speed and memory, not what the model says.

    ``threads`` compute single tokens, ``prompt_threads`` a prompt, in batches of ``n_batch`` tokens.
    ``repack`` lets llama.cpp keep a second copy of the weights in an order of its own. ``draft_costs``
    pairs the size of a batch with its time in single steps. ``measured`` is False for defaults.
    """

    threads: int
    prompt_threads: int
    n_batch: int = N_BATCH
    repack: bool = False
    draft_costs: tuple[tuple[int, float], ...] = tuple(CPU_COSTS.items())
    measured: bool = False

    def with_threads(self, threads: int | None) -> "Tuning":
        """The same with ``threads`` for everything, if the user set them."""
        return self if threads is None else replace(self, threads=threads, prompt_threads=threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuner:
    """Where records are kept, and whether to measure where there is none.

    ``announce`` is called before measuring, which may take twenty seconds and ends at Ctrl-C; without
    it nothing is measured. ``report`` hears of every trial: its name and seconds. ``again`` measures
    although there is a record.
    """

    store: "TuningStore"
    announce: Callable[[], None] | None = None
    report: Callable[[str, float], None] = lambda name, seconds: None
    again: bool = False


def default_tuning(facts: ModelFacts, *, gpu: bool) -> Tuning:
    """What was best on the machines that were measured: one thread per physical core, weights as they
    lie in the file.

    A small model gets one thread. Threads wait for each other, spinning, several hundred times per
    token: that costs a small model more than it gains, and beside another busy program a hundred times
    more.
    """
    threads = 1 if facts.file_bytes < SMALL_MODEL_BYTES else usable_physical_cores()
    costs = GPU_COSTS if gpu else CPU_COSTS
    return Tuning(threads=threads, prompt_threads=threads, draft_costs=tuple(costs.items()))


def tuning_key(model: Path, *settings: str) -> str:
    """Names the model file, the machine and ``settings``. Raises OSError if the file is gone."""
    machine = (cpu_name(), str(usable_physical_cores()), str(os.cpu_count()))
    return state_key(model, *machine, *settings)


@dataclass(frozen=True, slots=True)
class TuningStore:
    """A folder of records. No method raises for a broken file or a full disk: the defaults hold then."""

    folder: Path

    def find(self, key: str) -> Tuning | None:
        """The record for ``key``; None if there is none that makes sense."""
        try:
            found = json.loads(read_bounded(self._path(key), limit=_MAX_RECORD_BYTES))
            return _checked(found)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    def save(self, key: str, tuning: Tuning) -> bool:
        """Keep ``tuning``; whether that worked."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._path(key), json.dumps(asdict(tuning), indent=1) + "\n")
        except OSError:
            return False
        return True

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _checked(found: Mapping[str, Any]) -> Tuning:
    """Raises ValueError, KeyError or TypeError for anything that could not have been saved here."""
    tuning = Tuning(
        threads=found["threads"],
        prompt_threads=found["prompt_threads"],
        n_batch=found["n_batch"],
        repack=found["repack"],
        draft_costs=tuple((int(size), float(cost)) for size, cost in found["draft_costs"]),
        measured=found["measured"],
    )
    sensible = (
        all(
            type(count) is int and 1 <= count <= _MAX_THREADS
            for count in (tuning.threads, tuning.prompt_threads)
        )
        and type(tuning.n_batch) is int
        and max(_BATCH_SIZES) <= tuning.n_batch <= _MAX_BATCH
        and type(tuning.repack) is bool
        and type(tuning.measured) is bool
        and all(size in _BATCH_SIZES and cost > 0 for size, cost in tuning.draft_costs)
    )
    if not sensible:
        raise ValueError("not a tuning")
    return tuning
