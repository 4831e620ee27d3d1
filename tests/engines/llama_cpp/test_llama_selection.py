"""Which library computes where the settings leave it open: the rule, and the whole way to it."""

from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from scripts.make_synthetic_gguf import Shape, write_model
from tanuki_cli.catalog import LocalModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.base import Use
from tanuki_cli.engines.llama_cpp import calibration, comparison, selection
from tanuki_cli.engines.llama_cpp import loader as llama_cpp
from tanuki_cli.engines.llama_cpp.bindings import VERSION
from tanuki_cli.engines.llama_cpp.drafting import CPU_COSTS
from tanuki_cli.engines.llama_cpp.ik_package import build_version
from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
from tanuki_cli.engines.llama_cpp.opening import _SAMPLE
from tanuki_cli.engines.llama_cpp.repacked import RepackedStore
from tanuki_cli.engines.llama_cpp.repacking import make_copy
from tanuki_cli.engines.llama_cpp.selection import (
    MOST_DIVERGENCE,
    Pair,
    explain,
    explain_choice,
    find_pair,
)
from tanuki_cli.engines.llama_cpp.timing import Limits
from tanuki_cli.engines.llama_cpp.tuning import (
    Record,
    Speed,
    Tuner,
    Tuning,
    TuningStore,
    seconds_of,
    tuning_key,
)
from tanuki_cli.machine.packages import IK
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.slow_machine import SlowMachine

COSTS = ((1, 1.0), (5, 3.4), (8, 6.5), (16, 7.8), (32, 13.5))
LLAMA = Speed(load_s=0.6, prompt_s=1 / 12.5, step_s=1 / 4.3, costs=COSTS)
AS_IT_LIES = Speed(load_s=0.3, prompt_s=1 / 14, step_s=1 / 4.3, costs=COSTS)
REPACKED = Speed(load_s=7.0, prompt_s=1 / 20, step_s=1 / 5.2, costs=COSTS)
"""Much as they were on two AVX2 cores."""
TUNING = Tuning(threads=2, prompt_threads=2, draft_costs=COSTS, measured=True)
USES: tuple[Use, ...] = ("once", "chat", "many")
needs_ik = pytest.mark.skipif(find_spec("ik_llama_cpp") is None, reason=f"needs {IK}")


def record(plain: Speed, repacked: Speed | None = None, **more: float) -> Record:
    return Record(tuning=TUNING, default=plain, plain=plain, repacked=repacked, in_place=True, **more)


def pair(ik: Record, llama: Speed = LLAMA) -> Pair:
    return Pair(llama=record(llama), ik=ik)


def test_the_time_of_a_use() -> None:
    speed = Speed(load_s=7.0, prompt_s=0.1, step_s=0.2, costs=((1, 1.0), (16, 8.0), (32, 8.0)))
    once = 128 * 0.1 + 128 * 0.2
    assert seconds_of("once", speed) == pytest.approx(7 + once)
    assert seconds_of("chat", speed) == pytest.approx(7 + 10 * once)
    # Sixteen answers together take half of the time, and there are never 32 of them.
    assert seconds_of("many", speed) == pytest.approx(7 + 100 * (128 * 0.1 + 128 * 0.1))
    one_by_one = replace(speed, costs=((32, 8.0),))
    assert seconds_of("many", one_by_one) == pytest.approx(7 + 100 * once)


def test_repacked_weights_are_for_uses_that_earn_their_loading() -> None:
    both = record(AS_IT_LIES, REPACKED)
    assert [both.tuning_for(use).repack for use in USES] == [False, True, True]
    assert record(AS_IT_LIES).tuning_for("many") == TUNING
    # What a batch costs is that of the weights that are used.
    cheap = replace(REPACKED, costs=((1, 1.0), (16, 5.2)))
    assert record(AS_IT_LIES, cheap).tuning_for("chat").draft_costs == cheap.costs


def test_a_second_copy_wants_more() -> None:
    barely = replace(REPACKED, prompt_s=AS_IT_LIES.prompt_s, step_s=AS_IT_LIES.step_s / 1.25)
    in_place = record(AS_IT_LIES, barely)
    assert in_place.tuning_for("many").repack
    assert not replace(in_place, in_place=False).tuning_for("many").repack


