"""A conversation resumed from its stored KV cache is the one that was computed."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tanuki_cli.catalog import LocalModel
from tanuki_cli.engines.llama_cpp import loader
from tanuki_cli.engines.llama_cpp.cutting import MANY
from tanuki_cli.engines.llama_cpp.kv_store import KvStore
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel, load_llama_cpp
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings, with_values
from tests.support.llama_models import ENGINE, GREEDY, PROMPT, load, write_tiny

HEAD = PROMPT[:20]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def store(tmp_path: Path) -> KvStore:
    return KvStore(tmp_path / "kv")


def open_with(
    path: Path, store: KvStore | None, *, first_tokens: int | None = None, **changes: object
) -> LlamaCppModel:
    settings = with_values(Settings(context_length=512, threads=1, engine=ENGINE), changes)
    model = LocalModel(name="tiny", format="gguf", path=path)
    return load_llama_cpp(
        model, settings, debug=False, kv_store=store, head_ids=HEAD, first_tokens=first_tokens
    )


def answer(model: LlamaCppModel, prompt: list[int], count: int = 25) -> list[int]:
    ids = list(islice(token_ids(model.generate(prompt, GREEDY)), count))
    assert model._running is not None
    model._running.close()
    return ids


@pytest.fixture(scope="module")
def conversation(tiny: Path) -> Iterator[tuple[list[int], list[int]]]:
    """A second prompt, and the answer that a model without a store gives to it."""
    model = load(tiny)
    second = [*PROMPT, *answer(model, PROMPT), 2, 8, 8, *range(400, 430)]
    model.close()
    model = load(tiny)
    yield second, answer(model, second)
    model.close()


def test_resumed_is_recomputed(tiny: Path, store: KvStore, conversation: tuple[list[int], list[int]]) -> None:
    second, expected = conversation
    model = open_with(tiny, store)
    first = answer(model, PROMPT)
    assert model.cached_tokens == 0
    model.close()
    model = open_with(tiny, store)
    assert answer(model, second) == expected
    # All that was computed: the prompt and the answer but its last id.
    assert model.cached_tokens == len(PROMPT) + len(first) - 1
    model.close()


def test_new_conversation_starts_from_the_stored_head(tiny: Path, store: KvStore) -> None:
    model = open_with(tiny, store)
    answer(model, PROMPT)
    model.close()
    model = open_with(tiny, store)
    prompt = [*HEAD, *range(500, 540)]
    ids = answer(model, prompt)
    assert model.cached_tokens == len(HEAD)
    model.close()
    plain = load(tiny)
    assert ids == answer(plain, prompt)
    plain.close()


def test_other_settings_and_other_files_do_not_fit(tmp_path: Path, tiny: Path, store: KvStore) -> None:
    model = open_with(tiny, store)
    answer(model, PROMPT)
    model.close()
    others = [open_with(write_tiny(tmp_path / "other.gguf", seed=9), store)]
    if ENGINE == "llama.cpp":  # the other has no such cache
        others.append(open_with(tiny, store, kv_type="q8_0"))
    for other in others:
        answer(other, PROMPT)
        assert other.cached_tokens == 0
        other.close()


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_nothing_is_kept_of_a_file_that_changed_while_it_was_loaded(
    tmp_path: Path, tiny: Path, store: KvStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The file may be another one by now than what is in memory."""
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny.read_bytes())
    load_weights = loader._load

    def slowly(*arguments: Any) -> LlamaCppModel:
        loaded = load_weights(*arguments)
        if change == "replaced":
            write_tiny(tmp_path / "new.gguf", seed=9).replace(path)
        else:
            path.unlink()
        return loaded

    monkeypatch.setattr(loader, "_load", slowly)
    model = open_with(path, store)
    answer(model, PROMPT)
    model.close()
    assert list(store.folder.glob("*.kv")) == []


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64], ids=["truncated", "flipped"])
def test_broken_states_are_recomputed_without_a_word(
    tiny: Path,
    store: KvStore,
    conversation: tuple[list[int], list[int]],
    damage: bytes,
    capfd: pytest.CaptureFixture[str],
) -> None:
    second, expected = conversation
    model = open_with(tiny, store)
    answer(model, PROMPT)
    model.close()
    for path in store.folder.glob("*-*.kv"):
        content = path.read_bytes()
        path.write_bytes(
            content[: len(content) // 2] + damage + content[len(content) // 2 :][64:] * bool(damage)
        )
    model = open_with(tiny, store)
    assert answer(model, second) == expected
    assert model.cached_tokens == 0
    model.close()
    assert capfd.readouterr() == ("", "")


def test_a_state_that_was_cut_while_it_was_written_is_not_kept(
    tiny: Path, store: KvStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_with(tiny, store)
    answer(model, PROMPT)
    whole = model._context.save_state

    def cut(path: Path, ids: list[int], *, sequence: int) -> int:
        kept = whole(path, ids, sequence=sequence)
        path.write_bytes(path.read_bytes()[:-1000])
        return kept

    monkeypatch.setattr(model._context, "save_state", cut)
    model.close()
    assert list(store.folder.glob("*-*.kv")) == []


def test_a_state_longer_than_the_context_is_recomputed(tiny: Path, store: KvStore) -> None:
    prompt = [*PROMPT, *range(300, 500)]
    long = open_with(tiny, store)
    answer(long, prompt)
    long.close()
    short = open_with(tiny, store, context_length=128)
    assert answer(short, prompt[:110], 10) == answer_alone(tiny, prompt[:110])
    assert short.cached_tokens == len(HEAD)
    short.close()


def answer_alone(path: Path, prompt: list[int]) -> list[int]:
    model = load(path)
    ids = answer(model, prompt, 10)
    model.close()
    return ids


def test_nothing_is_written_without_a_store_or_news(tiny: Path, store: KvStore) -> None:
    model = open_with(tiny, store)
    answer(model, PROMPT)
    assert model.save_state()
    assert not model.save_state()
    model.close()
    before = sorted(store.folder.glob("*-*.kv"))
    assert len(before) == 2  # the conversation, and what every one begins with
    model = open_with(tiny, store)
    answer(model, PROMPT)
    model.close()
    assert sorted(store.folder.glob("*-*.kv")) == before
    plain = load(tiny)
    answer(plain, PROMPT)
    assert not plain.save_state()
    plain.close()


@pytest.mark.parametrize("stored", [True, False])
def test_a_cache_made_for_one_answer_grows_for_the_next(
    tiny: Path, store: KvStore, conversation: tuple[list[int], list[int]], stored: bool
) -> None:
    second, expected = conversation
    question = replace(GREEDY, max_new_tokens=25)
    model = open_with(tiny, store if stored else None, first_tokens=len(PROMPT) + 25)
    assert model.context_length == 512
    assert model._context.length == 256
    first = list(islice(token_ids(model.generate(PROMPT, question)), 25))
    assert model._context.length == 256
    assert (
        list(islice(token_ids(model.generate(second, replace(question, max_new_tokens=200))), 25)) == expected
    )
    assert model._context.length == 512
    assert model.cached_tokens == (len(PROMPT) + len(first) - 1 if stored else 0)
    model.close()


DOCUMENT = [*HEAD, *(300 + index * 7 % 600 for index in range(300))]
QUESTIONS = [[8, 8, *range(start, start + 9), 8, 8, 40, 41] for start in (500, 540, 580)]


@pytest.mark.parametrize(
    "options", [GREEDY, SamplingOptions(temperature=1.0, seed=3)], ids=["greedy", "seed"]
)
def test_a_text_is_computed_once_for_all_questions_after_it(
    tiny: Path, store: KvStore, options: SamplingOptions
) -> None:
    """In processes of their own, the caches made for one answer; after a conversation that went on, too."""
    talk = [*DOCUMENT, *QUESTIONS[0]]
    for turn in range(3):
        model = open_with(tiny, store, first_tokens=len(talk) + 30)
        ids = list(islice(token_ids(model.generate(talk, replace(options, max_new_tokens=30))), 30))
        assert (model.cached_tokens > len(DOCUMENT)) == (turn > 0)
        talk = [*talk, *ids, 2, *QUESTIONS[2]]
        model.close()
    for question in QUESTIONS[1:]:
        prompt = [*DOCUMENT, *question]
        model = open_with(tiny, store, first_tokens=len(prompt) + 10)
        got = list(islice(token_ids(model.generate(prompt, replace(options, max_new_tokens=10))), 10))
        assert model.cached_tokens >= len(DOCUMENT)
        model.close()
        plain = load(tiny)
        assert got == list(islice(token_ids(plain.generate(prompt, options)), 10))
        plain.close()


def test_a_model_that_stays_loaded_keeps_a_text_when_another_one_comes(tiny: Path, store: KvStore) -> None:
    model = open_with(tiny, store)
    answer(model, [*DOCUMENT, *QUESTIONS[0]])
    answer(model, [*HEAD, *reversed(DOCUMENT), *QUESTIONS[0]])
    assert model.cached_tokens == 0 or model.cached_tokens == len(HEAD)
    prompt = [*DOCUMENT, *QUESTIONS[1]]
    got = answer(model, prompt, 10)
    assert model.cached_tokens >= len(DOCUMENT)
    assert got == answer_alone(tiny, prompt)
    model.close()


@pytest.mark.parametrize("length", [*range(500, 530), 700])
def test_no_part_of_a_prompt_is_computed_in_a_small_batch(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """A few ids alone have other numbers than in company, and are then used again for another question."""
    model = load(tiny, Settings(context_length=1024, threads=1))
    sizes: list[int] = []
    whole = model._context.decode

    def decode(ids: list[int], position: int, **options: Any) -> None:
        sizes.append(len(ids))
        whole(ids, position, **options)

    monkeypatch.setattr(model._context, "decode", decode)
    prompt = [1, *(300 + index * 7 % 600 for index in range(length - 1))]
    for shared in (0, length - 1, length - 9, 505, length):
        other = [*prompt[:shared], *(900 - index % 300 for index in range(length - shared))]
        next(iter(model.generate(other, GREEDY)))
    assert min(sizes) >= MANY
    assert len(sizes) >= 5
    model.close()
