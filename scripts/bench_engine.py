"""The engine's figures for scripts/bench_peers.py, from one process; prints JSON.

python -m scripts.bench_engine MODEL STORE PROMPT_TOKENS HISTORY_TOKENS ENGINE
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from unittest.mock import patch

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.llama_cpp.drafting import MAX_MATCH, Guess, NgramIndex
from tanuki_cli.engines.llama_cpp.kv_store import KvStore
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel, load_llama_cpp
from tanuki_cli.engines.llama_cpp.picking import Picker
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

GREEDY = SamplingOptions(temperature=0.0, seed=0)
DECODED = 32
REPEATED = 128
MISLED = 3
"""Quotes that go on otherwise than what they quote, before a text repeats it for good."""
QUOTED, OWN = 45, 8
SHORT_HISTORY = 64
SECOND_TURN = 32
"""Tokens that a second turn computes."""


def times(
    model: LlamaCppModel, prompt: Sequence[int], count: int, options: SamplingOptions = GREEDY
) -> tuple[list[float], list[int]]:
    """Seconds until each of ``count`` ids came, and the ids."""
    seconds, ids, before = [], [], time.perf_counter()
    with closing(token_ids(model.generate(prompt, options))) as generator:
        for id_ in islice(generator, count):
            seconds.append(time.perf_counter() - before)
            ids.append(id_)
            before = time.perf_counter()
    return seconds, ids


def varied(model: LlamaCppModel, count: int, seed: int) -> list[int]:
    """Ids without repeated runs, so that nothing can be guessed."""
    kinds = min(5000, model.facts.n_vocab - 300)
    return [1, *(300 + (seed * 7919 + index * index * 31 + index) % kinds for index in range(count - 1))]


def repeat_speed(model: LlamaCppModel, prompt: list[int]) -> float:
    """Tokens per second where the answer repeats its context.

    Random weights never repeat anything, and round so much that they do not even say the same thing
    twice in other batches. So an answer is forced on them: everything is computed, sampled and compared
    as always, but what counts as sampled is the answer of a first run, and the draft knows it.
    """
    model.speculative = False
    _seconds, answer = times(model, prompt, REPEATED)
    model.speculative = True

    class Known(NgramIndex):
        def guess(self) -> Guess:
            return Guess(len(self.ids) - len(prompt), MAX_MATCH)

        def draft(self, guess: Guess, length: int) -> list[int]:
            return [*answer, *answer][guess.start : guess.start + length]

    with patch("tanuki_cli.engines.llama_cpp.picking.NgramIndex", Known):
        seconds = forced(model, prompt, [*answer, *answer], REPEATED)
    return (len(seconds) - 1) / sum(seconds[1:])


def late_speed(model: LlamaCppModel, prompt: list[int]) -> float:
    """Tokens per second where the answer quotes its context several times, each time going on otherwise,
    and then repeats it: of that last part, with the drafts that are really made."""
    own = iter(range(model.facts.n_vocab - MISLED * OWN, model.facts.n_vocab))
    answer: list[int] = []
    for start in range(MISLED):
        answer += [*prompt[1 + start : 1 + start + QUOTED], *(next(own) for _id in range(OWN))]
    early = len(answer)
    answer += prompt[1 : 1 + REPEATED]
    model.speculative = True
    seconds = forced(model, prompt, [*answer, 2], len(answer))[early:]
    return len(seconds) / sum(seconds)


def forced(
    model: LlamaCppModel,
    prompt: list[int],
    answer: Sequence[int],
    count: int,
    options: SamplingOptions = GREEDY,
) -> list[float]:
    """Seconds until each of ``count`` ids of ``answer`` came, which is taken for what was sampled."""

    def pick(picker: Picker, index: int = -1) -> tuple[Token, int]:
        picker._chooser.sampler.sample(picker._cache.context, index)
        return Token(answer[len(picker.text.ids) - len(prompt)]), 0

    with patch.object(Picker, "pick", pick):
        return times(model, prompt, count, options)[0]


def main() -> None:
    """Measure prompt, answer, second turn, resume."""
    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    prompt_tokens, history_tokens = int(sys.argv[3]), int(sys.argv[4])
    local, settings = LocalModel(name="bench", format="gguf", path=path), Settings(engine=sys.argv[5])
    model = load_llama_cpp(local, settings, debug=False, kv_store=KvStore(folder))
    model.speculative = False
    seconds, _ids = times(model, varied(model, prompt_tokens, 1), 1 + DECODED)
    result = {"prompt": prompt_tokens / seconds[0], "decode": DECODED / sum(seconds[1:])}
    result["repeat"] = repeat_speed(model, varied(model, 64, 3))
    result["repeat_late"] = late_speed(model, varied(model, 2 * REPEATED, 6))
    model.speculative = False
    if history_tokens:
        result |= after_history(model, local, settings, folder, history_tokens)
    model.close()
    shutil.rmtree(folder)
    sys.stdout.write(json.dumps(result))


def after_history(
    model: LlamaCppModel, local: LocalModel, settings: Settings, folder: Path, history_tokens: int
) -> dict[str, float]:
    """Seconds to the first token: of a second turn after a short prompt, of a long prompt, of a second
    turn after that, and of going on with it in another process, which finds its KV cache on the disk."""
    result = {}
    question = varied(model, SECOND_TURN - 2, 5)
    short = varied(model, SHORT_HISTORY, 4)
    answer = times(model, short, 8)[1]
    result["early_turn"] = times(model, [*short, *answer, 2, *question], 1)[0][0]
    history = varied(model, history_tokens, 2)
    seconds, answer = times(model, history, 8)
    result["recompute"] = seconds[0]
    # The last token of an answer is computed only now.
    result["second_turn"] = times(model, [*history, *answer, 2, *question], 1)[0][0]
    model.close()
    resumed = load_llama_cpp(local, settings, debug=False, kv_store=KvStore(folder))
    result["resume"] = times(resumed, [*history, *answer, 2, 8, 8], 1)[0][0]
    if resumed.cached_tokens < len(history):
        raise RuntimeError("the history was not resumed")
    resumed.close()
    return result


if __name__ == "__main__":
    main()
