"""How a model is run on this machine: as measured once and remembered, else by good defaults.

What is the faster depends on the use. One is counted as questions of 128 tokens with answers of 128 after
one load: one of them, the ten of a chat, or a hundred that need not wait for each other. What takes long to
load must earn that.

A record is one small JSON file, named by the model file and the machine it holds for: when either
changes, or llama.cpp's version, it is not found any more. Older records, which do not say how fast it was,
are still read.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, convert, json, to_builtins
from msgspec.structs import replace

from tanuki_cli.engines.base import Use
from tanuki_cli.engines.llama_cpp.drafting import CPU_COSTS, LENGTHS
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.kv_store import state_key
from tanuki_cli.files import read_bounded, write_atomically
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import cpu_name, usable_cpus, usable_physical_cores

SMALL_MODEL_BYTES: Final = 100_000_000
N_BATCH: Final = 256
_MAX_RECORD_BYTES: Final = 1 << 20
_LARGEST_BATCH: Final = max(LENGTHS) + 1
"""Of a draft and the token before it."""
_QUESTIONS: Final[Mapping[Use, int]] = {"once": 1, "chat": 10, "many": 100}
_PROMPT_TOKENS: Final = 128
_ANSWER_TOKENS: Final = 128
_AT_ONCE: Final = 16
"""The most answers that are computed together on a CPU."""
_COPY_WORTH_IT: Final = 1.25
"""Repacked weights double the memory: that wants more than a few per cent."""
_IN_PLACE_WORTH_IT: Final = 1.1
"""Without the second copy they cost time only, and all of it is counted."""

# Within these bounds a record is read.
_Count = Annotated[int, Meta(ge=1, le=1024)]
_Seconds = Annotated[float, Meta(gt=0)]
_Size = Annotated[int, Meta(ge=1, le=_LARGEST_BATCH)]
_Costs = Annotated[tuple[tuple[_Size, _Seconds], ...], Meta(min_length=1)]


class Tuning(Struct, frozen=True, kw_only=True):
    """What may be chosen freely: it changes speed and memory, not what the model says.

    ``threads`` compute single tokens, ``prompt_threads`` a prompt, in batches of ``n_batch`` tokens.
    ``repack`` lets llama.cpp keep a second copy of the weights in an order of its own. ``draft_costs``
    pairs the size of a batch with its time in single steps. ``measured`` is False for defaults.
    """

    threads: _Count
    prompt_threads: _Count
    n_batch: Annotated[int, Meta(ge=_LARGEST_BATCH, le=4096)] = N_BATCH
    repack: bool = False
    draft_costs: _Costs = tuple(CPU_COSTS.items())
    measured: bool = False

    def with_threads(self, threads: int | None) -> "Tuning":
        """The same with ``threads`` for everything, if the user set them."""
        return self if threads is None else replace(self, threads=threads, prompt_threads=threads)


class Speed(Struct, frozen=True, kw_only=True):
    """Seconds of a load, of one token of a prompt and of one of an answer. ``costs`` pairs the size of a
    batch with its time in single steps; the first is one of size 1."""

    load_s: _Seconds
    prompt_s: _Seconds
    step_s: _Seconds
    costs: _Costs = ((1, 1.0),)


def seconds_of(use: Use, speed: Speed) -> float:
    """What ``use`` takes; many answers are computed several together, where that pays."""
    step_s = speed.step_s
    if use == "many":
        step_s *= min(cost / size for size, cost in ((1, 1.0), *speed.costs) if size <= _AT_ONCE)
    each = _PROMPT_TOKENS * speed.prompt_s + _ANSWER_TOKENS * step_s
    return speed.load_s + _QUESTIONS[use] * each


class Record(Struct, frozen=True, kw_only=True):
    """What was measured of a model on this machine.

    ``tuning`` is for weights as they lie in the file, and gives the speed ``plain``; the defaults gave
    ``default``, and weights that were repacked, ``in_place`` or into a second copy, ``repacked``: None where
    that was not tried. ``divergence`` is that of its probabilities from llama.cpp's, where they were
    compared.
    """

    tuning: Tuning
    default: Speed | None = None
    plain: Speed | None = None
    repacked: Speed | None = None
    in_place: bool = False
    divergence: Annotated[float, Meta(ge=0)] | None = None

    def best(self, use: Use) -> Speed | None:
        """How fast it is for ``use``, and with what; None where that is not known."""
        if self.plain is None or self.repacked is None:
            return self.plain
        before, after = (seconds_of(use, speed) for speed in (self.plain, self.repacked))
        worth_it = _IN_PLACE_WORTH_IT if self.in_place else _COPY_WORTH_IT
        return self.repacked if before >= worth_it * after else self.plain

    def with_copy(self) -> "Record":
        """The same where repacked weights are a file of their own, which loads like the model's."""
        if self.plain is None or self.repacked is None:
            return self
        return replace(self, repacked=replace(self.repacked, load_s=self.plain.load_s))

    def tuning_for(self, use: Use) -> Tuning:
        """How to run it for ``use``."""
        best = self.best(use)
        if best is None or best is not self.repacked:
            return self.tuning
        return replace(self.tuning, repack=True, draft_costs=best.costs)


