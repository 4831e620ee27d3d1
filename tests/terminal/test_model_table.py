"""The table of ``tanuki models`` on machines that are not at hand."""

import io

import pytest

from tanuki_cli.catalog.engines import Engines, MemoryPlan
from tanuki_cli.i18n import activate
from tanuki_cli.machine.gpus import Gpu
from tanuki_cli.machine.hardware import Machine
from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.model_table import list_models, print_models
from tanuki_cli.terminal.streams import Streams
from tests.support.engines import ALL, PLAIN

GB = 10**9
CARD = Gpu(name="Card", total_bytes=24 * GB, free_bytes=24 * GB)
SMALL = Machine(ram_bytes=8 * GB, available_ram_bytes=5 * GB, physical_cores=4)
LARGE = Machine(ram_bytes=64 * GB, available_ram_bytes=50 * GB, physical_cores=8, gpus=(CARD, CARD))


def table(machine: Machine, installed: Engines) -> dict[str, str]:
    """What stands behind each model's name, and the notes by their numbers."""
    out = io.StringIO()
    streams = Streams(stdin=io.StringIO(), stdout=out, stderr=io.StringIO())
    listing = list_models((), machine, installed, MemoryPlan(context_length=4096), remote_sizes={})
    print_models(Console(streams, {"COLUMNS": "200"}), listing, all_models=True)
    lines = [line.replace("★", " ").split(None, 1) for line in out.getvalue().splitlines() if line.strip()]
    return {line[0]: line[-1] for line in lines}


def test_what_is_too_large_is_not_what_an_engine_is_installed_for() -> None:
    rows = table(SMALL, PLAIN)
    assert "too large" in rows["tanuki-8b:full"]
    assert "needs CUDA" in rows["tanuki-8x8b:awq"]
    assert "llama.cpp, CPU" in rows["tanuki-8b:q2_k"]
    assert not any("pip install" in text for text in rows.values())


@pytest.mark.parametrize("language", ["en", "ja"])
def test_an_engine_that_would_help_is_in_a_note(language: str) -> None:
    activate("ja" if language == "ja" else "en")
    rows = table(LARGE, PLAIN)
    assert "– 1)" in rows["tanuki-8b:full"]
    assert "– 2)" in rows["tanuki-8b:awq"]
    assert "[transformers]" in rows["1)"]
    assert "[quantized]" in rows["2)"]


def test_every_place_is_named() -> None:
    rows = table(LARGE, ALL)
    assert "transformers, GPU" in rows["tanuki-8b:full"]
    assert "llama.cpp, GPU" in rows["tanuki-8b:q4_k_m"]
    assert "transformers, GPU" in rows["tanuki-8x8b:awq"]
    assert "too large" in rows["tanuki-8x8b:full"]
    assert "refused" in rows["tanuki-8x8b:q…"]