@pytest.mark.parametrize(
    ("ik", "expected"),
    [
        (record(AS_IT_LIES, divergence=3e-5), []),
        (record(AS_IT_LIES, REPACKED, divergence=3e-5), ["chat", "many"]),
        (record(AS_IT_LIES, replace(REPACKED, load_s=1000.0), divergence=3e-5), []),
        (record(replace(AS_IT_LIES, prompt_s=0.05, step_s=0.15), divergence=3e-5), ["once", "chat", "many"]),
        (record(replace(AS_IT_LIES, costs=((1, 1.0), (16, 5.2))), divergence=3e-5), ["many"]),
        (record(AS_IT_LIES, REPACKED, divergence=2 * MOST_DIVERGENCE), []),
        (record(AS_IT_LIES, REPACKED, divergence=comparison._APART), []),
        (record(AS_IT_LIES, REPACKED), []),
        (Record(tuning=replace(TUNING, measured=False)), []),
    ],
    ids=[
        "no faster",
        "faster when repacked",
        "too long to repack",
        "faster for everything",
        "faster for many together",
        "other numbers",
        "no numbers",
        "not compared",
        "not measured",
    ],
)
def test_ik_computes_where_it_is_clearly_faster_and_agrees(ik: Record, expected: list[Use]) -> None:
    assert [use for use in USES if pair(ik).prefers_ik(use)] == expected


def test_a_copy_of_repacked_weights_is_for_one_question_too() -> None:
    alone = record(AS_IT_LIES, REPACKED, divergence=3e-5)
    kept = alone.with_copy()
    assert [use for use in USES if pair(kept).prefers_ik(use)] == list(USES)
    assert all(kept.tuning_for(use).repack for use in USES)
    assert record(AS_IT_LIES).with_copy() == record(AS_IT_LIES)


def test_why_is_said() -> None:
    faster = explain(pair(record(AS_IT_LIES, REPACKED, divergence=3e-5)))
    assert "for one question" in faster
    assert f"{pair(record(AS_IT_LIES, REPACKED)).gain('chat'):.2f} for a chat" in faster
    assert "KL 0.02, at most 0.005" in explain(pair(record(AS_IT_LIES, divergence=0.02)))
    assert "tanuki bench --tune" in explain(pair(Record(tuning=TUNING)))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models are worth measuring."""
    monkeypatch.setattr(llama_cpp, "SMALL_MODEL_BYTES", 0)
    monkeypatch.setattr(selection, "SMALL_MODEL_BYTES", 0)


@pytest.fixture
def tiny(tmp_path: Path, large: None) -> Path:
    """Random weights in four and six bits."""
    shape = Shape(n_embd=512, n_ff=1536, n_layer=3, n_head=4, n_kv_head=2, n_vocab=2048, n_pieces=2000)
    path = tmp_path / "tiny.gguf"
    write_model(path, shape, seed=3)
    return path


class Loads:
    """Loads a model as the program does, and says what computed it."""

    def __init__(self, folder: Path) -> None:
        self.announced: list[int] = []
        self.notes: tuple[str, ...] = ()
        self.lines: list[str] = []
        self.store = TuningStore(folder / "tuning")
        self.copies = folder / "repacked"
        self.tuner = Tuner(store=self.store, announce=self.announced.append, report=self.lines.append)

    def engine(self, path: Path, use: Use = "chat", settings: Settings | None = None) -> str:
        local = LocalModel(name="tiny", format="gguf", path=path)
        settings = settings or Settings(context_length=512)
        tuner = replace(self.tuner, use=use)
        with closing(load_llama_cpp(local, settings, debug=False, tuner=tuner, copies=self.copies)) as model:
            self.notes = tuple(model.notes)
            return model.info.engine

    def keep(self, path: Path, *, llama: Record, ik: Record) -> None:
        pair = Pair(llama=llama, ik=ik)
        versions = (VERSION, build_version())
        for version, kept in zip(versions, (pair.llama, pair.ik), strict=True):
            assert self.store.save(tuning_key(path, version, "f16", "0"), kept)


@needs_ik
def test_both_are_measured_once_and_agree(
    tmp_path: Path, practice_tokenizer: ChatTokenizer, large: None
) -> None:
    """With the practice model, whose numbers are a model's."""
    loads, path = Loads(tmp_path), practice_model().path
    ids = practice_tokenizer.encode_chat(_SAMPLE)
    loads.tuner = replace(loads.tuner, text=lambda: ids)
    loads.engine(path)
    found = find_pair(loads.store, path)
    assert found is not None
    assert found.ik.divergence is not None
    assert 0 < found.ik.divergence < MOST_DIVERGENCE / 5
    assert found.ik.repacked is not None
    assert found.ik.in_place
    assert not found.llama.in_place
    assert all(found.gain(use) for use in USES)
    assert loads.announced == [60]
    assert loads.lines[-1] == explain(found)
    before = list(loads.lines)
    loads.engine(path)
    assert loads.lines == before
    assert explain_choice(path, tmp_path) == explain(found)


