"""Answers kept to a shape, by the practice model and by chance, held against an independent validator."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from msgspec.structs import replace

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import AnswerForm
from tanuki_cli.engines.base import Engine
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.engines.shapes import Shape, reading
from tanuki_cli.engines.shapes.guidance import Guide
from tanuki_cli.errors import EngineError
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings
from tanuki_cli.text.sanitize import sanitize
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.f32 import write_f32
from tests.support.shapes import CHOICES, GRAMMARS, PATTERNS, SCHEMAS

QUESTION = [Message("user", "たぬきについて教えて")]
GREEDY = SamplingOptions(temperature=0.0, max_new_tokens=200, seed=1)
WILD = replace(GREEDY, temperature=1.5)
MEASURED = Settings(context_length=1024, threads=1, gpu_layers=0)


def all_shapes() -> Iterator[Shape]:
    yield from map(reading.json_schema, SCHEMAS)
    yield from map(reading.regex, PATTERNS)
    yield from map(reading.grammar, GRAMMARS)
    yield from map(reading.choices, CHOICES)
    yield reading.any_object()


def check(shape: Shape, text: str) -> None:
    """Raise unless ``text`` is of ``shape``, by other means than those that made it."""
    if shape.is_json:
        value = json.loads(text)
        schema = json.loads(shape.text)
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)
        assert not re.search(r"\\u", text)
    elif shape.kind == "choices":
        assert text in shape.choices
    elif shape.kind == "regex" and r"\p" not in shape.text:
        assert re.fullmatch(shape.text, text)
    assert reading.fits(shape, text)


@pytest.fixture(scope="module")
def mame() -> Iterator[Engine]:
    engine = open_engine(practice_model(), MEASURED)
    yield engine
    engine.close()


def ask(engine: Engine, shape: Shape, options: SamplingOptions) -> tuple[str, str]:
    """The answer, and why it ended."""
    chunks = list(engine.stream(QUESTION, options, AnswerForm(shape=shape)))
    return "".join(chunk.text for chunk in chunks), str(chunks[-1].finish_reason)


@pytest.mark.parametrize("options", [GREEDY, WILD], ids=["greedy", "wild"])
def test_the_practice_model_keeps_every_shape(mame: Engine, options: SamplingOptions) -> None:
    finished = 0
    shapes = list(all_shapes())
    for number, shape in enumerate(shapes):
        text, reason = ask(mame, shape, replace(options, seed=number))
        if reason == "stop":
            check(shape, text)
            finished += 1
        else:
            assert not reading.fits(shape, text) or shape.text == '{"type": "object"}'
    assert finished > 0.85 * len(shapes)


@pytest.mark.parametrize("name", ["practice_tokenizer", "small_tokenizer"])
def test_chance_keeps_every_shape(name: str, request: pytest.FixtureRequest) -> None:
    """Any of the ids that are allowed, with equal chances: no model is further from what is usual."""
    tokenizer: ChatTokenizer = request.getfixturevalue(name)
    guide, dice = Guide(tokenizer), random.Random(7)
    finished = 0
    for shape in all_shapes():
        for _run in range(5):
            mask = guide.mask(shape)
            ids: list[int] = []
            while len(ids) < 300:
                forced = mask.forced(ids)
                id_ = forced[0] if forced else dice.choice(np.flatnonzero(mask.allowed(ids)).tolist())
                if id_ == tokenizer.eos_id:
                    check(shape, tokenizer.decode(ids))
                    finished += 1
                    break
                assert id_ not in tokenizer.control_ids
                ids.append(id_)
    assert finished > 0.85 * 5 * len(list(all_shapes()))


def test_both_engines_write_the_same(tmp_path: Path) -> None:
    shapes = [reading.json_schema(SCHEMAS[index]) for index in (7, 16, 19, 28, 36)]
    shapes += [reading.regex(PATTERNS[0]), reading.choices(CHOICES[0]), reading.grammar(GRAMMARS[1])]
    answers = []
    for local in write_f32(tmp_path):
        engine = open_engine(local, MEASURED)
        answers.append([ask(engine, shape, GREEDY) for shape in shapes])
        engine.close()
    assert answers[0] == answers[1]


def test_what_is_printed_of_json_is_json() -> None:
    """A carriage return is blank for JSON, and a visible sign where text is printed."""
    shape = reading.any_object()
    for blank in " \n\t":
        assert json.loads(sanitize(f"{{{blank}}}")) == {}
        assert reading.fits(shape, f"{{{blank}}}")
    assert not reading.fits(shape, "{\r}")


def test_the_seed_decides_and_the_prompt_is_in_the_cache(mame: Engine) -> None:
    shape = reading.json_schema(SCHEMAS[36])
    first = ask(mame, shape, WILD)
    chunks = list(mame.stream(QUESTION, WILD, AnswerForm(shape=shape)))
    assert "".join(chunk.text for chunk in chunks) == first[0]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.cached_tokens == usage.prompt_tokens - 8
    assert usage.completion_tokens == sum(chunk.token_count for chunk in chunks)
    assert ask(mame, shape, replace(WILD, seed=2)) != first


def test_a_stop_text_ends_it_and_the_limit_does(mame: Engine) -> None:
    shape = reading.json_schema(SCHEMAS[36])
    text, reason = ask(mame, shape, replace(GREEDY, stop=("著者",)))
    assert reason == "stop"
    assert "題名" in text
    assert not reading.fits(shape, text)
    assert ask(mame, shape, replace(GREEDY, max_new_tokens=3))[1] == "length"


def test_an_answer_after_one_in_a_shape_is_as_ever(mame: Engine) -> None:
    def plain() -> str:
        return "".join(chunk.text for chunk in mame.stream(QUESTION, GREEDY))

    before = plain()
    ask(mame, reading.choices(CHOICES[0]), GREEDY)
    assert plain() == before


def test_a_beginning_that_does_not_fit_is_an_error(practice_tokenizer: ChatTokenizer) -> None:
    shape = reading.choices(CHOICES[0])
    Guide(practice_tokenizer).mask(shape, practice_tokenizer.encode("は"))
    with pytest.raises(EngineError, match="shape"):
        Guide(practice_tokenizer).mask(shape, practice_tokenizer.encode("たぬき"))


def test_the_real_vocabulary(real_tokenizer: ChatTokenizer) -> None:
    guide = Guide(real_tokenizer)
    for shape in all_shapes():
        mask, ids, dice = guide.mask(shape), list[int](), random.Random(1)
        while len(ids) < 200:
            forced = mask.forced(ids)
            id_ = forced[0] if forced else dice.choice(np.flatnonzero(mask.allowed(ids)).tolist())
            if id_ == real_tokenizer.eos_id:
                check(shape, real_tokenizer.decode(ids))
                break
            ids.append(id_)
