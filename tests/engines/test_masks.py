"""Masks, forced ids and log probabilities: the same f32 weights on llama.cpp and on transformers."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from msgspec.structs import replace

from scripts.practice.export import read_gguf, read_tokenizer, write_gguf
from scripts.practice.formats import write_safetensors
from tanuki_cli.catalog import LocalModel
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import Token
from tanuki_cli.engines.llama_cpp.drafting import DraftPolicy, Guess
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel
from tanuki_cli.engines.token_model import TokenModel
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.lazy import lazy_imports
from tests.support.llama_models import GREEDY, load

with lazy_imports():
    import torch

    from tanuki_cli.engines.transformers.loader import TransformersModel, load_transformers

SAMPLED = SamplingOptions(temperature=1.5, repeat_penalty=1.1, top_k=40, seed=3)
LENGTH = 40


class Cycle:
    """A mask that allows a fixed set of ids at each place and forces a run of them at every eighth."""

    def __init__(self, n_vocab: int, *, start: int = 300) -> None:
        self._n_vocab = n_vocab
        self._start = start

    def ids(self, place: int) -> list[int]:
        if place % 8 in (3, 4, 5):
            return [self._start + place % 8]
        return list(range(self._start, self._start + 400 + place))

    def allowed(self, ids: Sequence[int]) -> npt.NDArray[np.bool_]:
        flags = np.zeros(self._n_vocab, dtype=bool)
        flags[self.ids(len(ids))] = True
        return flags

    def forced(self, ids: Sequence[int]) -> Sequence[int]:
        run = []
        for place in range(len(ids), len(ids) + 8):
            if len(self.ids(place)) > 1:
                break
            run += self.ids(place)
        return run

    def agreed(self, ids: Sequence[int], draft: Sequence[int]) -> int:
        fits = [id_ in self.ids(len(ids) + index) for index, id_ in enumerate(draft)]
        return fits.index(False) if False in fits else len(draft)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("f32")
    source, tokenizer = practice_model().path, practice_model().tokenizer
    assert tokenizer is not None
    numbers, config = read_gguf(source)
    write_gguf(folder / "f32.gguf", numbers, config, read_tokenizer(tokenizer), gguf.GGMLQuantizationType.F32)
    write_safetensors(folder / "full", numbers, config, tokenizer)
    return folder


@pytest.fixture(scope="module")
def llama(weights: Path) -> Iterator[LlamaCppModel]:
    model = load(weights / "f32.gguf")
    yield model
    model.close()


@pytest.fixture(scope="module")
def torch_model(weights: Path) -> Iterator[TransformersModel]:
    local = LocalModel(name="full", format="safetensors", path=weights / "full")
    settings = Settings(gpu_layers=0, threads=1, context_length=512)
    model = load_transformers(local, settings, debug=False)
    yield model
    model.close()


@pytest.fixture(params=["llama", "torch_model"])
def model(request: pytest.FixtureRequest) -> TokenModel:
    found: TokenModel = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def prompt(practice_tokenizer: ChatTokenizer) -> list[int]:
    return practice_tokenizer.encode_chat([Message("user", "たぬきは何を食べますか?")])


def answer(
    model: TokenModel, prompt: Sequence[int], options: SamplingOptions, n_vocab: int, logprobs: int = 0
) -> list[Token]:
    tokens = model.generate(prompt, options, mask=Cycle(n_vocab), logprobs=logprobs)
    return list(islice(tokens, LENGTH))


def ids_of(tokens: Sequence[Token]) -> list[int]:
    return [token.id for token in tokens]


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_only_what_is_allowed_comes_and_what_is_forced_comes(
    model: TokenModel, prompt: list[int], practice_tokenizer: ChatTokenizer, options: SamplingOptions
) -> None:
    mask = Cycle(practice_tokenizer.vocab_size)
    for seed in range(3):
        tokens = answer(model, prompt, replace(options, seed=seed), practice_tokenizer.vocab_size)
        assert len(tokens) == LENGTH
        assert all(id_ in mask.ids(place) for place, id_ in enumerate(ids_of(tokens)))
        assert {token.logprob for token in tokens} == {None}


def test_both_engines_give_the_same(
    llama: LlamaCppModel,
    torch_model: TransformersModel,
    prompt: list[int],
    practice_tokenizer: ChatTokenizer,
) -> None:
    n_vocab = practice_tokenizer.vocab_size
    first, second = (answer(model, prompt, GREEDY, n_vocab, logprobs=5) for model in (llama, torch_model))
    assert ids_of(first) == ids_of(second)
    for one, other in zip(first, second, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [id_ for id_, _logprob in one.alternatives] == [id_ for id_, _logprob in other.alternatives]


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_logprobs_are_those_of_the_plain_logits_and_change_no_answer(
    model: TokenModel,
    torch_model: TransformersModel,
    prompt: list[int],
    practice_tokenizer: ChatTokenizer,
    options: SamplingOptions,
) -> None:
    n_vocab = practice_tokenizer.vocab_size
    tokens = answer(model, prompt, options, n_vocab, logprobs=3)
    ids = ids_of(tokens)
    assert ids == ids_of(answer(model, prompt, options, n_vocab))
    expected = torch_model.network(torch.tensor([[*prompt, *ids]])).logits[0].double().log_softmax(dim=-1)
    for place, token in enumerate(tokens):
        row = expected[len(prompt) + place - 1]
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-4)
        best = row.topk(3)
        assert [id_ for id_, _logprob in token.alternatives] == best.indices.tolist()
        assert [logprob for _id, logprob in token.alternatives] == pytest.approx(
            best.values.tolist(), abs=1e-4
        )


def test_logprobs_without_a_mask_change_no_answer(model: TokenModel, prompt: list[int]) -> None:
    plain = list(islice(model.generate(prompt, SAMPLED), LENGTH))
    with_logprobs = list(islice(model.generate(prompt, SAMPLED, logprobs=1), LENGTH))
    assert ids_of(plain) == ids_of(with_logprobs)
    assert all(token.logprob is not None and len(token.alternatives) == 1 for token in with_logprobs)


def test_forced_ids_take_one_step(
    llama: LlamaCppModel,
    prompt: list[int],
    practice_tokenizer: ChatTokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    compute = llama._context.decode

    def counted(ids: Sequence[int], position: int, **options: Any) -> None:
        sizes.append(len(ids))
        compute(ids, position, **options)

    monkeypatch.setattr(llama._context, "decode", counted)
    monkeypatch.setattr(llama, "speculative", False)
    list(islice(llama.generate(prompt, GREEDY), 1))
    sizes.clear()
    answer(llama, prompt, GREEDY, practice_tokenizer.vocab_size)
    # The last eight ids of the prompt; two single steps to the first forced run of three; then always so.
    assert sizes[:10] == [8, 1, 1, 4, 1, 1, 1, 1, 4, 1]


class Eager(DraftPolicy):
    """Drafts whenever there is a guess."""

    drafted: int = 0

    def choose(self, guess: Guess | None, *, room: int) -> int:
        length = min(7, room) if guess else 0
        self.drafted += length
        return length


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_drafts_change_nothing_under_a_mask(
    llama: LlamaCppModel,
    prompt: list[int],
    practice_tokenizer: ChatTokenizer,
    monkeypatch: pytest.MonkeyPatch,
    options: SamplingOptions,
) -> None:
    n_vocab = practice_tokenizer.vocab_size
    monkeypatch.setattr(llama, "speculative", False)
    repeating = [*prompt[:-2], *range(300, 340), *range(300, 340), *prompt[-2:]]
    expected = [ids_of(answer(llama, repeating, replace(options, seed=seed), n_vocab)) for seed in range(5)]
    eager = Eager()
    monkeypatch.setattr(llama, "speculative", True)
    monkeypatch.setattr(llama, "_policy", eager)
    found = [ids_of(answer(llama, repeating, replace(options, seed=seed), n_vocab)) for seed in range(5)]
    assert found == expected
    assert eager.drafted > 0


def test_forced_ids_end_where_the_context_does(model: TokenModel, practice_tokenizer: ChatTokenizer) -> None:
    class Forcing(Cycle):
        def ids(self, place: int) -> list[int]:
            return [self._start + place % 8]

    for logprobs in (0, 1):
        full = [1, *range(300, 300 + model.context_length - 6)]
        tokens = list(
            model.generate(full, GREEDY, mask=Forcing(practice_tokenizer.vocab_size), logprobs=logprobs)
        )
        assert ids_of(tokens) == [300, 301, 302, 303, 304]
