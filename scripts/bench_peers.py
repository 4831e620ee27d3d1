"""tanuki beside llama.cpp's own programs, on the same weights and kernels, in alternated runs.

    python -m scripts.bench_peers --work DIR --sdist llama_cpp_python-X.tar.gz
    python -m scripts.bench_peers --work DIR --only cold  these rows only; all of an 8B are hours on two cores
    python -m scripts.bench_peers --work DIR --small      the practice model, once; for CI, asserts nothing

Builds llama-completion (the one-shot program), llama-bench and llama-batched-bench from the source inside
the source distribution of the installed llama-cpp-python, makes the synthetic 8B in DIR, and prints one
table of medians. "Best flags" are flash attention on, repacking off, one thread per physical core. Every
run asks another question, so that of what tanuki keeps on the disk only the head of the prompt is of use,
as it is to anybody who asks something new; and once with nothing kept at all. Where ik_llama.cpp is
installed (the extra ``ik``), tanuki is measured with it, too.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from scripts.make_synthetic_gguf import Shape, make_tokenizer, make_vocabulary, write_model
from scripts.peers import (
    PLACES,
    ROWS_OF_A_BATCH,
    Setup,
    build_programs,
    ours_batch,
    ours_cold,
    ours_company,
    ours_document,
    ours_first,
    ours_speed,
    theirs_cold,
    theirs_company,
    theirs_second_turn,
    theirs_speed,
)
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.llama_cpp.ik_package import require_ik
from tanuki_cli.errors import EngineError
from tanuki_cli.machine.hardware import usable_physical_cores

Measure = Callable[[int], Mapping[str, float]]
IK: Final = "ik"


def memory_bandwidth(threads: int) -> float:
    """Bytes per second that ``threads`` reach together, reading large arrays; the best of five."""
    arrays = [np.ones(1 << 28, dtype=np.uint8).view(np.uint64) for _thread in range(threads)]
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _run in range(5):
            started = time.perf_counter()
            list(pool.map(np.sum, arrays))
            seconds.append(time.perf_counter() - started)
    return sum(array.nbytes for array in arrays) / min(seconds)


def alternate(measures: Mapping[str, Measure], *, runs: int) -> dict[str, dict[str, float]]:
    """Medians of every figure; the contestants take turns, so that a slow minute hits all of them."""
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in measures}
    for run in range(runs):
        for name, measure in measures.items():
            print(f"run {run + 1}/{runs}: {name}", file=sys.stderr, flush=True)
            found[name].append(measure(run))
    return {
        name: {figure: statistics.median(result[figure] for result in results) for figure in results[0]}
        for name, results in found.items()
    }


ROWS: Final = (
    ("cold one-shot, 16 tokens, s", "cold", "wall"),
    ("time to first token, cold, s", "cold", "first"),
    ("cold one-shot, nothing kept, s", "first", "wall"),
    ("time to first token, nothing kept, s", "first", "first"),
    ("Python before the model is loaded, s", "cold", "python"),
    ("peak memory, GB", "cold", "memory"),
    ("prompt, tokens/s", "speed", "prompt"),
    ("decode, tokens/s", "speed", "decode"),
    ("decode repeating the context, tokens/s", "speed", "repeat"),
    ("the same after quotes that went on otherwise, tokens/s", "speed", "repeat_late"),
    *((f"{count} answers at once, tokens/s", "company", f"answers_{count}") for count in PLACES),
    *((f"{count} prompts and answers, tokens/s", "company", f"total_{count}") for count in PLACES),
    (f"{ROWS_OF_A_BATCH} rows of tanuki batch, start to end, answer tokens/s", "batch", "rows"),
    ("second turn after a short text, time to first token, s", "history", "early_turn"),
    ("second turn after the history, time to first token, s", "history", "second_turn"),
    ("recompute of the history, s", "history", "recompute"),
    ("resume of the history, s", "history", "resume"),
    ("first question about a text, time to first token, s", "document", "first_question"),
    ("second question about it, time to first token, s", "document", "second_question"),
)

GROUPS: Final = tuple(dict.fromkeys(group for _title, group, _figure in ROWS))
THEIRS: Final = {"first": "cold", "batch": "company"}
"""Their figure for a group: they keep nothing, and rows of a batch are answers at once to them."""


def print_table(medians: Mapping[str, Mapping[str, float]], bandwidth: float, model: Path) -> None:
    """Markdown: ours on both libraries, theirs at defaults and at best flags, and the ratios."""
    print("| | tanuki | tanuki, ik | llama.cpp defaults | best flags | to defaults | to best | ik to best |")
    print("|---|---|---|---|---|---|---|---|")
    for title, group, figure in ROWS:
        theirs = THEIRS.get(group, group)
        groups = (f"{group} tanuki", f"{group} {IK}", f"{theirs} defaults", f"{theirs} best")
        values = [medians.get(name, {}).get(figure) for name in groups]
        scale = 1e9 if figure == "memory" else 1.0
        if not any(values):
            continue
        texts = ["–" if value is None else f"{value / scale:.3g}" for value in values]
        ours, with_ik, defaults, best = values
        pairs = ((ours, defaults), (ours, best), (with_ik, best))
        ratios = [f"{one / other:.2f}" if one and other else "–" for one, other in pairs]
        print(f"| {' | '.join([title, *texts, *ratios])} |")
    limit = bandwidth / model.stat().st_size
    print(f"\nMemory bandwidth: {bandwidth / 1e9:.1f} GB/s; it allows {limit:.1f} tokens/s.")


def ours(name: str, setup: Setup, work: Path) -> dict[str, Measure]:
    """What tanuki is measured by, with the library of ``setup``; ``work`` is a folder of its own."""
    return {
        f"cold {name}": lambda run: ours_cold(setup, work, run),
        f"first {name}": lambda run: ours_first(setup, work, run),
        f"speed {name}": lambda _run: ours_speed(setup, work / "kv", 0),
        f"batch {name}": lambda run: ours_batch(setup, work, run),
        f"company {name}": lambda _run: ours_company(setup),
    }


def theirs(setup: Setup) -> dict[str, Measure]:
    """The same for llama.cpp's programs."""
    return {
        "cold defaults": lambda run: theirs_cold(setup, (), run),
        "cold best": lambda run: theirs_cold(setup, setup.best, run),
        "speed defaults": lambda _run: theirs_speed(setup, ()),
        "speed best": lambda _run: theirs_speed(setup, setup.best_bench),
        "company defaults": lambda _run: theirs_company(setup, ()),
        "company best": lambda _run: theirs_company(setup, setup.best),
    }


