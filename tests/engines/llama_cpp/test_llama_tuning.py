"""How a model runs best here: measured once, remembered, and never in the way."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp import calibration as llama_calibration
from tanuki_cli.engines.llama_cpp import loader as llama_cpp
from tanuki_cli.engines.llama_cpp.builds import LLAMA_CPP
from tanuki_cli.engines.llama_cpp.calibration import Bench, calibrate, most_seconds
from tanuki_cli.engines.llama_cpp.drafting import LENGTHS
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel, load_llama_cpp
from tanuki_cli.engines.llama_cpp.native import Model, NativeError
from tanuki_cli.engines.llama_cpp.plan import LoadPlan, plan_load
from tanuki_cli.engines.llama_cpp.timing import Limits
from tanuki_cli.engines.llama_cpp.tuning import (
    Record,
    Speed,
    Tuner,
    Tuning,
    TuningStore,
    tuning_key,
)
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.machine.hardware import inspect_machine
from tanuki_cli.settings.specs import find_spec
from tanuki_cli.settings.values import Settings
from tests.support.llama_models import GREEDY, PROMPT, load, write_tiny
from tests.support.program import ROOT
from tests.support.slow_machine import SlowMachine

TUNING = Tuning(
    threads=3, prompt_threads=4, n_batch=512, repack=False, draft_costs=((1, 1.0), (16, 6.5)), measured=True
)
SPEED = Speed(load_s=0.6, prompt_s=0.08, step_s=0.22, costs=((1, 1.0), (16, 7.75)))
RECORD = Record(
    tuning=TUNING,
    default=SPEED,
    plain=replace(SPEED, step_s=0.2),
    repacked=replace(SPEED, load_s=12.5),
    in_place=True,
    divergence=3e-5,
)
AGAIN = "To do that: tanuki bench --tune -m tiny"
OLDER = """{"threads": 2, "prompt_threads": 2, "n_batch": 256, "repack": true,
 "draft_costs": [[1, 1.0], [5, 3.4], [8, 6.5], [16, 7.8], [32, 13.5]], "measured": true}"""
"""What was saved before anything was said of speed."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(autouse=True)
def measure_small_models_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "SMALL_MODEL_BYTES", 0)


class Trials:
    """A tuner that counts what it is told."""

    def __init__(self, folder: Path, *, announces: bool = True, again: bool = False) -> None:
        self.announced: list[int] = []
        self.lines: list[str] = []
        self.store = TuningStore(folder)
        self.tuner = Tuner(
            store=self.store,
            announce=self._announce if announces else None,
            report=self.lines.append,
            again=again,
        )

    def _announce(self, seconds: int) -> None:
        self.announced.append(seconds)

    def load(self, path: Path) -> LlamaCppModel:
        local = LocalModel(name="tiny", format="gguf", path=path)
        settings = Settings(context_length=512, engine="llama.cpp")
        return load_llama_cpp(local, settings, debug=False, tuner=self.tuner)

    def records(self) -> list[Path]:
        return sorted(self.store.folder.glob("*.json")) if self.store.folder.exists() else []


@pytest.mark.parametrize("record", [RECORD, Record(tuning=TUNING)], ids=["measured", "not measured"])
def test_a_record_comes_back(tmp_path: Path, record: Record) -> None:
    store = TuningStore(tmp_path / "tuning")
    assert store.find("key") is None
    assert store.save("key", record)
    assert store.find("key") == record
    assert store.find("other") is None


def test_an_older_record_is_read(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(OLDER, encoding="utf-8")
    record = TuningStore(tmp_path).find("key")
    assert record is not None
    assert record.plain is None
    tuning = record.tuning_for("once")
    assert (tuning.threads, tuning.repack, tuning.measured) == (2, True, True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"threads": 3', '"threads": 0'),
        lambda text: text.replace('"threads": 3', '"threads": "3"'),
        lambda text: text.replace('"n_batch": 512', '"n_batch": 1'),
        lambda text: text.replace("6.5", "-1"),
        lambda text: text.replace("16", "64"),
        lambda text: text.replace("16", "0"),
        lambda text: text.replace("16", "[]"),
        lambda text: text.replace("12.5", "NaN"),
        lambda text: text.replace("12.5", "1e999"),
        lambda text: text.replace('"in_place"', "[" * 10_000 + '"in_place"'),
        lambda text: text.replace("0.08", "0"),
        lambda text: text.replace("0.00003", "-1"),
        lambda text: text.replace("0.00003", "[]"),
        lambda text: text.replace('"in_place": true', '"in_place": 1'),
        lambda text: text.replace('"step_s"', '"steps"'),
    ],
)
def test_a_damaged_record_is_none(tmp_path: Path, damage: Callable[[str], str]) -> None:
    store = TuningStore(tmp_path)
    store.save("key", RECORD)
    path = tmp_path / "key.json"
    text = path.read_text(encoding="utf-8")
    assert damage(text) != text
    path.write_text(damage(text), encoding="utf-8")
    assert store.find("key") is None


