"""tanuki beside llama.cpp's own programs, on the same weights and kernels, in alternated runs.

    python -m scripts.bench_peers --work DIR --sdist llama_cpp_python-X.tar.gz
    python -m scripts.bench_peers --work DIR --small      the practice model, once; for CI, asserts nothing

Builds llama-completion (the one-shot program), llama-bench and llama-batched-bench from the source inside
the source distribution of the installed llama-cpp-python, makes the synthetic 8B in DIR, and prints one
table of medians. "Best flags" are flash attention on, repacking off, one thread per physical core. Every
run asks another question, so that of what tanuki keeps on the disk only the head of the prompt is of use,
as it is to anybody who asks something new; and once with nothing kept at all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from scripts.bench_engine import SECOND_TURN, SHORT_HISTORY
from scripts.make_synthetic_gguf import Shape, make_tokenizer, make_vocabulary, write_model
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.machine.hardware import usable_physical_cores
from tanuki_cli.tokenizer import ChatTokenizer

QUESTION: Final = "{animal}はどんな動物ですか。住んでいる場所と、よく食べるものを教えてください。"
ANIMALS: Final = ("たぬき", "きつね", "うさぎ", "いたち", "りす", "しか", "くま", "さる", "ねこ", "いぬ")
ANSWER_TOKENS: Final = 16
PROGRAMS: Final = ("llama-completion", "llama-bench", "llama-batched-bench")
PLACES: Final = (1, 4, 16)
"""Answers at once."""
COMPANY_TOKENS: Final = (64, 32)
"""Of the prompt and the answer of each."""
Flags = tuple[str, ...]
Measure = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Where everything is; ``threads`` are the physical cores."""

    model: Path
    programs: Path | None
    threads: int
    prompt_tokens: int
    history_tokens: int

    @property
    def best(self) -> Flags:
        """The best flags of llama.cpp's one-shot program."""
        return ("-fa", "on", "--no-repack", "-t", str(self.threads))

    @property
    def best_bench(self) -> Flags:
        """The same for llama-bench."""
        return ("-fa", "1", "--repack", "0", "-t", str(self.threads))


def build_programs(sdist: Path, work: Path) -> Path:
    """Build llama.cpp's programs once; the folder they are in. Takes ten minutes on two cores."""
    folder = work / "llama.cpp"
    if all((folder / "bin" / program).exists() for program in PROGRAMS):
        return folder / "bin"
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    source = work / sdist.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_SERVER=OFF"]
    options += ["-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_OPENSSL=OFF"]
    subprocess.run(["cmake", "-S", str(source), "-B", str(folder), *options], check=True)
    targets = [argument for program in PROGRAMS for argument in ("--target", program)]
    subprocess.run(["cmake", "--build", str(folder), "-j", str(os.cpu_count() or 1), *targets], check=True)
    return folder / "bin"


def run_timed(command: Sequence[str], **environment: str) -> tuple[dict[str, float], bytes]:
    """Wall seconds, seconds to the first byte on stdout, and peak memory in bytes; and what it wrote."""
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read(1)
        first = time.perf_counter() - started
        output += process.stdout.read()
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024
    return {"wall": wall, "first": first, "memory": float(usage.ru_maxrss * scale)}, output


def question(run: int) -> str:
    """What is asked in the run of that number."""
    return QUESTION.format(animal=ANIMALS[run % len(ANIMALS)])


def ours_cold(setup: Setup, home: Path, run: int) -> Mapping[str, float]:
    """``tanuki ask`` from process start to exit; ``python`` are the seconds before it loads the model."""
    command = [sys.executable, "-m", "tanuki_cli", "ask", "-m", str(setup.model), "--jsonl"]
    command += ["--temperature", "0", "--max-new-tokens", str(ANSWER_TOKENS), question(run)]
    result, output = run_timed(command, TANUKI_HOME=str(home))
    timings = json.loads(output.splitlines()[-1])["timings"]
    return result | {"python": result["first"] - timings["load_s"] - timings["ttft_s"]}


