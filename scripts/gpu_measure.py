"""The measurements of scripts/gpu_check.py, one part in a process: agreement with the CPU, speed, memory.

Speed is that of random weights in Tanuki-8B's shape: llama.cpp on Q4_K_M, transformers on bfloat16,
compiled bfloat16, and GPTQ and AWQ if gptqmodel is there. A speed is a row of a table in Markdown,
what cannot be measured a sentence.
"""

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import psutil
import torch

from scripts.gpu_check import PARTS, PROMPTS
from scripts.make_synthetic_checkpoint import Layout, write_checkpoint
from scripts.make_synthetic_gguf import Shape, write_model
from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.token_model import TokenModel, token_ids
from tanuki_cli.engines.transformers.loader import COMPILER, TransformersModel, load_transformers
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

GREEDY = SamplingOptions(temperature=0.0, seed=0)
SMALL = Shape(n_embd=256, n_ff=512, n_layer=2, n_head=4, n_kv_head=2, n_vocab=4096, n_pieces=4000)
DECODED = 128
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """``first_token_s`` for each length of PROMPTS; ``memory_bytes`` that the loaded model takes."""

    name: str
    first_token_s: tuple[float, ...]
    tokens_per_s: float
    memory_bytes: int
    read_bytes: int

    def row(self, bandwidth: float) -> str:
        """One row of the table; the limit is reading every weight once a token."""
        first = " | ".join(f"{seconds:.3f}" for seconds in self.first_token_s)
        share = self.tokens_per_s * self.read_bytes / bandwidth
        memory = self.memory_bytes / 1e9
        return f"| {self.name} | {self.tokens_per_s:.1f} | {share:.0%} | {first} | {memory:.1f} |"


def memory_bandwidth(device: str) -> float:
    """Bytes a second that a large copy reads and writes, the median of several."""
    size = 1 << (30 if device == "cuda" else 26)
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    rates = []
    for _repeat in range(REPEATS + 1):
        started = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        rates.append(2 * size / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def used_bytes(device: str) -> int:
    """Memory in use: of all GPUs, which counts every library, or of this process."""
    if device == "cuda":
        pairs = [torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count())]
        return sum(int(total - free) for free, total in pairs)
    return int(psutil.Process().memory_info().rss)


def prompt(length: int, *, vocab_size: int, seed: int) -> list[int]:
    """Random ids after ``<s>``; another seed shares no prefix."""
    generator = torch.Generator().manual_seed(seed)
    return [1, *torch.randint(300, vocab_size, (length - 1,), generator=generator).tolist()]


def measure(
    name: str, load: Callable[[], TokenModel], *, vocab_size: int, read_bytes: int, device: str
) -> Speed:
    """Load, warm up, then time first tokens and a long answer; medians of REPEATS."""
    before = used_bytes(device)
    with closing(load()) as model:
        list(islice(token_ids(model.generate(prompt(50, vocab_size=vocab_size, seed=1), GREEDY)), 20))
        first_token_s = []
        for length in PROMPTS:
            times = []
            for repeat in range(REPEATS):
                ids = prompt(length, vocab_size=vocab_size, seed=100 + length + repeat)
                started = time.perf_counter()
                with closing(token_ids(model.generate(ids, GREEDY))) as answer:
                    next(answer)
                times.append(time.perf_counter() - started)
            first_token_s.append(statistics.median(times))
        rates = [decode_rate(model, vocab_size=vocab_size, seed=repeat) for repeat in range(REPEATS)]
        memory = used_bytes(device) - before
    gc.collect()
    return Speed(
        name=name,
        first_token_s=tuple(first_token_s),
        tokens_per_s=statistics.median(rates),
        memory_bytes=memory,
        read_bytes=read_bytes,
    )


def decode_rate(model: TokenModel, *, vocab_size: int, seed: int) -> float:
    """Tokens a second after the first one, over DECODED tokens."""
    question = prompt(100, vocab_size=vocab_size, seed=1000 + seed)
    with closing(model.generate(question, GREEDY)) as answer:
        next(answer)
        started = time.perf_counter()
        count = sum(1 for _id in islice(answer, DECODED))
        return count / (time.perf_counter() - started)


def ratio_to_generate(model: TransformersModel, network: Any, *, vocab_size: int) -> float:
    """Our tokens a second over those of ``network.generate``, in alternated runs, prompt included.

    The quickest run of each counts: whatever else the machine does can only add to a time.
    """
    device = network.get_input_embeddings().weight.device

    def ours(ids: list[int]) -> None:
        list(islice(token_ids(model.generate(ids, GREEDY)), DECODED))

    def theirs(ids: list[int]) -> None:
        inputs = torch.tensor([ids], device=device)
        network.generate(
            inputs, max_new_tokens=DECODED, do_sample=False, eos_token_id=None, pad_token_id=3
        ).tolist()

    times: dict[Callable[[list[int]], None], list[float]] = {ours: [], theirs: []}
    for repeat in range(REPEATS + 1):
        ids = prompt(100, vocab_size=vocab_size, seed=2000 + repeat)
        for run in (ours, theirs) if repeat % 2 else (theirs, ours):
            started = time.perf_counter()
            run(ids)
            times[run].append(time.perf_counter() - started)
    return min(times[theirs][1:]) / min(times[ours][1:])


