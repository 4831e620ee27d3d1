"""What guessing ahead gains on texts of our own: draft_texts.txt, a question and a good answer each.

    python -m scripts.bench_drafts                          predicted, for the costs of several machines
    python -m scripts.bench_drafts --model FILE.gguf        computed, by turns with and without drafts

The prediction is the policy alone, counting batches at their cost in single steps. ``--ties`` adds what a
greedy answer pays for near ties. With a model the answer is forced on it: everything is computed, sampled
and compared as at temperature 0.5, but what counts as sampled is the text.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final

from scripts.bench_engine import forced
from tanuki_cli.catalog import LocalModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Message
from tanuki_cli.engines.llama_cpp.drafting import CPU_COSTS, GPU_COSTS, DraftPolicy, NgramIndex
from tanuki_cli.engines.llama_cpp.loader import load_llama_cpp
from tanuki_cli.engines.llama_cpp.tuning import Tuner, TuningStore
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer

SAMPLED: Final = SamplingOptions(seed=0)
TEXTS: Final = Path(__file__).with_name("draft_texts.txt")
FREE: Final = ("terms", "essay", "story", "chat")
"""Kinds with little to repeat."""
COPYING: Final = ("quote", "summary", "rename", "function")
"""Kinds with long literal parts of the question."""
COSTS: Final[Mapping[str, Mapping[int, float]]] = {
    "llama.cpp": CPU_COSTS,
    "ik": {1: 1.0, 2: 1.3, 3: 1.7, 5: 2.4, 8: 3.7, 16: 7.9, 32: 13.4},
    "ik repacked": {1: 1.0, 2: 1.05, 3: 1.4, 5: 1.8, 8: 2.4, 16: 5.0, 32: 9.4},
    "GPU": GPU_COSTS,
}
"""Time of a batch in single steps; all but the GPU's measured with an 8B in Q4_K_M on two cores (AVX2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A question and its answer, as ids."""

    kind: str
    language: str
    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """``length`` ids drafted at ``place`` of an answer, of which the first ``hits`` were right."""

    place: int
    length: int
    hits: int


def read_texts(tokenizer: ChatTokenizer) -> list[Text]:
    """The texts, in the order of the file."""
    texts: list[Text] = []
    for part in TEXTS.read_text(encoding="utf-8").removeprefix("=== ").split("\n=== "):
        head, _newline, body = part.partition("\n")
        if head == "answer":
            texts[-1] = replace(texts[-1], answer=tokenizer.encode(body.rstrip("\n")))
            continue
        kind, language = head.split()
        prompt = tokenizer.encode_chat([Message("user", body)])
        texts.append(Text(kind=kind, language=language, prompt=prompt, answer=[]))
    return texts


def drafts(
    policy: DraftPolicy, prompt: Sequence[int], answer: Sequence[int], *, greedy: bool = False
) -> Iterator[Draft]:
    """Every draft in ``answer``, when it is computed: as the model drives a policy."""
    policy.start(greedy=greedy)
    text, place = NgramIndex(prompt), 0
    while place < len(answer):
        text.append(answer[place])
        policy.see(answer[place])
        place += 1
        guess = text.guess()
        if guess is None:
            continue
        length = policy.choose(guess, room=len(answer) - place)
        if not length:
            policy.watch(guess, text)
            continue
        drafted, hits = text.draft(guess, length), 0
        while hits < length and drafted[hits] == answer[place + hits]:
            text.append(drafted[hits])
            hits += 1
        policy.record_hits(guess, length, hits)
        yield Draft(place=place, length=length, hits=hits)
        place += hits