def ours_first(setup: Setup, work: Path, run: int) -> Mapping[str, float]:
    """The same as the very first thing on a machine: nothing is kept yet."""
    with tempfile.TemporaryDirectory(dir=work) as home:
        return ours_cold(setup, Path(home), run)


def ours_document(setup: Setup, home: Path) -> Mapping[str, float]:
    """Seconds to the first token of two questions about one text, in processes of their own."""
    tokenizer = ChatTokenizer.from_reference(setup.model.with_name("tokenizer.json"))
    lines: list[str] = []
    while len(tokenizer.encode(text := "\n".join(lines))) < setup.history_tokens:
        lines.append(
            f"{len(lines)}番目の{ANIMALS[len(lines) % len(ANIMALS)]}は、森の{len(text)}か所で見つかりました。"
        )
    document = home / "document.txt"
    document.write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "tanuki_cli",
        "ask",
        "-m",
        str(setup.model),
        "--jsonl",
        "-f",
        str(document),
    ]
    command += ["--temperature", "0", "--max-new-tokens", str(ANSWER_TOKENS)]
    first, again = (run_timed([*command, question(run)], TANUKI_HOME=str(home))[0] for run in range(2))
    return {"first_question": first["first"], "second_question": again["first"]}


def theirs_cold(setup: Setup, flags: Flags, run: int) -> Mapping[str, float]:
    """llama.cpp's one-shot program on the same text in Tanuki's format."""
    from tanuki_cli.conversation import Message
    from tanuki_cli.prompt import segments

    text = segments([Message("user", question(run))])[0]
    command = [str((setup.programs or Path()) / "llama-completion"), "-m", str(setup.model), "-p", text]
    command += ["-n", str(ANSWER_TOKENS), "--temp", "0", "-no-cnv", "--no-display-prompt", "--ignore-eos"]
    return run_timed([*command, "-c", "4096", *flags])[0]


def theirs_speed(setup: Setup, flags: Flags) -> Mapping[str, float]:
    """llama-bench: tokens per second of a prompt and of an answer."""
    command = [str((setup.programs or Path()) / "llama-bench"), "-m", str(setup.model), "-o", "json"]
    command += ["-p", str(setup.prompt_tokens), "-n", "32", "-r", "1", *flags]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    results = json.loads(output)
    return {("prompt" if entry["n_prompt"] else "decode"): entry["avg_ts"] for entry in results}


def theirs_second_turn(setup: Setup, flags: Flags) -> Mapping[str, float]:
    """llama-bench: seconds for a second turn's tokens in the midst of a long chat, and of a short one."""
    command = [str((setup.programs or Path()) / "llama-bench"), "-m", str(setup.model), "-o", "json"]
    command += ["-p", str(SECOND_TURN), "-n", "0", "-r", "1", *flags]
    result = {}
    for figure, depth in (("early_turn", SHORT_HISTORY), ("second_turn", setup.history_tokens)):
        output = subprocess.run(
            [*command, "-d", str(depth)], stdout=subprocess.PIPE, check=True, encoding="utf-8"
        ).stdout
        result[figure] = SECOND_TURN / json.loads(output)[0]["avg_ts"]
    return result


def ours_speed(setup: Setup, store: Path, history_tokens: int) -> Mapping[str, float]:
    """The engine in a process of its own; see :mod:`scripts.bench_engine`."""
    command = [sys.executable, "-m", "scripts.bench_engine", str(setup.model), str(store)]
    command += [str(setup.prompt_tokens), str(history_tokens)]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    return dict(json.loads(output))


def ours_company(setup: Setup) -> Mapping[str, float]:
    """Several answers at once; see :mod:`scripts.bench_parallel`."""
    command = [sys.executable, "-m", "scripts.bench_parallel", str(setup.model)]
    command += map(str, (*COMPANY_TOKENS, *PLACES))
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    return dict(json.loads(output))