@needs_ik
def test_what_was_compared_of_a_file_that_changed_meanwhile_is_not_remembered_of_the_new_one(
    tmp_path: Path, tiny: Path
) -> None:
    loads = Loads(tmp_path)
    loads.tuner = replace(loads.tuner, announce=lambda _seconds: tiny.touch())
    loads.engine(tiny)
    assert loads.store.folder.is_dir()
    assert find_pair(loads.store, tiny) is None


@needs_ik
def test_the_measurement_decides_for_each_use(tmp_path: Path, tiny: Path) -> None:
    loads = Loads(tmp_path)
    loads.keep(tiny, llama=record(LLAMA), ik=record(AS_IT_LIES, REPACKED, divergence=1e-5))
    names = [loads.engine(tiny, use) for use in USES]
    assert names == ["llama.cpp", "ik_llama.cpp", "ik_llama.cpp"]
    assert loads.engine(tiny, settings=Settings(context_length=512, engine="llama.cpp")) == "llama.cpp"
    # It has no cache in eight bits, which the user asked for.
    assert loads.engine(tiny, settings=Settings(context_length=512, kv_type="q8_0")) == "llama.cpp"
    assert loads.engine(tiny, "once", Settings(context_length=512, engine="ik")) == "ik_llama.cpp"


@needs_ik
@pytest.mark.parametrize(
    ("use", "settings"),
    [("chat", Settings(context_length=512)), ("once", Settings(context_length=512, engine="ik"))],
    ids=["chosen", "named"],
)
def test_records_and_copies_are_looked_up_once(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, use: Use, settings: Settings
) -> None:
    loads, looked = Loads(tmp_path), list[str]()
    loads.keep(tiny, llama=record(LLAMA), ik=record(AS_IT_LIES, REPACKED, divergence=1e-5))
    for owner in (TuningStore, RepackedStore):
        monkeypatch.setattr(owner, "find", noting(owner.find, looked))
    assert loads.engine(tiny, use, settings) == "ik_llama.cpp"
    assert len(looked) == len(set(looked))
    assert any("RepackedStore" in name for name in looked)


def noting(function: Callable[..., Any], noted: list[str]) -> Callable[..., Any]:
    """``function``, which notes what it is called with."""

    def noting_it(*arguments: Any) -> Any:
        noted.append(f"{function.__qualname__}{arguments}")
        return function(*arguments)

    return noting_it


