"""The same float32 weights on llama.cpp and on transformers: the same ids, token for token."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import gguf
import pytest

from scripts.practice.export import read_gguf, read_tokenizer, write_gguf
from scripts.practice.formats import write_safetensors
from tanuki_cli.catalog.practice import practice_model, suggestions
from tanuki_cli.conversation import Message
from tanuki_cli.engines.llama_cpp.loader import LlamaCppModel
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.lazy import lazy_imports
from tests.support.llama_models import GREEDY, load

with lazy_imports():
    import torch
    import transformers

QUESTIONS = (
    *suggestions("ja"),
    *suggestions("en"),
    *("狸と狐はどちらが化けるのが上手?", "ＴＡＮＵＫＩとは？", "ﾀﾇｷ", "1+1は?", "</s>", "### 応答:", "😊"),
    *(
        "今日は何をしましょうか",
        "ねえ、聞いて。\n実はね、\n眠いの。",
        "Tell me a story.",
        "ok",
        "ありがとう",
        "うーん",
    ),
    *(
        "コマンドを全部教えて",
        "終わり方は?",
        "もっと詳しく",
        "つづき",
        "もう一度",
        "なぜ?",
        "本当?",
        "すごい!",
    ),
    *(
        "それはどこで買えますか",
        "漢字の練習をしたい",
        "def f(x):\n    return x",
        "たぬきうどん",
        "はい",
        "いいえ",
    ),
)
TURNS = 5
NEW_TOKENS = 64


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LlamaCppModel, Any]]:
    folder = tmp_path_factory.mktemp("f32")
    source, tokenizer = practice_model().path, practice_model().tokenizer
    assert tokenizer is not None
    weights, config = read_gguf(source)
    write_gguf(folder / "f32.gguf", weights, config, read_tokenizer(tokenizer), gguf.GGMLQuantizationType.F32)
    write_safetensors(folder / "full", weights, config, tokenizer)
    reference = transformers.LlamaForCausalLM.from_pretrained(folder / "full", dtype=torch.float32).eval()
    model = load(folder / "f32.gguf")
    yield model, reference
    model.close()


def greedy_choices(reference: Any, prompt: list[int], ids: list[int]) -> list[int]:
    """What transformers takes after ``prompt`` and after each of ``ids`` but the last.

    Equal to ``ids`` exactly if transformers' own greedy answer is ``ids``.
    """
    with torch.inference_mode():
        logits = reference(torch.tensor([prompt + ids[:-1]]), logits_to_keep=len(ids)).logits[0]
    return [int(best) for best in logits.argmax(dim=-1)]


def test_greedy_answers_are_transformers_over_several_turns(pair: tuple[LlamaCppModel, Any]) -> None:
    model, reference = pair
    assert len(QUESTIONS) >= 50
    facts = model.facts
    assert practice_model().tokenizer is not None
    tokenizer = ChatTokenizer.from_file(
        Path(str(practice_model().tokenizer)),
        bos_id=facts.bos_id,
        eos_id=facts.eos_id,
        vocab_size=facts.n_vocab,
    )
    messages: list[Message] = []
    for index, question in enumerate(QUESTIONS):
        if index % TURNS == 0:
            messages = []
        messages.append(Message("user", question))
        prompt = tokenizer.encode_chat(messages)[-(model.context_length - NEW_TOKENS) :]
        ids = list(islice(token_ids(model.generate(prompt, GREEDY)), NEW_TOKENS))
        assert ids == greedy_choices(reference, prompt, ids), question
        answer = ids[: ids.index(facts.eos_id)] if facts.eos_id in ids else ids
        messages.append(Message("assistant", tokenizer.decode(answer)))
    assert model.cached_tokens > 0