def theirs_company(setup: Setup, flags: Flags) -> Mapping[str, float]:
    """llama-batched-bench: the same, without a token being chosen."""
    prompt_tokens, answer_tokens = COMPANY_TOKENS
    command = [str((setup.programs or Path()) / "llama-batched-bench"), "-m", str(setup.model)]
    command += ["-npp", str(prompt_tokens), "-ntg", str(answer_tokens), "-npl", ",".join(map(str, PLACES))]
    command += ["-c", str(max(PLACES) * 512), "--output-format", "jsonl", *flags]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    result = {}
    for line in output.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            result[f"answers_{entry['pl']}"] = entry["speed_tg"]
            result[f"total_{entry['pl']}"] = entry["speed"]
    return result


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
    ("second turn after a short text, time to first token, s", "history", "early_turn"),
    ("second turn after the history, time to first token, s", "history", "second_turn"),
    ("recompute of the history, s", "history", "recompute"),
    ("resume of the history, s", "history", "resume"),
    ("first question about a text, time to first token, s", "document", "first_question"),
    ("second question about it, time to first token, s", "document", "second_question"),
)


def print_table(medians: Mapping[str, Mapping[str, float]], bandwidth: float, model: Path) -> None:
    """Markdown: ours, theirs at defaults and at best flags, and the ratios."""
    print("| | tanuki | llama.cpp defaults | best flags | ratio to defaults | ratio to best |")
    print("|---|---|---|---|---|---|")
    for title, group, figure in ROWS:
        theirs = "cold" if group == "first" else group  # they keep nothing: one figure for both
        groups = (f"{group} tanuki", f"{theirs} defaults", f"{theirs} best")
        values = [medians.get(name, {}).get(figure) for name in groups]
        scale = 1e9 if figure == "memory" else 1.0
        texts = ["–" if value is None else f"{value / scale:.3g}" for value in values]
        ratios = ["–" if not value or not values[0] else f"{values[0] / value:.2f}" for value in values[1:]]
        print(f"| {' | '.join([title, *texts, *ratios])} |")
    limit = bandwidth / model.stat().st_size
    print(f"\nMemory bandwidth: {bandwidth / 1e9:.1f} GB/s; it allows {limit:.1f} tokens/s.")


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
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        measures: dict[str, Measure] = {
            "cold tanuki": lambda run: ours_cold(setup, Path(scratch), run),
            "first tanuki": lambda run: ours_first(setup, Path(scratch), run),
            "speed tanuki": lambda _run: ours_speed(setup, Path(scratch) / "kv", 0),
            "company tanuki": lambda _run: ours_company(setup),
        }
        if programs is not None:
            measures["cold defaults"] = lambda run: theirs_cold(setup, (), run)
            measures["cold best"] = lambda run: theirs_cold(setup, setup.best, run)
            measures["speed defaults"] = lambda _run: theirs_speed(setup, ())
            measures["speed best"] = lambda _run: theirs_speed(setup, setup.best_bench)
            measures["company defaults"] = lambda _run: theirs_company(setup, ())
            measures["company best"] = lambda _run: theirs_company(setup, setup.best)
        measures["cold tanuki"](-1)  # the head of the prompt is kept from here on
        medians = alternate(measures, runs=1 if options.small else options.runs)
        # Minutes each, and compared with nothing but themselves: once.
        medians["history tanuki"] = dict(ours_speed(setup, Path(scratch) / "kv", setup.history_tokens))
        medians["document tanuki"] = dict(ours_document(setup, Path(scratch)))
        if programs is not None:
            medians["history defaults"] = dict(theirs_second_turn(setup, ()))
            medians["history best"] = dict(theirs_second_turn(setup, setup.best_bench))
    print_table(medians, memory_bandwidth(setup.threads), model)


if __name__ == "__main__":
    main()
