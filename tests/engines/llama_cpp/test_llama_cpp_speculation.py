"""Checking guessed tokens in batches changes the speed and nothing else."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from scripts.make_synthetic_gguf import Shape, write_model
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.llama_cpp.drafting import LENGTHS, DraftPolicy, Guess, NgramIndex
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tests.support.llama_models import GREEDY, PROMPT, load, write_tiny

SAMPLED = SamplingOptions(temperature=0.03, repeat_penalty=1.01, top_p=0.95, seed=3)


class Eager(DraftPolicy):
    """Drafts whenever there is a guess, by turns short and long; counts what happened."""

    drafted = 0
    accepted = 0
    turns = 0

    def choose(self, guess: Guess | None, *, room: int) -> int:
        fitting = [length for length in LENGTHS if length <= room]
        Eager.turns += 1
        return fitting[self.turns % len(fitting)] if guess and fitting else 0

    def record_hits(self, guess: Guess, drafted: int, hits: int) -> None:
        Eager.drafted += drafted
        Eager.accepted += hits


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


class Known(NgramIndex):
    """Guesses the answer itself, as if the text had stood in the prompt before; by turns also wrongly."""

    answer: ClassVar[list[int]] = []
    begin: ClassVar[int] = 0

    def guess(self) -> Guess:
        return Guess(len(self.ids) - self.begin, 64)

    def draft(self, guess: Guess, length: int) -> list[int]:
        drafted = self.answer[guess.start : guess.start + length]
        drafted += [7] * (length - len(drafted))
        if length == LENGTHS[1]:
            drafted[length // 2] = 7
        return drafted


@pytest.fixture
def eager(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LlamaCppModel]:
    model = load(tiny)
    assert model.speculative  # by default
    Eager.drafted = Eager.accepted = 0
    monkeypatch.setattr(model, "_policy", Eager())
    yield model
    model.close()


@pytest.fixture(scope="module")
def plain(tiny: Path) -> Iterator[LlamaCppModel]:
    model = load(tiny, Settings(context_length=512, threads=1, speculation=False))
    assert not model.speculative
    yield model
    model.close()


def prompts(count: int) -> Iterator[list[int]]:
    """Prompts with repetitions in them, so that there is something to guess."""
    for index in range(count):
        phrase = [300 + (index * 31 + step * 7) % 600 for step in range(5 + index % 7)]
        yield [1, *phrase, 8, *phrase[: 3 + index % 4], 9, *phrase]


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_same_ids_with_and_without(
    eager: LlamaCppModel, plain: LlamaCppModel, options: SamplingOptions
) -> None:
    for index, prompt in enumerate(prompts(40)):
        options = replace(options, seed=index)
        expected = list(islice(token_ids(plain.generate(prompt, options)), 48))
        assert list(islice(token_ids(eager.generate(prompt, options)), 48)) == expected
    assert Eager.drafted > Eager.accepted > 0


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of four and six bits, whose kernels differ with the size of a batch."""
    shape = Shape(n_embd=512, n_ff=1536, n_layer=3, n_head=8, n_kv_head=4, n_vocab=2048, n_pieces=2000)
    path = tmp_path_factory.mktemp("gguf") / "q4.gguf"
    write_model(path, shape, seed=3)
    return path