@needs_ik
def test_what_was_measured_is_used_although_it_cannot_be_kept(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(tmp_path)
    loads.store.folder.write_bytes(b"")
    measured = pair(record(AS_IT_LIES, REPACKED, divergence=1e-5))
    monkeypatch.setattr(comparison, "compare", lambda plan, tuner, *, copies: measured)
    local, settings = LocalModel(name="tiny", format="gguf", path=tiny), Settings(context_length=512)
    with closing(load_llama_cpp(local, settings, debug=False, tuner=loads.tuner)) as model:
        assert model.info.engine == "ik_llama.cpp"
        assert model._policy.costs == dict(REPACKED.costs)


@needs_ik
def test_a_copy_counts_right_after_both_were_measured(tmp_path: Path, tiny: Path) -> None:
    """As at every later load."""
    loads = Loads(tmp_path)
    copy = make_copy(RepackedStore(loads.copies), tiny, on_step=lambda done, total: None)
    loads.engine(tiny)
    assert loads.lines[-1] == explain_choice(tiny, tmp_path)
    found = find_pair(loads.store, tiny, copies=loads.copies)
    assert found is not None
    assert found.copy == copy


@needs_ik
def test_without_a_record_a_library_has_its_own_costs_of_batches(tiny: Path) -> None:
    local = LocalModel(name="tiny", format="gguf", path=tiny)
    costs = {}
    for engine in ("llama.cpp", "ik"):
        settings = Settings(context_length=512, engine=engine)
        with closing(load_llama_cpp(local, settings, debug=False)) as model:
            costs[engine] = model._policy.costs
    assert costs["llama.cpp"] == CPU_COSTS
    assert costs["ik"].keys() == CPU_COSTS.keys()
    assert all(costs["ik"][size] < cost for size, cost in CPU_COSTS.items() if size > 1)


@needs_ik
def test_random_weights_agree(tmp_path: Path, tiny: Path) -> None:
    loads = Loads(tmp_path)
    loads.engine(tiny)
    found = find_pair(loads.store, tiny)
    assert found is not None
    assert found.ik.divergence is not None
    assert 0 < found.ik.divergence < MOST_DIVERGENCE / 20


@needs_ik
def test_a_process_that_ends_while_ik_is_measured_does_so_once(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        """Stands in for a signal."""

    builds: list[str] = []

    def ends(bench: calibration.Bench, limits: Limits, *, look: calibration.Look) -> Record:
        builds.append(bench.plan.build.name)
        if builds[-1] == "ik_llama.cpp":
            raise Ended
        return calibration.calibrate(bench, limits, look=look)

    loads = Loads(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(comparison, "calibrate", ends)
        with pytest.raises(Ended):
            loads.engine(tiny)
    assert builds == ["llama.cpp", "ik_llama.cpp"]
    lines = list(loads.lines)
    assert loads.engine(tiny) == "llama.cpp"
    assert loads.lines == lines
    assert "tanuki bench --tune" in (explain_choice(tiny, tmp_path) or "")


@needs_ik
def test_ctrl_c_skips_both_for_good(tmp_path: Path, tiny: Path) -> None:
    import signal

    loads = Loads(tmp_path)

    def interrupt(line: str) -> None:
        if line.startswith("one token"):
            signal.raise_signal(signal.SIGINT)

    loads.tuner = replace(loads.tuner, report=interrupt)
    assert loads.engine(tiny) == "llama.cpp"
    loads.tuner = replace(loads.tuner, report=loads.lines.append)
    assert loads.engine(tiny) == "llama.cpp"
    assert loads.lines == []


@needs_ik
@pytest.mark.parametrize(
    ("machine", "compared"),
    [
        (SlowMachine(step_s=0.2), True),
        (SlowMachine(step_s=0.5), True),
        (SlowMachine(step_s=0.2, busy_at=15, times=3), True),
        (SlowMachine(step_s=0.2, busy_at=25, times=100), False),
        (SlowMachine(step_s=30), False),
    ],
    ids=["as usual", "slow", "busy in the middle", "very busy with ik", "of no use"],
)
def test_both_take_no_longer_than_was_announced(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, machine: SlowMachine, compared: bool
) -> None:
    loads = Loads(tmp_path)
    machine.compute(monkeypatch)
    loads.tuner = replace(loads.tuner, announce=machine.announce, clock=machine.clock)
    loads.engine(tiny)
    (deadline,) = machine.deadlines
    assert machine.now <= deadline + machine.longest_s
    found = find_pair(loads.store, tiny)
    assert found is not None
    assert loads.lines[-1] == explain(found)
    assert found.ik.tuning.measured == (found.ik.divergence is not None) == compared
    assert loads.notes == () if compared else (explain(found),)
    loads.engine(tiny)
    assert loads.notes == ()


def test_without_it_only_llama_cpp_is_measured(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (llama_cpp, selection):
        monkeypatch.setattr(module, "PACKAGE", "ik_nothing")
    loads = Loads(tmp_path)
    assert loads.engine(tiny) == "llama.cpp"
    assert loads.announced == [10]
    assert len(list((tmp_path / "tuning").glob("*.json"))) == 1
    assert explain_choice(tiny, tmp_path) is None


@needs_ik
def test_one_that_was_never_tried_is_left_alone(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(tmp_path)
    loads.keep(tiny, llama=record(LLAMA), ik=record(AS_IT_LIES, REPACKED, divergence=1e-5))
    monkeypatch.setattr("tanuki_cli.engines.llama_cpp.ik_package._TRIED", "0.0.1")
    assert loads.engine(tiny) == "llama.cpp"


@needs_ik
def test_nothing_of_it_is_loaded_to_look(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_ik() -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("tanuki_cli.engines.llama_cpp.ik.load_ik", load_ik)
    loads = Loads(tmp_path)
    loads.keep(tiny, llama=record(LLAMA), ik=record(AS_IT_LIES, divergence=1e-5))
    assert loads.engine(tiny) == "llama.cpp"