def ik_is_there() -> bool:
    """Whether ik_llama.cpp can be measured; says why not."""
    try:
        require_ik()
    except EngineError as exc:
        print(f"without ik: {exc}", file=sys.stderr)
        return False
    return True


def synthetic_model(folder: Path) -> Path:
    """The synthetic 8B in ``folder``, made if it is not there yet."""
    model = folder / "synthetic-8b-q4_k_m.gguf"
    if not model.exists():
        folder.mkdir(exist_ok=True)
        write_model(model, Shape())
        make_tokenizer(make_vocabulary(Shape().n_pieces)).save(str(folder / "tokenizer.json"))
    return model


def main() -> None:
    """Make what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the model and the programs")
    parser.add_argument("--sdist", type=Path, help="source distribution of llama-cpp-python to build from")
    parser.add_argument("--programs", type=Path, help="folder with llama.cpp's programs")
    parser.add_argument("--small", action="store_true", help="the practice model; only shows that it runs")
    parser.add_argument("--only", action="append", choices=GROUPS, help="these rows; may be repeated")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--history-tokens", type=int, default=2000)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    model = practice_model().path if options.small else synthetic_model(options.work / "synthetic-8b")
    programs = options.programs or (build_programs(options.sdist, options.work) if options.sdist else None)
    setup = Setup(
        model=model,
        programs=programs,
        threads=usable_physical_cores(),
        prompt_tokens=options.prompt_tokens,
        history_tokens=256 if options.small else options.history_tokens,
    )
    setups = {"tanuki": setup} | ({IK: replace(setup, engine=IK)} if ik_is_there() else {})
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        works = {name: Path(scratch) / name for name in setups}
        measures: dict[str, Measure] = {}
        for name, work in works.items():
            work.mkdir()
            measures |= ours(name, setups[name], work)
            measures[f"cold {name}"](-1)  # the head of the prompt is kept from here on
        if programs is not None:
            measures |= theirs(setup)
        groups = set(options.only or GROUPS)
        groups |= {THEIRS[group] for group in groups if group in THEIRS}
        measures = {name: measure for name, measure in measures.items() if name.split()[0] in groups}
        medians = alternate(measures, runs=1 if options.small else options.runs)
        # Minutes each, and compared with nothing but themselves: once.
        for name, work in works.items():
            if "history" in groups:
                history = ours_speed(setups[name], work / "kv", setup.history_tokens)
                medians[f"history {name}"] = dict(history)
            if "document" in groups:
                medians[f"document {name}"] = dict(ours_document(setups[name], work))
        if programs is not None and "history" in groups:
            medians["history defaults"] = dict(theirs_second_turn(setup, ()))
            medians["history best"] = dict(theirs_second_turn(setup, setup.best_bench))
    print_table(medians, memory_bandwidth(setup.threads), model)


if __name__ == "__main__":
    main()
