"""From the fields of a request to jobs: what the engine is given, without one."""

import pytest

from tanuki_cli.conversation import Message
from tanuki_cli.protocol.fields import Fields
from tanuki_cli.sampling import MAX_SEED, SamplingOptions
from tanuki_cli.server.asking import Wanted, read_chat
from tanuki_cli.server.faults import ApiError
from tanuki_cli.server.served import ServedModel
from tanuki_cli.tokenizer import ChatTokenizer
from tests.support.served import served_model

DEFAULTS = SamplingOptions(temperature=0.3, top_k=7, max_new_tokens=50)


@pytest.fixture
def model(practice_tokenizer: ChatTokenizer) -> ServedModel:
    return served_model(practice_tokenizer, DEFAULTS, context_length=256)


def chat(model: ServedModel, **fields: object) -> Wanted:
    return read_chat(Fields({"messages": [{"role": "user", "content": "たぬき"}], **fields}), model)


def test_what_is_left_out_is_as_the_settings_have_it(model: ServedModel) -> None:
    [job] = chat(model).jobs
    assert job.options == DEFAULTS
    [job] = chat(model, temperature=1, top_k=-1, max_completion_tokens=9, max_tokens=5, stop="x").jobs
    assert job.options == SamplingOptions(temperature=1, top_k=0, max_new_tokens=9, stop=("x",))


@pytest.mark.parametrize(
    ("seed", "seeds"),
    [
        (None, [None, None]),
        (-1, [None, None]),
        (5, [5, 6]),
        (MAX_SEED, [MAX_SEED, 0]),
        (MAX_SEED + 1, [0, 1]),
        (2**63 - 1, [(2**63 - 1) % (MAX_SEED + 1), 2**63 % (MAX_SEED + 1)]),
    ],
)
def test_seeds_follow_one_another(model: ServedModel, seed: int | None, seeds: list[int | None]) -> None:
    assert [job.options.seed for job in chat(model, seed=seed, n=2).jobs] == seeds


def test_the_whole_context_may_be_used(model: ServedModel, practice_tokenizer: ChatTokenizer) -> None:
    """Up to the last token but one; then it is an error, or the oldest turns go."""

    def messages(count: int) -> list[dict[str, str]]:
        turn = [{"role": "user", "content": "たぬき"}, {"role": "assistant", "content": "はい"}]
        return [*turn * count, {"role": "user", "content": "たぬき"}]

    def size(count: int) -> int:
        made = [Message(message["role"], message["content"]) for message in messages(count)]  # type: ignore[arg-type]
        return len(practice_tokenizer.encode_chat(made))

    fitting = max(count for count in range(100) if size(count) < model.context_length)
    [job] = chat(model, messages=messages(fitting)).jobs
    assert len(job.prompt_ids) == size(fitting)
    with pytest.raises(ApiError) as caught:
        chat(model, messages=messages(fitting + 1))
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.details["n_prompt_tokens"] == size(fitting + 1)
    wanted = chat(model, messages=messages(fitting + 1), truncation="auto")
    assert wanted.dropped >= 2
    assert len(wanted.jobs[0].prompt_ids) <= model.context_length - DEFAULTS.max_new_tokens
    assert wanted.jobs[0].prompt_ids[0] == practice_tokenizer.bos_id