def checkpoint(work: Path, shape: Shape, layout: Layout, *, device: str) -> LocalModel:
    """Random weights in ``layout`` under ``work``, written anew only if they are not all there."""
    directory = work / f"synthetic-{layout}-{shape.n_layer}"
    if not (directory / "config.json").exists():  # it is written last
        write_checkpoint(directory, shape, layout, device=device)
    return LocalModel(name=layout, format="safetensors", path=directory)


def transformers_speed(
    work: Path, shape: Shape, settings: Settings, *, layout: Layout, compiled: bool, device: str
) -> Speed | str:
    """transformers on one layout; a sentence if it cannot run here."""
    if layout != "full" and not find_spec("gptqmodel"):
        return f"transformers {layout}: gptqmodel is not installed"
    local = checkpoint(work, shape, layout, device=device)
    embedding = shape.n_vocab * shape.n_embd * 2
    read_bytes = sum(path.stat().st_size for path in local.path.glob("*.safetensors")) - embedding
    name = f"transformers {layout}{' compiled' if compiled else ''}"
    try:
        return measure(
            name,
            lambda: load_transformers(
                local, settings, debug=False, compile_backend=COMPILER if compiled else None
            ),
            vocab_size=shape.n_vocab,
            read_bytes=read_bytes,
            device=device,
        )
    except EngineError as exc:
        return f"{name}: {exc.message}"


def ratio(work: Path, shape: Shape, settings: Settings, *, device: str) -> str:
    """How fast our loop over the full weights is beside ``model.generate``."""
    local = checkpoint(work, shape, "full", device=device)
    with closing(load_transformers(local, settings, debug=False)) as model:
        value = ratio_to_generate(model, model.network, vocab_size=shape.n_vocab)
    return f"transformers full: {value:.3f} times the tokens/s of model.generate, alternated"


def llama_speed(work: Path, shape: Shape, settings: Settings, *, device: str) -> Speed | str:
    """llama.cpp on the synthetic Q4_K_M."""
    from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp

    path = work / f"synthetic-{shape.n_layer}.gguf"
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        write_model(unfinished, shape)
        unfinished.replace(path)
    local = LocalModel(name="synthetic", format="gguf", path=path)
    embedding = shape.n_vocab * shape.n_embd * 144 // 256  # Q4_K: 144 bytes for 256 weights
    try:
        return measure(
            "llama.cpp Q4_K_M",
            lambda: load_llama_cpp(local, settings, debug=False),
            vocab_size=shape.n_vocab,
            read_bytes=path.stat().st_size - embedding,
            device=device,
        )
    except EngineError as exc:
        return f"llama.cpp: {exc.message}"


def agreement(settings: Settings, *, with_llama: bool) -> None:
    """Print the practice model on this device against float32 transformers on the CPU."""
    from scripts import engine_agreement

    skipped: tuple[str, ...] = () if with_llama else ("gguf-",)
    skipped += () if find_spec("gptqmodel") else ("gptq-", "awq")
    engine_agreement.print_table(settings=settings, skipped=skipped)


def describe(device: str) -> str:
    """The machine and its memory bandwidth."""
    if device == "cuda":
        where = " + ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    else:
        where = f"CPU, {os.cpu_count()} cores"
    bandwidth = memory_bandwidth(device) / 1e9
    return f"{where}, {time.strftime('%Y-%m-%d')}, torch {torch.__version__}, copies {bandwidth:.0f} GB/s"


def speed(part: str, work: Path, shape: Shape, settings: Settings, *, device: str) -> Speed | str:
    """One row of the table of speeds."""
    if part == "llama":
        return llama_speed(work, shape, settings, device=device)
    if part == "ratio":
        return ratio(work, shape, settings, device=device)
    layouts: tuple[Layout, ...] = get_args(Layout)
    layout: Layout = next((name for name in layouts if name == part), "full")
    return transformers_speed(
        work, shape, settings, layout=layout, compiled=part == "compiled", device=device
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["device", *PARTS])
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--without-llama", action="store_true")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu_measure: torch sees no CUDA device here")
    options.work.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        gpu_layers=None if options.device == "cuda" else 0,
        threads=1 if options.small else None,  # narrow layers only wait on more
        context_length=4096,
        speculation=False,  # random weights soon repeat themselves, and would be faster than the memory
    )
    if options.part == "device":
        print(f"{describe(options.device)}\n")
    elif options.part == "agreement":
        agreement(settings, with_llama=not options.without_llama)
    else:
        shape = SMALL if options.small else Shape()
        result = speed(options.part, options.work, shape, settings, device=options.device)
        print(result if isinstance(result, str) else result.row(memory_bandwidth(options.device)))


if __name__ == "__main__":
    main()
