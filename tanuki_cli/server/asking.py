"""From the fields of a request to jobs for the engine. Knows no network."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import MAX_ALTERNATIVES, AnswerForm, Job
from tanuki_cli.engines.local import prompt_limit
from tanuki_cli.errors import PromptTooLongError
from tanuki_cli.prompt import fit_context
from tanuki_cli.sampling import MAX_SEED, SamplingOptions
from tanuki_cli.server.faults import too_long, wrong
from tanuki_cli.server.fields import Fields, as_text, is_ids
from tanuki_cli.server.forms import read_shape
from tanuki_cli.server.roles import Turns, read_messages
from tanuki_cli.server.served import ServedModel

MAX_ANSWERS: Final = 64
"""Prompts of a request times the answers to each."""
MAX_STOPS: Final = 256
_LARGEST: Final = 2**63
_SAMPLE_CHARACTERS: Final = 4096
_WITHOUT_EFFECT: Final[dict[str, tuple[object, ...]]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "best_of": (1,),
    "use_beam_search": (False,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
}
"""What is not done here, and the values that ask for nothing; others are told of in a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt: its ids, or its messages where another server tokenises.

    ``begun`` is how the answer begins, ``text`` a prompt that came as text. ``dropped`` counts the oldest
    messages that were left out.
    """

    messages: tuple[Message, ...] = ()
    ids: tuple[int, ...] = ()
    begun: str = ""
    text: str = ""
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request that was read: every prompt is answered ``n`` times.

    ``truncates`` is whether the oldest turns may be dropped. ``ignored`` are fields that ask for what is
    not done here, ``guarded`` the lines that got a backslash. ``named_by_id`` is how tokens are named among
    log probabilities. ``turns`` are those of a chat.
    """

    prompts: tuple[Prompt, ...]
    jobs: tuple[Job, ...]
    n: int
    stream: bool
    include_usage: bool
    logprobs: int | None
    gives_ids: bool
    named_by_id: bool
    echo: bool
    truncates: bool
    ignored: tuple[str, ...]
    guarded: int = 0
    turns: Turns | None = None

    @property
    def dropped(self) -> int:
        """Messages that do not fit and were left out."""
        return sum(prompt.dropped for prompt in self.prompts)


def read_chat(request: Fields, model: ServedModel, *, truncates: bool = False) -> Wanted:
    """What a request to ``/v1/chat/completions`` wants. Raises ApiError, and InputError for its shape."""
    model.check_name(request.text("model"))
    _refuse_tools(request)
    turns = read_messages(request)
    alternatives = request.integer("top_logprobs", 0, MAX_ALTERNATIVES)
    logprobs = (alternatives or 0) if request.flag("logprobs") else None
    if alternatives and logprobs is None:
        raise wrong("top_logprobs", "'top_logprobs' needs 'logprobs': true.")
    truncates = truncates or _truncation(request)
    options = _options(request, model)
    prompt = _fitted(turns, options, model, truncates=truncates)
    wanted = _wanted(request, model, (prompt,), options, logprobs)
    return replace(wanted, guarded=turns.guarded, truncates=truncates, turns=turns)


def read_completion(request: Fields, model: ServedModel) -> Wanted:
    """What a request to ``/v1/completions`` wants. Raises ApiError, and InputError for its shape."""
    model.check_name(request.text("model"))
    if request.raw("suffix"):
        raise wrong("suffix", "'suffix': Tanuki cannot fill in the middle.")
    logprobs = request.integer("logprobs", 0, MAX_ALTERNATIVES)
    prompts = _prompts(request, model)
    if request.flag("echo") and logprobs is not None:
        raise wrong("echo", "'echo' and 'logprobs' cannot be used together.")
    return _wanted(request, model, prompts, _options(request, model), logprobs)


def _wanted(
    request: Fields,
    model: ServedModel,
    prompts: tuple[Prompt, ...],
    options: SamplingOptions,
    logprobs: int | None,
) -> Wanted:
    n = request.integer("n", 1, MAX_ANSWERS) or 1
    if n * len(prompts) > MAX_ANSWERS:
        raise wrong("n", f"A request may ask for {MAX_ANSWERS} answers at most.")
    form = AnswerForm(shape=read_shape(request), logprobs=0 if logprobs is None else max(1, logprobs))
    stream = request.flag("stream")
    streaming = request.part("stream_options")
    return Wanted(
        prompts=prompts,
        jobs=tuple(
            _job(prompt, _numbered(options, number), form, model) for prompt in prompts for number in range(n)
        ),
        n=n,
        stream=stream,
        include_usage=streaming is not None and streaming.flag("include_usage"),
        logprobs=logprobs,
        gives_ids=request.flag("return_token_ids"),
        named_by_id=request.flag("return_tokens_as_token_ids"),
        echo=request.flag("echo"),
        truncates=False,
        ignored=_ignored(request, model),
    )


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


def _options(request: Fields, model: ServedModel) -> SamplingOptions:
    """How tokens are chosen; what the request leaves out is as the settings have it."""
    defaults = model.defaults
    seed = request.integer("seed", -_LARGEST, _LARGEST - 1)
    stops = request.texts("stop", most=MAX_STOPS)
    if "" in stops:
        raise wrong("stop", "'stop' must not hold an empty text.")
    limit = request.integer("max_completion_tokens", 1, _LARGEST)
    limit = limit or request.integer("max_tokens", 1, _LARGEST) or defaults.max_new_tokens
    top_k = request.integer("top_k", -1, _LARGEST)
    penalty = request.number("repetition_penalty", 0.1, 10)
    penalty = request.number("repeat_penalty", 0.1, 10) if penalty is None else penalty
    return SamplingOptions(
        temperature=_or(request.number("temperature", 0, 2), defaults.temperature),
        top_p=_or(request.number("top_p", 0, 1), defaults.top_p),
        top_k=defaults.top_k if top_k is None else max(0, min(top_k, 100_000)),
        min_p=_or(request.number("min_p", 0, 1), defaults.min_p),
        repeat_penalty=_or(penalty, defaults.repeat_penalty),
        max_new_tokens=min(limit, model.context_length),
        stop=stops or defaults.stop,
        # -1 is how llama-server's clients say "any"; the others are folded into what engines take.
        seed=defaults.seed if seed is None else None if seed == -1 else seed % (MAX_SEED + 1),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


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


def _refuse_tools(request: Fields) -> None:
    if request.raw("tools") and request.raw("tool_choice") != "none":
        raise wrong(
            "tools", "'tools': Tanuki cannot call tools. Leave it out, or set 'tool_choice': \"none\"."
        )


def _truncation(request: Fields) -> bool:
    """Whether the oldest turns may be dropped, in the words of OpenAI's Responses."""
    wanted = request.text("truncation")
    if wanted not in (None, "auto", "disabled"):
        raise wrong("truncation", "'truncation' must be one of: auto, disabled.")
    return wanted == "auto"


def _ignored(request: Fields, model: ServedModel) -> tuple[str, ...]:
    """The fields that would change the answer elsewhere, and do not here."""
    names = [
        name for name, off in _WITHOUT_EFFECT.items() if request.has(name) and request.raw(name) not in off
    ]
    ends = request.items("stop_token_ids", most=MAX_STOPS) or ()
    own = model.tokenizer.end_ids if model.tokenizer is not None else frozenset()
    if any(id_ not in own for id_ in ends if isinstance(id_, int)):
        names.append("stop_token_ids")
    return tuple(names)
