"""How fast a local model is on this machine, by running it."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from msgspec import Struct, to_builtins

from tanuki_cli.engines.llama_cpp.kv_store import KvStore
from tanuki_cli.engines.token_model import TokenModel, token_ids
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import peak_memory_bytes
from tanuki_cli.sampling import SamplingOptions

RUNS: Final = 3
_PROMPT_TOKENS: Final = 512
_QUESTION_TOKENS: Final = 64
_ANSWER_TOKENS: Final = 64
_FEWEST: Final = 8
"""A prompt's last ids are never computed fewer at a time."""
_FIRST_FREE_ID: Final = 20
_PHRASE: Final = tuple(range(200, 232))
_GREEDY: Final = SamplingOptions(temperature=0.0, seed=0)


class Speed(Struct, frozen=True, kw_only=True):
    """What was measured, medians of several runs: seconds, tokens per second, bytes.

    ``first_token_s`` is the time to the first token of a question of ``question_tokens`` (a short one
    with the system prompt), ``next_turn_s`` that of a second turn after ``prompt_tokens`` and an answer,
    ``resume_s`` that of going on with it from the KV cache on disk (None for an engine without one).
    ``repeat_tokens_per_s`` is the speed of an answer to a text that repeats itself.
    """

    model: str
    engine: str
    device: str
    load_s: float
    question_tokens: int
    first_token_s: float
    prompt_tokens: int
    prompt_tokens_per_s: float
    answer_tokens: int
    answer_tokens_per_s: float
    repeat_tokens_per_s: float
    next_turn_s: float
    resume_s: float | None
    memory_bytes: int


def measure_speed(
    model: TokenModel, *, load_s: float, progress: Callable[[str], None] = lambda text: None
) -> Speed:
    """Run ``model`` and report. ``progress`` is told what is being measured.

    Token ids are arbitrary: how long a step takes does not depend on them.
    """
    figures: dict[str, list[float]] = {name: [] for name in ("first", "prompt", "answer", "repeat", "turn")}
    prompt_tokens = min(_PROMPT_TOKENS, model.context_length // 2)
    answer_tokens = min(_ANSWER_TOKENS, model.context_length // 4)
    for run in range(RUNS):
        progress(_("run {number} of {count}").format(number=run + 1, count=RUNS))
        # Another first id each time: nothing of the run before is in the cache.
        question = [_FIRST_FREE_ID + run, *_ids(_QUESTION_TOKENS - 1)]
        figures["first"].append(_timed(model, question, 1)[0][0])
        repeating = [_FIRST_FREE_ID + RUNS + run, *islice(cycle(_PHRASE), prompt_tokens // 2)]
        figures["repeat"].append(_rate(_timed(model, repeating, answer_tokens)[0]))
        prompt = [_FIRST_FREE_ID + 2 * RUNS + run, *_ids(prompt_tokens - 1)]
        seconds, answer = _timed(model, prompt, answer_tokens)
        figures["prompt"].append(prompt_tokens / seconds[0])
        figures["answer"].append(_rate(seconds))
        figures["turn"].append(_timed(model, [*prompt, *answer, 8, 8], 1)[0][0])
    progress(_("going on from disk"))
    resume_s = _resume_seconds(model, prompt)
    median = {name: statistics.median(values) for name, values in figures.items()}
    return Speed(
        **to_builtins(model.info),
        load_s=round(load_s, 3),
        question_tokens=_QUESTION_TOKENS,
        first_token_s=round(median["first"], 4),
        prompt_tokens=prompt_tokens,
        prompt_tokens_per_s=round(median["prompt"], 2),
        answer_tokens=answer_tokens,
        answer_tokens_per_s=round(median["answer"], 2),
        repeat_tokens_per_s=round(median["repeat"], 2),
        next_turn_s=round(median["turn"], 4),
        resume_s=None if resume_s is None else round(resume_s, 4),
        memory_bytes=peak_memory_bytes(),
    )


def _resume_seconds(model: TokenModel, prompt: Sequence[int]) -> float | None:
    """Store the cache of ``prompt``, think of something else, and go on from the file."""
    from tanuki_cli.engines.llama_cpp.model import LlamaCppModel

    if not isinstance(model, LlamaCppModel):
        return None
    with tempfile.TemporaryDirectory() as folder:
        model.use_store(KvStore(Path(folder)), "speed")
        _timed(model, prompt, 1)
        if not model.save_state():
            return None
        _timed(model, [_FIRST_FREE_ID - 1, *_ids(8)], 1)
        seconds, _ids_after = _timed(model, [*prompt, *_ids(_FEWEST)], 1)
        model.use_store(KvStore(Path(folder) / "gone"), "speed")
        return seconds[0] if model.cached_tokens >= len(prompt) else None


def _ids(count: int) -> Iterator[int]:
    return (_FIRST_FREE_ID + 20 + (index * 31 + index * index * 7) % 200 for index in range(count))


def _rate(seconds: Sequence[float]) -> float:
    return (len(seconds) - 1) / sum(seconds[1:])


def _timed(model: TokenModel, prompt: Sequence[int], count: int) -> tuple[list[float], list[int]]:
    """Seconds until each of ``count`` ids came, and the ids."""
    seconds: list[float] = []
    answer: list[int] = []
    before = time.perf_counter()
    with closing(token_ids(model.generate(prompt, _GREEDY))) as ids:
        for id_ in islice(ids, count):
            now = time.perf_counter()
            seconds.append(now - before)
            answer.append(id_)
            before = now
    return seconds, answer