def predicted_steps(text: Text, costs: Mapping[int, float], *, ties: float = 0.0) -> tuple[float, int]:
    """The time of ``text`` in single steps, and how many of its ids were drafted and right.

    ``ties`` is the share of ids that are near ties, where all that was computed with drafts since the last
    one is computed again; of ids that a draft got right, a tenth of it.
    """
    policy, random = DraftPolicy(costs=costs), Random(len(text.prompt))
    steps, accepted, loose, place = float(len(text.answer)), 0, 0, 0
    found = drafts(policy, text.prompt, text.answer, greedy=ties > 0)
    for draft in chain(found, [Draft(place=len(text.answer), length=0, hits=0)]):
        right = range(draft.place, draft.place + draft.hits)
        for at in range(place, right.stop):
            loose += loose > 0 or at in right
            if loose and random.random() < (ties / 10 if at in right else ties):
                steps += loose
                policy.record_settled(loose)
                loose = 0
        steps += costs[draft.length + 1] - 1 - draft.hits
        accepted += draft.hits
        place = right.stop
    return steps, accepted


def measured(texts: Sequence[Text], options: argparse.Namespace) -> None:
    """Print the speed with and without drafts for each text, medians of runs by turns."""
    local = LocalModel(name="bench", format="gguf", path=options.model)
    settings = Settings(engine=options.engine)
    with tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(store=TuningStore(Path(folder)), announce=lambda _seconds: None)
        model = load_llama_cpp(local, settings, debug=False, tuner=tuner if options.calibrate else None)
    if not options.calibrate:
        model._policy = DraftPolicy(costs=COSTS[options.engine])
    vocabulary = model.facts.n_vocab
    costs = ", ".join(f"{size}: {cost:.2f}" for size, cost in model._policy.costs.items())
    print(f"Time of a batch in single steps: {costs}\n")
    print("| | | plain, tokens/s | with drafts | ratio |\n|---|---|---|---|---|")
    for text in texts:
        # Another tokenizer's ids may be more than this model has; which repeat stays the same.
        prompt = [id_ % vocabulary for id_ in text.prompt]
        answer = [id_ % vocabulary for id_ in text.answer[: options.tokens]]
        speeds: dict[bool, list[float]] = {False: [], True: []}
        for _run in range(options.runs):
            for model.speculative, found in speeds.items():
                seconds = forced(model, prompt, [*answer, 2], len(answer), SAMPLED)[1:]
                found.append(len(seconds) / sum(seconds))
        plain, drafted = (statistics.median(found) for found in speeds.values())
        print(f"| {text.kind} | {text.language} | {plain:.2f} | {drafted:.2f} | {drafted / plain:.2f} |")
    model.close()


def predict(texts: Sequence[Text], ties: float) -> None:
    """Print for every text how much faster drafts are predicted to be, and the share of right ids."""
    print(f"| | | {' | '.join(COSTS)} | drafted and right |\n|---|---|{'---|' * (len(COSTS) + 1)}")
    for text in texts:
        found = [predicted_steps(text, costs, ties=ties) for costs in COSTS.values()]
        ratios = " | ".join(f"{len(text.answer) / steps:.2f}" for steps, _accepted in found)
        shares = [accepted / len(text.answer) for _steps, accepted in found]
        print(f"| {text.kind} | {text.language} | {ratios} | {min(shares):.0%}–{max(shares):.0%} |")


def main() -> None:
    """Predict, or measure with a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF file to compute with")
    parser.add_argument("--engine", choices=("llama.cpp", "ik"), default="llama.cpp")
    parser.add_argument("--calibrate", action="store_true", help="measure the costs of batches first")
    parser.add_argument("--kinds", help="only these kinds of texts, with commas between them")
    parser.add_argument("--languages", default="ja,en")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, computed with a model")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ties", type=float, default=0.0, help="share of near ties in a greedy answer")
    options = parser.parse_args()
    folder = os.environ.get("TANUKI_TEST_TOKENIZER")
    file = Path(folder) / "tokenizer.json" if folder else practice_model().tokenizer
    assert file is not None
    texts = [
        text
        for text in read_texts(ChatTokenizer.from_reference(file))
        if text.language in options.languages.split(",")
        and (not options.kinds or text.kind in options.kinds.split(","))
    ]
    if options.model:
        measured(texts, options)
    else:
        predict(texts, options.ties)


if __name__ == "__main__":
    main()
