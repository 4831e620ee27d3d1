"""From the fields of a request to jobs for the engine. Knows no network."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import MAX_ALTERNATIVES, AnswerForm, Job
from tanuki_cli.engines.local import prompt_limit
from tanuki_cli.errors import PromptTooLongError
from tanuki_cli.prompt import fit_context
from tanuki_cli.protocol.chat import MAX_ANSWERS, read_chat_request, read_options
from tanuki_cli.protocol.fields import Fields, as_text
from tanuki_cli.protocol.shapes import read_shape
from tanuki_cli.protocol.support import COMPLETION, refuse_end_ids, unknown_fields
from tanuki_cli.protocol.turns import Turns
from tanuki_cli.sampling import MAX_SEED, SamplingOptions
from tanuki_cli.server.faults import too_long, wrong
from tanuki_cli.server.served import ServedModel

_SAMPLE_CHARACTERS: Final = 4096
_OWN: Final = frozenset(("return_token_ids", "return_tokens_as_token_ids"))
"""What is read here of both kinds of request."""


class Prompt(Struct, frozen=True, kw_only=True):
    """One prompt: its ids, or its messages where another server tokenises.

    ``begun`` is how the answer begins, ``text`` a prompt that came as text. ``dropped`` counts the oldest
    messages that were left out.
    """

    messages: tuple[Message, ...] = ()
    ids: tuple[int, ...] = ()
    begun: str = ""
    text: str = ""
    dropped: int = 0


class Wanted(Struct, frozen=True, kw_only=True):
    """A request that was read: every prompt is answered ``n`` times.

    ``truncates`` is whether the oldest turns may be dropped. ``ignored`` are fields that nobody
    here knows, ``guarded`` the lines that got a backslash. ``named_by_id`` is how tokens are named among
    log probabilities. ``turns`` are those of a chat.
    """

    prompts: tuple[Prompt, ...]
    jobs: tuple[Job, ...]
    n: int
    stream: bool
    include_usage: bool
    gives_ids: bool
    named_by_id: bool
    logprobs: int | None = None
    echo: bool = False
    truncates: bool = False
    ignored: tuple[str, ...] = ()
    guarded: int = 0
    turns: Turns | None = None

    @property
    def dropped(self) -> int:
        """Messages that do not fit and were left out."""
        return sum(prompt.dropped for prompt in self.prompts)


def read_chat(request: Fields, model: ServedModel, *, truncates: bool = False) -> Wanted:
    """What a request to ``/v1/chat/completions`` wants. Raises ApiError, and InputError for its shape."""
    model.check_name(request.text("model"))
    asked = read_chat_request(request, model.defaults, also=_OWN, end_ids=_end_ids(model))
    truncates = truncates or asked.truncates
    options = _within(asked.options, model)
    prompt = _fitted(asked.turns, options, model, truncates=truncates)
    form = AnswerForm(shape=asked.shape, logprobs=_alternatives(asked.logprobs))
    wanted = _wanted(request, model, (prompt,), options, form, n=asked.n)
    return replace(
        wanted,
        logprobs=asked.logprobs,
        truncates=truncates,
        ignored=asked.ignored,
        guarded=asked.turns.guarded,
        turns=asked.turns,
    )


def read_completion(request: Fields, model: ServedModel) -> Wanted:
    """What a request to ``/v1/completions`` wants. Raises ApiError, and InputError for its shape."""
    model.check_name(request.text("model"))
    ignored = unknown_fields(request, COMPLETION | _OWN)
    refuse_end_ids(request, _end_ids(model))
    logprobs = request.integer("logprobs", 0, MAX_ALTERNATIVES)
    prompts = _prompts(request, model)
    echo = request.flag("echo")
    if echo and logprobs is not None:
        raise wrong("echo", "'echo' and 'logprobs' cannot be used together.")
    n = request.integer("n", 1, MAX_ANSWERS) or 1
    if n * len(prompts) > MAX_ANSWERS:
        raise wrong("n", f"A request may ask for {MAX_ANSWERS} answers at most.")
    options = _within(read_options(request, model.defaults), model)
    form = AnswerForm(shape=read_shape(request), logprobs=_alternatives(logprobs))
    wanted = _wanted(request, model, prompts, options, form, n=n)
    return replace(wanted, logprobs=logprobs, echo=echo, ignored=ignored)


def _wanted(
    request: Fields,
    model: ServedModel,
    prompts: tuple[Prompt, ...],
    options: SamplingOptions,
    form: AnswerForm,
    *,
    n: int,
) -> Wanted:
    streaming = request.part("stream_options")
    return Wanted(
        prompts=prompts,
        jobs=tuple(
            _job(prompt, _numbered(options, number), form, model) for prompt in prompts for number in range(n)
        ),
        n=n,
        stream=request.flag("stream"),
        include_usage=streaming is not None and streaming.flag("include_usage"),
        gives_ids=request.flag("return_token_ids"),
        named_by_id=request.flag("return_tokens_as_token_ids"),
    )


def _alternatives(logprobs: int | None) -> int:
    """How many the engine gives: the likeliest is always told of with the token itself."""
    return 0 if logprobs is None else max(1, logprobs)


def _end_ids(model: ServedModel) -> frozenset[int]:
    return model.tokenizer.end_ids if model.tokenizer is not None else frozenset()


def _within(options: SamplingOptions, model: ServedModel) -> SamplingOptions:
    """``options`` with an answer as long as the context, at most."""
    return replace(options, max_new_tokens=min(options.max_new_tokens, model.context_length))


def _job(prompt: Prompt, options: SamplingOptions, form: AnswerForm, model: ServedModel) -> Job:
    form = replace(form, begun=prompt.begun)
    if model.takes_ids:
        return Job(prompt_ids=prompt.ids, options=options, form=form)
    return Job(messages=prompt.messages, options=options, form=form)


def _numbered(options: SamplingOptions, number: int) -> SamplingOptions:
    """Several answers to one prompt have seeds that follow one another."""
    if options.seed is None:
        return options
    return replace(options, seed=(options.seed + number) % (MAX_SEED + 1))


def _fitted(turns: Turns, options: SamplingOptions, model: ServedModel, *, truncates: bool) -> Prompt:
    """The prompt of ``turns``: whole, or without its oldest turns where it ``truncates``.

    A prompt may take all but one token of the context. Where turns are dropped, the answer gets its room.
    """
    if not model.takes_ids:
        return Prompt(messages=turns.messages, begun=turns.begun)
    _check_length("messages", [message.content for message in turns.messages], model)
    begun = model.exact.encode(turns.begun)
    most = model.context_length - 1 - len(begun)
    kept: Sequence[Message] = turns.messages
    if truncates:
        limit = prompt_limit(model.context_length, options.max_new_tokens) - len(begun)
        kept = _without_oldest(kept, model, limits=(limit, most))
    ids = model.exact.encode_chat(kept)
    if len(ids) > most:
        raise too_long("messages", prompt_tokens=len(ids), limit=most, context_length=model.context_length)
    return Prompt(ids=tuple(ids), begun=turns.begun, dropped=len(turns.messages) - len(kept))


def _without_oldest(
    messages: Sequence[Message], model: ServedModel, *, limits: Sequence[int]
) -> Sequence[Message]:
    """``messages`` as far as they fit the first of ``limits`` that the newest of them fits."""
    for limit in limits:
        with suppress(PromptTooLongError):
            return fit_context(messages, model.exact, max_prompt_tokens=max(1, limit))
    return messages[-1:]


def _check_length(name: str, texts: Sequence[str], model: ServedModel) -> None:
    """Refuse what cannot fit, whatever stands in it: tokenising takes a hundred times its memory."""
    characters = sum(map(len, texts))
    if characters > model.max_characters:
        sample = "".join(texts)[:_SAMPLE_CHARACTERS]
        tokens = len(model.exact.encode(sample)) * characters // len(sample)
        raise too_long(
            name,
            prompt_tokens=max(tokens, model.context_length),
            limit=model.context_length - 1,
            context_length=model.context_length,
        )


def _prompts(request: Fields, model: ServedModel) -> tuple[Prompt, ...]:
    """A text, ids, or a list of either."""
    value = request.raw("prompt")
    single = isinstance(value, str) or is_ids(value)
    found = [value] if single else request.items("prompt", most=MAX_ANSWERS)
    if not found:
        raise wrong("prompt", "'prompt' must be a string, a list of token ids, or a list of either.")
    return tuple(
        _prompt(item, "prompt" if single else f"prompt[{index}]", model) for index, item in enumerate(found)
    )


def _prompt(value: object, name: str, model: ServedModel) -> Prompt:
    tokenizer = model.exact
    text = ""
    if isinstance(value, list):
        if not is_ids(value):
            raise wrong(name, f"'{name}' must be a string, or a list of token ids.")
        unknown = next((id_ for id_ in value if not 0 <= id_ < tokenizer.vocab_size), None)
        if unknown is not None:
            raise wrong(name, f"'{name}': the model has no token {unknown % 10**20}.")
        ids = tuple(value)
    else:
        text = as_text(value, name)
        _check_length(name, [text], model)
        ids = (tokenizer.bos_id, *tokenizer.encode(text))
    if len(ids) >= model.context_length:
        limit = model.context_length - 1
        raise too_long(name, prompt_tokens=len(ids), limit=limit, context_length=model.context_length)
    return Prompt(ids=ids, text=text)


def is_ids(value: object) -> bool:
    """Whether ``value`` is a list of whole numbers, and not empty."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)
