"""Several answers at once in a process of its own: tokens per second, ids in and ids out.

    python -m scripts.bench_parallel MODEL PROMPT_TOKENS ANSWER_TOKENS PLACES…

Prints one JSON object: for every number of places the speed of the answers alone, and that of prompts and
answers together, as llama-batched-bench counts them.
"""

import json
import sys
import time
from pathlib import Path

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
from tanuki_cli.engines.llama_cpp.parallel import LlamaCppParallel
from tanuki_cli.engines.token_model import Request
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

GREEDY = SamplingOptions(temperature=0.0, seed=0)
WARM_UP = 4


def speeds(path: Path, prompt_tokens: int, answer_tokens: int, places: int) -> dict[str, float]:
    """Tokens per second with ``places`` requests, all there from the beginning."""
    local = LocalModel(name="bench", format="gguf", path=path)
    context_length = max(512, prompt_tokens + answer_tokens + WARM_UP)
    model = load_llama_cpp(local, Settings(context_length=context_length), debug=False).parallel(places)
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
    path, prompt_tokens, answer_tokens = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    result: dict[str, float] = {}
    for places in map(int, sys.argv[4:]):
        result |= speeds(path, prompt_tokens, answer_tokens, places)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
