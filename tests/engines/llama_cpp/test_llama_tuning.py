"""How a model runs best here: measured once, remembered, and never in the way."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp import calibration as llama_calibration
from tanuki_cli.engines.llama_cpp import loader as llama_cpp
from tanuki_cli.engines.llama_cpp.calibration import CONTEXT_LENGTH, Bench, calibrate
from tanuki_cli.engines.llama_cpp.drafting import LENGTHS
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel, load_llama_cpp
from tanuki_cli.engines.llama_cpp.native import Model
from tanuki_cli.engines.llama_cpp.plan import plan_load
from tanuki_cli.engines.llama_cpp.tuning import Tuner, Tuning, TuningStore, default_tuning, tuning_key
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.settings.values import Settings
from tests.support.llama_models import GREEDY, PROMPT, load, write_tiny

TUNING = Tuning(
    threads=3, prompt_threads=4, n_batch=512, repack=True, draft_costs=((1, 1.0), (16, 6.5)), measured=True
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(autouse=True)
def measure_small_models_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "SMALL_MODEL_BYTES", 0)


class Trials:
    """A tuner that counts what it is told."""

    def __init__(self, folder: Path, *, announces: bool = True, again: bool = False) -> None:
        self.announced = 0
        self.names: list[str] = []
        self.store = TuningStore(folder)
        self.tuner = Tuner(
            store=self.store,
            announce=self._announce if announces else None,
            report=lambda name, seconds: self.names.append(name),
            again=again,
        )

    def _announce(self) -> None:
        self.announced += 1

    def load(self, path: Path) -> LlamaCppModel:
        local = LocalModel(name="tiny", format="gguf", path=path)
        settings = Settings(context_length=512)
        return load_llama_cpp(local, settings, debug=False, tuner=self.tuner)

    def records(self) -> list[Path]:
        return sorted(self.store.folder.glob("*")) if self.store.folder.exists() else []


def test_a_record_comes_back(tmp_path: Path) -> None:
    store = TuningStore(tmp_path / "tuning")
    assert store.find("key") is None
    assert store.save("key", TUNING)
    assert store.find("key") == TUNING
    assert store.find("other") is None


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
        lambda text: text.replace("16", "18"),
    ],
)
def test_a_damaged_record_is_none(tmp_path: Path, damage: Callable[[str], str]) -> None:
    store = TuningStore(tmp_path)
    store.save("key", TUNING)
    path = tmp_path / "key.json"
    text = path.read_text(encoding="utf-8")
    assert damage(text) != text
    path.write_text(damage(text), encoding="utf-8")
    assert store.find("key") is None


def test_a_folder_that_cannot_be_written_is_only_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = TuningStore(tmp_path / "file")
    assert not store.save("key", TUNING)
    assert store.find("key") is None


def test_measured_at_the_first_load_only(tiny: Path, tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    first = trials.load(tiny)
    assert trials.announced == 1
    assert any(name.startswith("one token,") for name in trials.names)
    (record,) = trials.records()
    found = json.loads(record.read_text(encoding="utf-8"))
    assert found["measured"]
    assert {size for size, _cost in found["draft_costs"]} == {1, *(length + 1 for length in LENGTHS)}
    ids = list(islice(token_ids(first.generate(PROMPT, GREEDY)), 20))
    first.close()
    again = trials.load(tiny)
    assert trials.announced == 1
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
    assert trials.announced == 2
    monkeypatch.setattr("tanuki_cli.engines.llama_cpp.tuning.cpu_name", lambda: "another processor")
    trials.load(tiny).close()
    assert trials.announced == 3
    assert len(trials.records()) == 3


def test_asked_for_again(tiny: Path, tmp_path: Path) -> None:
    Trials(tmp_path).load(tiny).close()
    trials = Trials(tmp_path, again=True)
    trials.load(tiny).close()
    assert trials.announced == 1


def test_nothing_is_measured_where_nobody_is_told(tiny: Path, tmp_path: Path) -> None:
    trials = Trials(tmp_path, announces=False)
    trials.load(tiny).close()
    assert trials.names == []
    assert trials.records() == []


def test_ctrl_c_skips_it_for_good(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    trials = Trials(tmp_path)
    monkeypatch.setattr(trials, "_announce", lambda: None)
    tuner = replace(trials.tuner, report=lambda name, seconds: signal.raise_signal(signal.SIGINT))
    local = LocalModel(name="tiny", format="gguf", path=tiny)
    load_llama_cpp(local, Settings(context_length=512), debug=False, tuner=tuner).close()
    (record,) = trials.records()
    assert not json.loads(record.read_text(encoding="utf-8"))["measured"]
    trials.load(tiny).close()
    assert len(trials.records()) == 1
    assert trials.names == []


def bench_of(path: Path, *, available: int) -> tuple[Bench, Model]:
    loaded = load(path)
    facts = loaded.facts
    loaded.close()
    weights = Model(path, gpu_layers=0, repack=False)
    bench = Bench(
        weights=weights,
        path=path,
        facts=facts,
        params=partial(plan_load(Settings(), facts).context_params, gpu_layers=0, length=CONTEXT_LENGTH),
        gpu_layers=0,
        available_bytes=available,
    )
    return bench, weights


@pytest.mark.parametrize(("available", "copies"), [(1 << 40, 1), (0, 0)], ids=["fits", "does not fit"])
def test_repacking_is_tried_only_where_a_second_copy_fits(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, available: int, copies: int
) -> None:
    bench, weights = bench_of(tiny, available=available)
    made: list[bool] = []

    class Counted(Model):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append(options["repack"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(llama_calibration, "Model", Counted)
    tuning = calibrate(bench, default_tuning(bench.facts, gpu=False), should_stop=lambda: False)
    weights.close()
    assert made == [True] * copies
    assert tuning.measured


def test_no_time_left_means_the_defaults_hold(tiny: Path) -> None:
    bench, weights = bench_of(tiny, available=0)
    start = default_tuning(bench.facts, gpu=False)
    tuning = calibrate(bench, start, should_stop=lambda: False, budget_s=0)
    weights.close()
    assert replace(tuning, measured=False) == start


def test_the_key_names_model_machine_and_settings(tiny: Path, tmp_path: Path) -> None:
    other = write_tiny(tmp_path / "other.gguf", seed=2)
    keys = {tuning_key(tiny), tuning_key(other), tuning_key(tiny, "q8_0")}
    assert len(keys) == 3
    assert tuning_key(tiny) == tuning_key(tiny)