def test_a_folder_that_cannot_be_written_is_only_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = TuningStore(tmp_path / "file")
    assert not store.save("key", RECORD)
    assert store.find("key") is None


def test_measured_at_the_first_load_only(tiny: Path, tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    first = trials.load(tiny)
    assert len(trials.announced) == 1
    assert any(line.startswith("one token,") for line in trials.lines)
    assert trials.lines[-1].startswith("gained over the defaults: prompt ")
    (record,) = trials.records()
    found = json.loads(record.read_text(encoding="utf-8"))
    assert found["measured"]
    assert {size for size, _cost in found["draft_costs"]} == {1, *(length + 1 for length in LENGTHS)}
    ids = list(islice(token_ids(first.generate(PROMPT, GREEDY)), 20))
    first.close()
    again = trials.load(tiny)
    assert len(trials.announced) == 1
    again.close()
    plain = load(tiny)
    assert ids == list(islice(token_ids(plain.generate(PROMPT, GREEDY)), 20))
    plain.close()


def test_another_model_or_machine_is_measured_anew(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(tmp_path / "tuning")
    trials.load(tiny).close()
    trials.load(write_tiny(tmp_path / "other.gguf", seed=9)).close()
    assert len(trials.announced) == 2
    monkeypatch.setattr("tanuki_cli.engines.llama_cpp.tuning.cpu_name", lambda: "another processor")
    trials.load(tiny).close()
    assert len(trials.announced) == 3
    assert len(trials.records()) == 3


def test_what_was_measured_of_a_file_that_changed_meanwhile_is_not_remembered_of_the_new_one(
    tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny.read_bytes())
    trials = Trials(tmp_path / "tuning")

    def downloaded_again(_seconds: int) -> None:
        (tmp_path / "new.gguf").write_bytes(tiny.read_bytes())
        (tmp_path / "new.gguf").replace(path)

    trials.tuner = replace(trials.tuner, announce=downloaded_again)
    trials.load(path).close()
    assert len(trials.records()) == 1
    trials.tuner = replace(trials.tuner, announce=trials.announced.append)
    trials.load(path).close()
    assert len(trials.announced) == 1


OTHER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from tanuki_cli.engines.llama_cpp.tuning import TuningStore

with ExitStack() as held:
    assert TuningStore(Path(sys.argv[1])).claim(held)
    print("measuring", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_measure_at_once(tiny: Path, tmp_path: Path) -> None:
    trials, again = Trials(tmp_path), Trials(tmp_path, again=True)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"measuring\n"
        model = trials.load(tiny)
        assert AGAIN in model.notes[0]
        model.close()
        assert (trials.announced, trials.records()) == ([], [])

        def ends(line: str) -> None:
            again.lines.append(line)
            if len(again.lines) == 1:
                other.kill()  # which also ends its claim

        again.tuner = replace(again.tuner, report=ends)
        again.load(tiny).close()
    assert again.lines[0].startswith("waiting for another run")
    assert len(again.announced) == len(trials.records()) == 1


def test_what_could_not_be_kept_is_not_measured_at_every_start(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    trials = Trials(tmp_path / "file" / "tuning")
    model = trials.load(tiny)
    assert AGAIN in model.notes[0]
    model.close()
    assert trials.announced == []


def test_asked_for_again(tiny: Path, tmp_path: Path) -> None:
    Trials(tmp_path).load(tiny).close()
    trials = Trials(tmp_path, again=True)
    trials.load(tiny).close()
    assert len(trials.announced) == 1


def test_nothing_is_measured_where_nobody_is_told(tiny: Path, tmp_path: Path) -> None:
    trials = Trials(tmp_path, announces=False)
    trials.load(tiny).close()
    assert trials.lines == []
    assert trials.records() == []


def test_ctrl_c_skips_it_for_good(tiny: Path, tmp_path: Path) -> None:
    import signal

    trials = Trials(tmp_path)
    tuner = replace(trials.tuner, report=lambda line: signal.raise_signal(signal.SIGINT))
    local = LocalModel(name="tiny", format="gguf", path=tiny)
    load_llama_cpp(local, Settings(context_length=512, engine="llama.cpp"), debug=False, tuner=tuner).close()
    (record,) = trials.records()
    assert not json.loads(record.read_text(encoding="utf-8"))["measured"]
    trials.load(tiny).close()
    assert len(trials.records()) == 1
    assert trials.lines == []


def bench_of(path: Path) -> Bench:
    loaded = load(path)
    facts = loaded.facts
    loaded.close()
    plan = plan_load(LocalModel(name="tiny", format="gguf", path=path), facts, Settings())
    return Bench(plan=plan, weights=plan.load_weights(), load_s=0.1, text=range(300, 900))


def calibrated(bench: Bench, *, budget_s: float) -> Record:
    return calibrate(bench, Limits(deadline=time.perf_counter() + budget_s))


@pytest.mark.parametrize(("available", "copies"), [(1 << 40, 1), (0, 0)], ids=["fits", "does not fit"])
def test_repacking_is_tried_only_where_a_second_copy_fits(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, available: int, copies: int
) -> None:
    bench, load_weights, made = bench_of(tiny), LoadPlan.load_weights, list[bool]()

    def counted(plan: LoadPlan, **options: Any) -> Model:
        made.append(options["repack"])
        return load_weights(plan, **options)

    machine = replace(inspect_machine({}), available_ram_bytes=available)
    monkeypatch.setattr(LoadPlan, "load_weights", counted)
    monkeypatch.setattr(llama_calibration, "inspect_machine", lambda environ: machine)
    record = calibrated(bench, budget_s=20)
    bench.weights.close()
    assert made == [True] * copies
    assert (record.repacked is not None) == bool(copies)
    assert record.tuning.measured


def test_repacking_that_fails_leaves_what_was_measured(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(plan: LoadPlan, **options: Any) -> Model:
        raise NativeError("out of memory")

    bench = bench_of(tiny)
    monkeypatch.setattr(LoadPlan, "load_weights", fails)
    record = calibrated(bench, budget_s=20)
    bench.weights.close()
    assert record.tuning.measured
    assert record.plain is not None


def test_no_time_left_means_the_defaults_hold(tiny: Path) -> None:
    bench = bench_of(tiny)
    record = calibrated(bench, budget_s=0)
    bench.weights.close()
    assert record == Record(tuning=bench.plan.default_tuning())


def test_the_setting_says_how_long_it_takes() -> None:
    ik = replace(LLAMA_CPP, repacks_in_place=True)
    both = sum(most_seconds(build, again=False, compared=True) for build in (LLAMA_CPP, ik))
    alone = most_seconds(LLAMA_CPP, again=False)
    assert f"(at most {alone} seconds; {both} with ik)" in find_spec("tune").help


@pytest.mark.parametrize(
    ("machine", "measured"),
    [
        (SlowMachine(step_s=0.2), True),
        (SlowMachine(step_s=1.2), True),
        (SlowMachine(step_s=0.2, busy_at=2, times=20), True),
        (SlowMachine(step_s=0.2, busy_at=0.3, times=100), False),
        (SlowMachine(step_s=30), False),
    ],
    ids=["as usual", "slow", "busy in the middle", "very busy from the beginning", "of no use"],
)
def test_it_takes_no_longer_than_was_announced(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: SlowMachine, measured: bool
) -> None:
    """But for a single step, which is not broken off."""
    trials = Trials(tmp_path)
    machine.compute(monkeypatch)
    trials.tuner = replace(trials.tuner, announce=machine.announce, clock=machine.clock)
    first, again = (trials.load(tiny) for _time in range(2))
    first.close()
    again.close()
    (deadline,) = machine.deadlines
    assert machine.now <= deadline + machine.longest_s
    (record,) = trials.records()
    assert json.loads(record.read_text(encoding="utf-8"))["measured"] == measured
    assert any(line.endswith(": no time left") for line in trials.lines)
    assert [note.partition(". ")[2] for note in first.notes] == [AGAIN] * (not measured)
    assert again.notes == ()


def test_what_is_not_measured_is_estimated_between_its_neighbours() -> None:
    between = llama_calibration._between
    assert between(8, {}) == 1.0
    assert between(8, {5: 1.2, 16: 1.0}) == pytest.approx(1.1)
    assert between(8, {2: 0.7, 5: 1.2, 8: 1.5, 16: 1.0}) == 1.5
    assert between(32, {2: 0.7, 5: 1.2, 16: 0.9}) == 0.9


@pytest.mark.parametrize(("cpus", "expected"), [(2, []), (4, [4]), (64, [64])])
def test_no_more_threads_are_tried_than_may_run(
    monkeypatch: pytest.MonkeyPatch, cpus: int, expected: list[int]
) -> None:
    """However many processors a machine has, of which a container may use two."""
    monkeypatch.setattr(llama_calibration, "usable_physical_cores", lambda: 2)
    monkeypatch.setattr(llama_calibration, "usable_cpus", lambda: cpus)
    assert llama_calibration._thread_candidates(2) == expected


def test_the_key_names_model_machine_and_settings(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_tiny(tmp_path / "other.gguf", seed=2)
    keys = {tuning_key(tiny), tuning_key(other), tuning_key(tiny, "q8_0")}
    assert len(keys) == 3
    assert tuning_key(tiny) == tuning_key(tiny)
    # What was measured with every processor would make threads wait for each other on some of them.
    monkeypatch.setattr("tanuki_cli.engines.llama_cpp.tuning.usable_cpus", lambda: 1000)
    assert tuning_key(tiny) not in keys
