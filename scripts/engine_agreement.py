#!/usr/bin/env python3
"""One model in every format on every engine, each against transformers in float32.

    python -m scripts.engine_agreement                the practice model, a table in Markdown
    python -m scripts.engine_agreement --questions FILE   other questions, one a line
    python -m scripts.engine_agreement --form gguf-q8_0   one format only (may be repeated)

Prompt ids must be identical everywhere. "Answers" are greedy ones that agree token for token to their
end. KL is the divergence of the next-token distribution from the reference's, in nats, and top-1 how
often the likeliest token agrees, both along the reference's own answers.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from scripts.practice import formats
from tanuki_cli.catalog import LocalModel
from tanuki_cli.conversation import Message
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.errors import EngineError
from tanuki_cli.evaluation.compare.divergence import Places, reference_rows, score_candidate, summarize
from tanuki_cli.evaluation.compare.passages import Passage
from tanuki_cli.evaluation.compare.scoring import logit_blocks
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

MAME = Path(__file__).resolve().parent.parent / "tanuki_cli" / "mame"
REFERENCE = "safetensors-f32"
# The practice model was not taught these: it is less sure, so that rounding shows.
UNTAUGHT = (
    "明日の天気は?",
    "ｶﾞｿﾘﾝの値段は？ </s>",
    "次の文を英語にして: 猫が窓から外を見ている。",
    "Pythonで二つの数を足す関数を書いて ```def add(a, b):```",
    "What is 12 + 34 × 5?",
    "源氏物語の作者について、三つの文で説明してください。🍵",
    "ＡＢＣ１２３を半角にして",
    "Write a haiku about the sea in Japanese and in English.",
)
GREEDY = SamplingOptions(temperature=0.0, seed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A prompt, the greedy answer, and the logits (answer, vocabulary) of every step of it."""

    prompt_ids: list[int]
    ids: list[int]
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What one format has in common with the reference, over all questions."""

    same_prompts: int
    same_answers: int
    questions: int
    mean_kl: float
    p99_kl: float
    top1: float

    def row(self, name: str) -> str:
        """One row of the table."""
        return (
            f"| {name} | {self.same_prompts}/{self.questions} | {self.same_answers}/{self.questions} "
            f"| {self.mean_kl:.2e} | {self.p99_kl:.2e} | {self.top1:.2%} |"
        )


HEADER = (
    "| format | same prompt ids | same greedy answers | mean KL | 99th percentile KL | same top-1 |\n"
    "|---|---|---|---|---|---|"
)


def write_forms(directory: Path, *, model: Path, tokenizer: Path, with_llama: bool = True) -> dict[str, Path]:
    """Write every form of the GGUF file ``model`` under ``directory``, by the name of the form.

    Without llama.cpp there is nothing that writes Q4_K_M.
    """
    source = directory / model.name
    shutil.copyfile(model, source)
    formats.write_all(source, tokenizer, directory)
    forms = {
        REFERENCE: directory / "full",
        "gguf-f32": directory / "mame-f32.gguf",
        "gguf-f16": directory / "mame-f16.gguf",
        "gguf-q8_0": source,
        "gguf-q4_k_m": directory / "mame-q4_k_m.gguf",
        "safetensors-bf16": directory / "bf16",
        **{layout: directory / layout for layout in ("gptq-8bit", "gptq-4bit", "awq")},
    }
    if with_llama:
        _quantize_gguf(forms["gguf-f32"], forms["gguf-q4_k_m"])
    _write_bf16(forms[REFERENCE], forms["safetensors-bf16"])
    return forms


def _quantize_gguf(source: Path, target: Path) -> None:
    import llama_cpp  # not on every machine that a GPU is checked on

    from tanuki_cli.engines.llama_cpp import native as llama_native

    llama_native.start(debug=False)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), parameters):
        sys.exit(f"llama.cpp could not write {target}")


def _write_bf16(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for path in source.glob("*.json"):
        (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    rounded = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(rounded, target / "model.safetensors", metadata={"format": "pt"})


def open_form(path: Path, settings: Settings) -> LocalEngine:
    """Load one form on its engine as the program does. Raises EngineError."""
    folder = path.is_dir()
    local = LocalModel(
        name=path.name,
        format="safetensors" if folder else "gguf",
        path=path,
        tokenizer=path / "tokenizer.json" if folder else None,
    )
    engine = open_engine(local, settings)
    assert isinstance(engine, LocalEngine)
    return engine


def answers(
    path: Path,
    chats: Sequence[Sequence[Message]],
    *,
    settings: Settings,
    tokens: int,
    along: Sequence[Answer] | None = None,
) -> list[Answer]:
    """Answer every chat; logits are along ``along``, or else along the answers themselves."""
    found: list[Answer] = []
    with closing(open_form(path, settings)) as engine:
        model, tokenizer = engine.token_model, engine.tokenizer
        for index, chat in enumerate(chats):
            prompt_ids = tokenizer.encode_chat(chat)
            ids: list[int] = []
            for id_ in islice(token_ids(model.generate(prompt_ids, GREEDY)), tokens):
                ids.append(id_)
                if id_ == tokenizer.eos_id:
                    break
            start, rest = (along[index].prompt_ids, along[index].ids) if along else (prompt_ids, ids)
            targets = tuple(range(len(start), len(start) + len(rest)))
            passage = Passage("answers", str(index), (*start, *rest), targets)
            logits = np.concatenate(list(logit_blocks(model, passage)))
            found.append(Answer(prompt_ids=prompt_ids, ids=ids, logits=logits))
    return found


def compare(reference: Sequence[Answer], candidate: Sequence[Answer]) -> Agreement:
    """Both over the same questions, by what ``tanuki compare`` counts with."""
    pairs = list(zip(reference, candidate, strict=True))
    targets = np.concatenate([np.asarray(answer.ids, dtype=np.int32) for answer in reference])
    exact = reference_rows(np.concatenate([answer.logits for answer in reference]), targets)
    scores = score_candidate(exact, np.concatenate([answer.logits for answer in candidate]), targets)
    found = summarize(
        Places(kl=scores.kl, nll=scores.nll, reference_nll=exact.nll, same_top=exact.top == scores.top)
    )
    return Agreement(
        same_prompts=sum(one.prompt_ids == two.prompt_ids for one, two in pairs),
        same_answers=sum(one.ids == two.ids for one, two in pairs),
        questions=len(pairs),
        mean_kl=found.kl.value,
        p99_kl=found.kl_at(0.99),
        top1=found.same_top.value,
    )


def make_chats(questions: Sequence[str]) -> list[list[Message]]:
    """Every question alone, and every second one as the second turn after the question before it."""
    chats = [[Message("user", question)] for question in questions]
    for first, second in zip(questions[::2], questions[1::2], strict=False):
        reply = Message("assistant", "はい。\n\n1. そうです😊")
        chats.append([Message("user", first), reply, Message("user", second)])
    return chats


def print_table(
    *,
    settings: Settings,
    model: Path = MAME / "mame-q8_0.gguf",
    questions: Sequence[str] = (),
    tokens: int = 64,
    only: Sequence[str] = (),
    skipped: tuple[str, ...] = (),
) -> None:
    """Print every form under ``settings`` against the reference on the CPU.

    ``only`` names the forms to try, none for all but those whose names begin as in ``skipped``.
    Without ``questions``, those are asked that the program suggests, and UNTAUGHT.
    """
    if not questions:
        suggested = json.loads((model.parent / "suggestions.json").read_text(encoding="utf-8"))
        questions = [*suggested["ja"], *suggested["en"], *UNTAUGHT]
    chats = make_chats(questions)
    with tempfile.TemporaryDirectory() as folder:
        with_llama = "gguf-" not in skipped
        forms = write_forms(
            Path(folder), model=model, tokenizer=model.parent / "tokenizer.json", with_llama=with_llama
        )
        on_cpu = Settings(gpu_layers=0, threads=1)  # a model this small only waits on more
        reference = answers(forms[REFERENCE], chats, settings=on_cpu, tokens=tokens)
        print(HEADER, flush=True)
        for name in only or [name for name in forms if not name.startswith(skipped)]:
            try:
                found = answers(forms[name], chats, settings=settings, tokens=tokens, along=reference)
            except EngineError as exc:
                print(f"| {name} | {exc.message} {exc.hint or ''} |", flush=True)
            else:
                print(compare(reference, found).row(name), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compares all formats and engines on one model.")
    parser.add_argument("--questions", type=Path, help="a file with one question a line")
    parser.add_argument("--tokens", type=int, default=64, help="length of an answer")
    parser.add_argument("--form", action="append", help="only this format; may be repeated")
    parser.add_argument("--model", type=Path, default=MAME / "mame-q8_0.gguf")
    options = parser.parse_args(arguments)
    lines = options.questions.read_text(encoding="utf-8").splitlines() if options.questions else []
    print_table(
        settings=Settings(gpu_layers=0, threads=1),
        model=options.model,
        questions=[line for line in lines if line.strip()],
        tokens=options.tokens,
        only=options.form or (),
    )


if __name__ == "__main__":
    main()