def test_quantised_greedy_answers_are_the_same_to_the_last_token(
    quantised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 200 prompts, on weights and random answers that are full of near ties, in chats of two turns."""
    for path, count in ((practice_model().path, 100), (quantised, 100)):
        eager, plain = load(path), load(path, Settings(context_length=512, threads=1, speculation=False))
        monkeypatch.setattr(eager, "_policy", Eager())
        Eager.drafted = Eager.accepted = 0
        monkeypatch.setattr("tanuki_cli.engines.llama_cpp.picking.NgramIndex", Known)
        for prompt in islice(prompts(count), count):
            expected = list(islice(token_ids(plain.generate(prompt, GREEDY)), 20))
            monkeypatch.setattr(Known, "answer", expected)
            monkeypatch.setattr(Known, "begin", len(prompt))
            assert list(islice(token_ids(eager.generate(prompt, GREEDY)), 20)) == expected
            second = [*prompt, *expected[:17], 2, 8, 8, 300, 301]
            monkeypatch.setattr(Known, "answer", [])
            monkeypatch.setattr(Known, "begin", len(second))
            expected = list(islice(token_ids(plain.generate(second, GREEDY)), 6))
            assert list(islice(token_ids(eager.generate(second, GREEDY)), 6)) == expected
        assert Eager.drafted > Eager.accepted > 2 * count, (Eager.drafted, Eager.accepted)
        eager.close()
        plain.close()


def test_the_same_seed_gives_the_same_sampled_answer_again(quantised: Path) -> None:
    """Drafts depend on nothing but the text: no clock, no load of the machine."""
    options = SamplingOptions(temperature=0.7, seed=11)
    answers = []
    for _run in range(2):
        model = load(quantised)
        answers.append(
            [list(islice(token_ids(model.generate(prompt, options)), 40)) for prompt in prompts(20)]
        )
        model.close()
    assert answers[0] == answers[1]


def test_the_second_turn_after_a_stop_inside_a_draft(eager: LlamaCppModel, plain: LlamaCppModel) -> None:
    for count in range(1, 40, 3):
        answer = list(islice(token_ids(eager.generate(PROMPT, GREEDY)), count))
        second = [*PROMPT, *answer, 2, 400, 401]
        expected = list(islice(token_ids(plain.generate(second, GREEDY)), 10))
        assert list(islice(token_ids(eager.generate(second, GREEDY)), 10)) == expected
        assert eager.cached_tokens >= min(len(PROMPT) + len(answer) - 1, len(second) - 8)
    assert Eager.accepted > 0


def test_accepted_tokens_are_said_to_come_at_once(eager: LlamaCppModel) -> None:
    decodes = 0
    compute = eager._context.decode

    def counted(*arguments: Any, **options: Any) -> None:
        nonlocal decodes
        decodes += 1
        compute(*arguments, **options)

    eager._context.decode = counted  # type: ignore[method-assign]
    ready = []
    for _id in islice(token_ids(eager.generate(PROMPT, SAMPLED)), 60):
        ready.append((eager.next_is_ready, decodes))
    steps = list(pairwise(ready))
    assert all(before == after for (said, before), (_said, after) in steps if said)
    assert all(before < after for (said, before), (_said, after) in steps if not said)
    assert any(said for said, _decodes in ready)


def test_cancel_between_accepted_tokens(eager: LlamaCppModel, plain: LlamaCppModel) -> None:
    expected = list(islice(token_ids(plain.generate(PROMPT, GREEDY)), 60))
    for count in range(1, 40, 5):
        generator = token_ids(eager.generate(PROMPT, GREEDY))
        assert list(islice(generator, count)) == expected[:count]
        eager.cancel()
        with pytest.raises(GenerationCancelled):
            next(generator)
    assert list(islice(token_ids(eager.generate(PROMPT, GREEDY)), 60)) == expected


def test_full_context_with_drafts(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for speculative in (True, False):
        model = load(tiny, Settings(context_length=128, threads=1))
        model.speculative = speculative
        monkeypatch.setattr(model, "_policy", Eager())
        answers.append(list(token_ids(model.generate(PROMPT, GREEDY))))
        model.close()
    assert answers[0] == answers[1]
    assert len(answers[0]) == 128 - len(PROMPT)


def test_of_the_next_prompt_only_what_is_new_is_indexed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of a long chat takes no longer for it; where the prompt begins otherwise all of it is."""
    added: list[int] = []
    append = NgramIndex.append

    def noted(index: NgramIndex, id_: int) -> None:
        added.append(id_)
        append(index, id_)

    monkeypatch.setattr(NgramIndex, "append", noted)
    with closing(load(tiny, Settings(context_length=512, threads=1, speculation=False))) as model:
        prompt = [1, *range(300, 400)]
        answer = list(islice(token_ids(model.generate(prompt, GREEDY)), 6))
        assert added == [*prompt, *answer[:-1]]  # the last was not gone on from
        for beginning, expected in (([*prompt, *answer], [answer[-1]]), ([1, 500], [1, 500])):
            added.clear()
            next(token_ids(model.generate([*beginning, 2, 8, 301], GREEDY)))
            assert added == [*expected, 2, 8, 301]
