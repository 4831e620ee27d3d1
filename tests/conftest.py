"""What several test files share: waiting for a condition, and small tokenizers of the right kind."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import Unigram

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.engines.opening import read_tokenizer
from tanuki_cli.i18n import activate
from tanuki_cli.machine.hardware import inspect_machine
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.fast import mark_slow
from tests.support.model_servers import LLAMA_SERVER, PYTHON_SERVER, running
from tests.support.sharing import processes_for, put_long_files_first

# On a busy machine an example may take its time: hypothesis asserts none.
settings.register_profile("tanuki", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tanuki")

CONTROL_PIECES = ("<unk>", "<s>", "</s>", "<pad>", "<CLS>", "<SEP>", "<EOD>", "<MASK>")
CODE_PIECES = ("<llm-code>", "</llm-code>", "<llm-code-output>", "</llm-code-output>")
SAMPLE_WORDS = """
たぬき です ます ました 日本 昔話 によく 出てくる 動物 人を 化かす と言われ が、 どこか 憎めません 信楽焼
商売 繁盛 縁起物 として 店先に 置かれて います こんにちは は、 同じです ありがとう 教えて 以下は タスクを
説明する 指示 要求を 適切に 満たす 応答を 書きなさい ### 応答 Tanuki raccoon dog the in er
"""


def pytest_configure() -> None:
    """Let Ctrl-C and a closed window reach the tests and what they start, also where they run in the
    background or under nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let ``-m "not slow"`` choose among all tests; in a process that shares them with others, order them."""
    mark_slow(items)
    if hasattr(config, "workerinput"):
        put_long_files_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means."""
    return processes_for(inspect_machine(os.environ))


def until(condition: Callable[[], object], *, timeout_s: float = 120) -> None:
    """Return as soon as ``condition`` holds; fail the test if it does not within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition was never met"
        time.sleep(0.01)


def small_unigram(*, first: tuple[str, ...] = CONTROL_PIECES) -> Tokenizer:
    """A tokenizer built as Tanuki's is: Unigram, byte fallback, NFKC, control pieces at ids 0 to 12."""
    pieces = [*first, "\n", *CODE_PIECES, *(f"<0x{byte:02X}>" for byte in range(256))]
    characters = sorted(
        {
            *"".join(SAMPLE_WORDS.split()),
            *map(chr, range(0x21, 0x7F)),
            *map(chr, range(0x3041, 0x30FB)),
            "▁",
            "。",
        }
    )
    scored = [(piece, 0.0) for piece in pieces]
    scored += [(character, -9.0) for character in characters]
    scored += [(word, -9.5) for word in dict.fromkeys(SAMPLE_WORDS.split()) if len(word) > 1]
    tokenizer = Tokenizer(Unigram(scored, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    # As in Tanuki's own file, only the first three are skipped in decoding.
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in first[:3]])
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in (*first[3:], "\n", *CODE_PIECES)])
    return tokenizer


@pytest.fixture(scope="session")
def small_tokenizer() -> ChatTokenizer:
    """A few hundred pieces, made here."""
    backend = small_unigram()
    return ChatTokenizer(backend, bos_id=1, eos_id=2, vocab_size=backend.get_vocab_size())


@pytest.fixture(scope="session")
def practice_tokenizer() -> ChatTokenizer:
    """That of the practice model, a few thousand trained pieces."""
    return read_tokenizer(practice_model())


@pytest.fixture(scope="session")
def llama_server() -> Iterator[str]:
    """The address of a llama-server with the practice model."""
    with running(LLAMA_SERVER) as address:
        yield address


@pytest.fixture(scope="session")
def python_server() -> Iterator[str]:
    """The address of llama-cpp-python's server with the practice model: it takes text only."""
    with running(PYTHON_SERVER) as address:
        yield address


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The directory of the real vocabulary and its golden chats; it lies outside the repository."""
    directory = os.environ.get("TANUKI_TEST_TOKENIZER")
    if not directory:
        pytest.skip("TANUKI_TEST_TOKENIZER does not name the real vocabulary")
    return Path(directory)


@pytest.fixture(scope="session")
def real_tokenizer(golden_dir: Path) -> ChatTokenizer:
    """Tanuki-8B's own vocabulary."""
    return ChatTokenizer.from_file(golden_dir / "tokenizer.json", bos_id=1, eos_id=2, vocab_size=65024)


@pytest.fixture(autouse=True)
def english() -> None:
    """Every test begins in English, whatever the one before it chose."""
    activate("en")