class Tuner(Struct, frozen=True, kw_only=True):
    """Where records are kept, for what ``use`` they are read, and whether to measure where there is none.

    ``announce`` is called before measuring, with the seconds that it takes at most by ``clock``; Ctrl-C ends
    it. Without it nothing is measured. ``report`` is told every trial, and what came of it, a line each.
    ``again`` measures although there is a record, and tries what takes too long at a first load. ``text``
    are the ids of what it is measured with; for comparisons a text as the model knows them.
    """

    store: "TuningStore"
    use: Use = "chat"
    announce: Callable[[int], None] | None = None
    report: Callable[[str], None] = lambda line: None
    again: bool = False
    text: Callable[[], Sequence[int]] = lambda: range(300, 900)
    clock: Callable[[], float] = time.perf_counter

    def find(self, key: str) -> Record | None:
        """What is remembered under ``key``; None where that is to be measured again."""
        return None if self.again else self.store.find(key)

    @contextmanager
    def measuring(self) -> Iterator[bool]:
        """For a measurement; whether it is to be made now. It is not beside one of another process, since
        either would disturb the other, nor where it could not be kept and would come again at every start.
        With ``again`` it is, after the other one."""
        with ExitStack() as held:
            claimed = self.store.claim(held)
            if self.again and claimed is None:
                self.report(_("waiting for another run of tanuki that measures (Ctrl-C stops waiting)"))
                self.store.claim(held, wait=True)
            yield bool(claimed) or self.again


def default_tuning(facts: ModelFacts, *, costs: Mapping[int, float]) -> Tuning:
    """What was best on the machines that were measured: one thread per physical core, weights as they
    lie in the file; with the ``costs`` of batches of the library.

    A small model gets one thread. Threads wait for each other, spinning, several hundred times per
    token: that costs a small model more than it gains, and beside another busy program a hundred times
    more.
    """
    threads = 1 if facts.file_bytes < SMALL_MODEL_BYTES else usable_physical_cores()
    return Tuning(threads=threads, prompt_threads=threads, draft_costs=tuple(costs.items()))


def tuning_key(model: Path, *settings: str) -> str:
    """Names the model file, what there is of the machine for this process, and ``settings``. Raises OSError
    if the file is gone."""
    machine = (cpu_name(), str(usable_physical_cores()), str(usable_cpus()))
    return state_key(model, *machine, *settings)


def tuning_store(cache_folder: Path) -> "TuningStore":
    """The records of all models."""
    return TuningStore(cache_folder / "tuning")


class TuningStore(Struct, frozen=True):
    """A folder of records. No method raises for a broken file or a full disk: the defaults hold then."""

    folder: Path

    def find(self, key: str) -> Record | None:
        """The record for ``key``; None if there is none that makes sense."""
        try:
            found = json.decode(read_bounded(self._path(key), limit=_MAX_RECORD_BYTES), type=dict[str, Any])
            return convert({**found, "tuning": found}, type=Record)
        except (OSError, ValueError, RecursionError):
            return None

    def save(self, key: str, record: Record) -> bool:
        """Keep ``record``; whether that worked."""
        parts = to_builtins(record)
        text = json.format(json.encode({**parts.pop("tuning"), **parts}), indent=1).decode("utf-8")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._path(key), f"{text}\n")
        except OSError:
            return False
        return True

    def claim(self, held: ExitStack, *, wait: bool = False) -> bool | None:
        """Keep other processes from measuring as long as ``held`` lasts; None where one measures just now,
        False where nothing can be written."""
        from filelock import FileLock, Timeout  # once per model

        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            held.enter_context(FileLock(self.folder / "measuring.lock", timeout=-1 if wait else 0))
        except Timeout:
            return None
        except NotImplementedError:  # a file system without locks
            return True
        except OSError:
            return False
        return True

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"
