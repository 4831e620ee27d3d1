"""Several answers at once in a process of its own: tokens per second, ids in and ids out.

    python -m scripts.bench_parallel MODEL PROMPT_TOKENS ANSWER_TOKENS PLACES… [--engine ik] [--repack]

Prints one JSON object: for every number of places the speed of the answers alone, and that of prompts and
answers together, as llama-batched-bench counts them.
"""

import argparse
import json
import time
from pathlib import Path

from msgspec.structs import replace

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp.drafting import CPU_COSTS
from tanuki_cli.engines.llama_cpp.facts import model_facts
from tanuki_cli.engines.llama_cpp.gguf import read_gguf
from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
from tanuki_cli.engines.llama_cpp.parallel import LlamaCppParallel
from tanuki_cli.engines.llama_cpp.tuning import Record, Tuner, Tuning, TuningStore, default_tuning
from tanuki_cli.engines.token_model import Request
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

GREEDY = SamplingOptions(temperature=0.0, seed=0)
WARM_UP = 4


class Fixed(TuningStore, frozen=True):
    """Knows one way to run every model: ``tuning``."""

    tuning: Tuning

    def find(self, key: str) -> Record:
        """That one."""
        return Record(tuning=self.tuning)


def speeds(
    path: Path, prompt_tokens: int, answer_tokens: int, places: int, *, engine: str, repack: bool
) -> dict[str, float]:
    """Tokens per second with ``places`` requests, all there from the beginning."""
    local = LocalModel(name="bench", format="gguf", path=path)
    facts = model_facts(read_gguf(path))
    tuning = replace(default_tuning(facts, costs=CPU_COSTS), repack=repack)
    tuner = Tuner(store=Fixed(Path(), tuning)) if repack else None
    settings = Settings(context_length=max(512, prompt_tokens + answer_tokens + WARM_UP), engine=engine)
    model = load_llama_cpp(local, settings, debug=False, facts=facts, tuner=tuner).parallel(places)
    try:
        run(model, WARM_UP, WARM_UP, 0)
        started = time.perf_counter()
        answers_s, answers = run(model, prompt_tokens, answer_tokens, 1)
        whole_s = time.perf_counter() - started
    finally:
        model.close()
    return {
        f"answers_{places}": answers / answers_s,
        f"total_{places}": places * (prompt_tokens + answer_tokens) / whole_s,
    }


def run(model: LlamaCppParallel, prompt_tokens: int, answer_tokens: int, start: int) -> tuple[float, int]:
    """Seconds in which all requests got tokens and no prompt was read any more, and how many tokens."""
    counts: dict[Request, int] = {}
    for place in range(model.places):
        ids = [300 + (start + 7 * index + 13 * place) % 600 for index in range(prompt_tokens)]
        request = Request(prompt_ids=[2 + place, *ids[1:]], options=GREEDY)
        counts[request] = 0
        model.add(request)
    seconds, tokens = 0.0, 0
    while any(count < answer_tokens for count in counts.values()):
        all_answer = all(counts.values())
        before = time.perf_counter()
        outcomes = model.step()
        if all_answer:
            seconds += time.perf_counter() - before
            tokens += len(outcomes)
        for request, _token, _error in outcomes:
            counts[request] += 1
            if counts[request] == answer_tokens:
                model.drop(request)
    return seconds, tokens


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("prompt_tokens", type=int)
    parser.add_argument("answer_tokens", type=int)
    parser.add_argument("places", type=int, nargs="+")
    parser.add_argument("--engine", choices=("llama.cpp", "ik"), default="llama.cpp")
    parser.add_argument("--repack", action="store_true", help="rearrange the weights for the CPU")
    given = parser.parse_args()
    result: dict[str, float] = {}
    for places in given.places:
        result |= speeds(
            given.model,
            given.prompt_tokens,
            given.answer_tokens,
            places,
            engine=given.engine,
            repack=given.repack,
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
