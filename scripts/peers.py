"""What each contestant of bench_peers.py is measured by: tanuki, on both libraries, and llama.cpp's programs.

Every function returns figures by name; times are seconds, speeds tokens per second.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench_engine import SECOND_TURN, SHORT_HISTORY
from tanuki_cli.conversation import Message
from tanuki_cli.prompt import segments
from tanuki_cli.tokenizer import ChatTokenizer

QUESTION: Final = "{animal}はどんな動物ですか。住んでいる場所と、よく食べるものを教えてください。"
ANIMALS: Final = ("たぬき", "きつね", "うさぎ", "いたち", "りす", "しか", "くま", "さる", "ねこ", "いぬ")
ANSWER_TOKENS: Final = 16
OPTIONS: Final = ("--temperature", "0", "--max-new-tokens", str(ANSWER_TOKENS))
PROGRAMS: Final = ("llama-completion", "llama-bench", "llama-batched-bench")
PLACES: Final = (1, 4, 16)
"""Answers at once."""
ROWS_OF_A_BATCH: Final = max(PLACES)
COMPANY_TOKENS: Final = (64, 32)
"""Of the prompt and the answer of each."""
Flags = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Where everything is; ``threads`` are the physical cores, ``engine`` is the library that tanuki uses."""

    model: Path
    programs: Path | None
    threads: int
    prompt_tokens: int
    history_tokens: int
    engine: str = "llama.cpp"

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


def tanuki(setup: Setup, command: str) -> list[str]:
    """The beginning of a command line that answers with the same options in every contest."""
    model = ("-m", str(setup.model), "--engine", setup.engine)
    return [sys.executable, "-m", "tanuki_cli", command, *model, *OPTIONS]


def ours_cold(setup: Setup, home: Path, run: int) -> Mapping[str, float]:
    """``tanuki ask`` from process start to exit; ``python`` are the seconds before it loads the model."""
    command = [*tanuki(setup, "ask"), "--jsonl", question(run)]
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
    command = [*tanuki(setup, "ask"), "--jsonl", "-f", str(document)]
    first, again = (run_timed([*command, question(run)], TANUKI_HOME=str(home))[0] for run in range(2))
    return {"first_question": first["first"], "second_question": again["first"]}


def theirs_cold(setup: Setup, flags: Flags, run: int) -> Mapping[str, float]:
    """llama.cpp's one-shot program on the same text in Tanuki's format."""
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
    command += [str(setup.prompt_tokens), str(history_tokens), setup.engine]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    return dict(json.loads(output))


def ours_batch(setup: Setup, home: Path, run: int) -> Mapping[str, float]:
    """``tanuki batch`` with sixteen rows, from process start to exit: tokens of all answers per second."""
    rows, answers = home / "rows.txt", home / f"answers-{setup.engine}-{run}.jsonl"
    rows.write_text("".join(f"{question(row)}{row}\n" for row in range(ROWS_OF_A_BATCH)), encoding="utf-8")
    result, _output = run_timed(
        [*tanuki(setup, "batch"), str(rows), "-o", str(answers)], TANUKI_HOME=str(home)
    )
    found = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    tokens = sum(int(row["usage"]["completion_tokens"]) for row in found)
    return {"rows": tokens / result["wall"]}


def ours_company(setup: Setup) -> Mapping[str, float]:
    """Several answers at once; see :mod:`scripts.bench_parallel`."""
    command = [sys.executable, "-m", "scripts.bench_parallel", str(setup.model)]
    command += [*map(str, (*COMPANY_TOKENS, *PLACES)), "--engine", setup.engine]
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
            result["rows"] = entry["pl"] * entry["tg"] / entry["t"]
    return result
