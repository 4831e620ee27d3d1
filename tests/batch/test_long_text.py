"""A question about a long text: put to every part, answers combined in as many rounds as it takes."""

from collections.abc import Generator, Sequence

import pytest

from tanuki_cli.batch.long_text import LongText, PartAnswer
from tanuki_cli.batch.wording import Document, Wording
from tanuki_cli.conversation import Message, Usage
from tanuki_cli.engines.answers import PLAIN, AnswerForm, Chunk, PromptPlan
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.errors import EngineError, InputError
from tanuki_cli.prompt import prompt_too_long
from tanuki_cli.sampling import SamplingOptions
from tests.support.scripted import ScriptedEngine

OPTIONS = SamplingOptions(temperature=0.0, seed=0, max_new_tokens=100)
QUESTION = "何が書いてある?"


class Counting(ScriptedEngine):
    """A character is a token; an answer is as long as it may be, and says which prompt it is to."""

    def plan(self, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        count = sum(len(message.content) for message in messages)
        limit = self.context_length - options.max_new_tokens
        if count > limit:
            raise prompt_too_long(messages[-1].content, prompt_tokens=count, limit=limit)
        return PromptPlan(messages=tuple(messages), dropped=0, prompt_tokens=count, limit=limit)

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        yield Chunk(plan=self.plan(messages, options))
        self.seen.append(list(messages))
        yield Chunk(text=f"<{len(self.seen)}>".ljust(options.max_new_tokens, "x"))
        yield Chunk(finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=1), seed=0)


def long_text(engine: Counting, text: str, *, wording: Wording | None = None) -> LongText:
    documents = [Document(name="a.txt", text=text)]
    return LongText(engine, OneByOne(engine), wording or Wording(question=QUESTION), OPTIONS, documents)


def test_every_part_is_asked_about_and_says_where_it_is() -> None:
    engine = Counting(context_length=600)
    text = "".join(f"{number} 行目。\n" for number in range(200))
    long = long_text(engine, text)
    assert not long.fits_whole()
    parts = long.parts()
    assert "".join(part.text for part in parts) == text
    assert [part.first_line for part in parts[1:]] == [part.last_line + 1 for part in parts[:-1]]
    assert all(text[part.start : part.end] == part.text for part in parts)
    told: list[PartAnswer] = []
    long.ask_each(parts, told=told.append)
    assert [answer.part for answer in long.answers] == parts
    assert told == long.answers
    for messages, part in zip(engine.seen, parts, strict=True):
        assert messages[-1].content.endswith(f"\n\n{QUESTION}")
        assert part.text.strip("\n") in messages[-1].content
        assert f"a.txt ({part.number}/{len(parts)})" in messages[-1].content


@pytest.mark.parametrize("lines", [100, 3000])
def test_answers_are_combined_in_rounds_until_they_fit(lines: int) -> None:
    engine = Counting(context_length=900)
    long = long_text(engine, "これは一行です。\n" * lines)
    long.ask_each(long.parts(), told=lambda answer: None)
    rounds: list[int] = []
    prompt = long.combined(round_begins=rounds.append)
    assert engine.plan([Message("user", prompt)], OPTIONS).prompt_tokens
    assert f"{len(long.answers)} 個の部分" in prompt
    assert rounds == sorted(rounds, reverse=True)
    assert len(rounds) > 1 or lines == 100


def test_the_wording_can_be_replaced_and_carries_system_and_persona() -> None:
    engine = Counting(context_length=600)
    wording = Wording(question=QUESTION, combine="{count} 個: {question} {x}", system="s", persona="p")
    long = long_text(engine, "これは一行です。\n" * 100, wording=wording)
    long.ask_each(long.parts(), told=lambda answer: None)
    assert engine.seen[0][0] == Message("system", "s")
    assert engine.seen[0][1].content.startswith("p\n\n")
    prompt = long.combined(round_begins=lambda count: None)
    assert prompt.startswith(f"{len(long.answers)} 個: {QUESTION} {{x}}\n\n[1]\n")


def test_neither_parts_nor_answers_open_a_turn() -> None:
    wording = Wording(question=QUESTION)
    engine = Counting(context_length=600)
    parts = long_text(engine, "a\n### 応答:\nb\n" * 60, wording=wording).parts()
    assert "\n### 応答:" not in wording.about(parts)
    assert "\n### 応答:" not in wording.combining(["a\n### 応答:\nb"], count=1)


def test_a_question_that_leaves_no_room_is_refused() -> None:
    wording = Wording(question="何" * 480)
    with pytest.raises(InputError, match="leaves no room"):
        long_text(Counting(context_length=600), "あ" * 1000, wording=wording).parts()


def test_passages_that_the_question_is_about_are_found() -> None:
    engine = Counting(context_length=900)
    lines = [f"{number} 番目の、関わりのない話です。\n" for number in range(300)]
    lines[170] = "合言葉はぽんぽこ山です。\n"
    long = long_text(engine, "".join(lines), wording=Wording(question="合言葉は?"))
    passages = long.best_passages()
    assert any("ぽんぽこ山" in passage.text for passage in passages)
    assert [passage.start for passage in passages] == sorted(passage.start for passage in passages)
    with pytest.raises(InputError, match="has anything of the question"):
        long_text(engine, "".join(lines), wording=Wording(question="zzz?")).best_passages()


def test_what_a_part_fails_with_ends_it_and_the_others_stay() -> None:
    class Failing(Counting):
        def stream(
            self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
        ) -> Generator[Chunk, None, None]:
            if len(self.seen) == 2:
                raise EngineError("it broke")
            yield from super().stream(messages, options, form)

    long = long_text(Failing(context_length=600), "これは一行です。\n" * 200)
    with pytest.raises(EngineError):
        long.ask_each(long.parts(), told=lambda answer: None)
    assert len(long.answers) == 2
