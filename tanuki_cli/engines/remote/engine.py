"""A model behind a server: vLLM, llama-server, Ollama, or anything OpenAI-compatible.

Where the server takes token ids, and turns ours back into the same text, exactly the ids of a local
engine are sent. Everywhere else the chat endpoint is used and the server tokenises; a note says so.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from copy import copy
from functools import partial

from tanuki_cli.catalog import RemoteModel
from tanuki_cli.conversation import Message, Usage
from tanuki_cli.engines.answers import PLAIN, AnswerForm, AnswerScore, Chunk, PromptPlan, Token
from tanuki_cli.engines.base import Answerer, EngineInfo
from tanuki_cli.engines.one_by_one import OneByOne
from tanuki_cli.engines.remote.answer import RemoteAnswer
from tanuki_cli.engines.remote.answerer import RemoteAnswerer
from tanuki_cli.engines.remote.asking import Asking, Learnt
from tanuki_cli.engines.remote.credentials import ApiKey, how_to_give_a_key
from tanuki_cli.engines.remote.failures import RequestFailed
from tanuki_cli.engines.remote.http import RemoteConnection, RemoteTimeouts
from tanuki_cli.engines.remote.probe import Server, matching_tokenizer, probe
from tanuki_cli.engines.remote.prompts import Prompts
from tanuki_cli.engines.remote.scoring import can_score, score_answers, tells_no_probability
from tanuki_cli.engines.remote.shapes import form_fields
from tanuki_cli.engines.remote.sockets import CancelFlag
from tanuki_cli.errors import InputError, TanukiError
from tanuki_cli.i18n import _
from tanuki_cli.prompt import prompt_too_long
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import DEFAULT_CONTEXT_LENGTH
from tanuki_cli.text.sanitize import sanitize_line
from tanuki_cli.tokenizer import ChatTokenizer


class RemoteEngine:
    """Implements :class:`~tanuki_cli.engines.base.Engine` on a server, which is asked what it is first.

    ``tokenizers`` are tried in turn where the server takes ids; the first whose ids are the server's is
    used. They may be made lazily, and must have been through
    :func:`~tanuki_cli.tokenizer.verify_tokenizer`, as those of local engines. ``context_length`` can
    only shorten what the server offers; ``notes`` come before its own. ``tokenizer_command`` gets Tanuki's
    tokenizer where it is not here; ``fetch_tokenizer`` does, after asking, where it would help. Raises
    RemoteError if the server cannot be used, InputError for a wrong address.
    """

    def __init__(
        self,
        model: RemoteModel,
        *,
        tokenizers: Iterable[ChatTokenizer] = (),
        notes: Sequence[str] = (),
        api_key: ApiKey | None = None,
        context_length: int | None = None,
        timeouts: RemoteTimeouts | None = None,
        tokenizer_command: str = "",
        fetch_tokenizer: Callable[[str], Iterable[ChatTokenizer]] = lambda host: (),
    ) -> None:
        self._name = model.name
        self._tokenizer_command = tokenizer_command
        self._notes = notes
        self._flag = CancelFlag()
        self._connect = partial(
            RemoteConnection,
            model.base_url,
            api_key=api_key,
            timeouts=timeouts or RemoteTimeouts(),
            key_hint=how_to_give_a_key(model.name),
        )
        self._connection = self._connect(flag=self._flag)
        try:
            self._server = probe(self._connection, model.served_name)
            self._tokenizer = matching_tokenizer(self._server, tokenizers, self._connection)
            if self._tokenizer is None and self._server.is_tanuki:
                fetched = fetch_tokenizer(self._connection.host) if self._server.takes_ids else ()
                self._tokenizer = matching_tokenizer(self._server, fetched, self._connection)
        except TanukiError:
            self.close()
            raise
        lengths = [length for length in (context_length, self._server.context_length) if length]
        self._prompts = Prompts(
            tokenizer=self._tokenizer,
            context_length=min(lengths, default=DEFAULT_CONTEXT_LENGTH),
            context_is_known=bool(lengths),
        )
        self._learnt = Learnt(own_text=self._server.is_tanuki and self._server.takes_text)

    @property
    def info(self) -> EngineInfo:
        """What runs where, e.g. ``lab (tanuki-8b)``, ``vLLM 0.10.2``, ``gpu1:8000``."""
        served = sanitize_line(self._server.model)  # shown, and kept in the history
        model = served if "://" in self._name else f"{self._name} ({served})"
        return EngineInfo(model=model, engine=self._server.software, device=self._connection.host)

    @property
    def server(self) -> Server:
        """What answered, for ``doctor``: its kind, the served model, its context length."""
        return self._server

    @property
    def tokenizer(self) -> ChatTokenizer | None:
        """What makes the ids that are sent; None where text is sent."""
        return self._tokenizer

    @property
    def exact(self) -> bool:
        """Whether token ids are sent, exactly those of a local engine."""
        return self._tokenizer is not None

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer share; a cautious default where the server does not say."""
        return self._prompts.context_length

    @property
    def notes(self) -> list[str]:
        """Sentences that the user should see once."""
        notes = [*self._notes]
        if not self.exact and self._server.kind != "tanuki":  # its own tokens are exact
            notes.append(self._inexact_note.format(host=self._connection.host))
            if self._tokenizer_command and self._server.takes_ids and self._server.is_tanuki:
                notes.append(
                    _("With Tanuki's tokenizer (4 MB) it is given exact tokens: {command}").format(
                        command=self._tokenizer_command
                    )
                )
        if self._connection.sends_key_in_the_clear:
            notes.append(
                _("The API key goes to {host} unencrypted, because the address begins with http://.").format(
                    host=self._connection.host
                )
            )
        if self._server.kind == "llama-server" and "8x8b" in self._server.model.lower():
            notes.append(
                _("Tanuki-8x8B gives wrong answers on llama-server, unless it was built from the 8x8B fork.")
            )
        return notes

    @property
    def _inexact_note(self) -> str:
        if self._learnt.own_text:
            return _(
                "{host} tokenises the text itself, so its answers can differ from those of exact tokens."
            )
        return _(
            "{host} applies a template of its own and tokenises the text itself, so its answers can differ "
            "from those of Tanuki's exact prompt."
        )

    def plan(self, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        """What of ``messages`` would be sent.

        Where only the server can count tokens this is all of them; if that proves to be too much,
        :meth:`stream` sends fewer and says so with another plan.
        """
        return self._prompts.plan(next(self._prompts.of(messages, options)), messages, options)

    def stream(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Answer the last message; see :meth:`Engine.stream <tanuki_cli.engines.base.Engine.stream>`.

        A failure before the first token is tried again a few times where that may help.
        """
        self._flag.clear()
        fields = form_fields(self._server, form, host=self._connection.host, exact=self.exact)
        options = options.with_seed()
        scores = self._choice_scores(messages, options, form)
        if scores and options.greedy:
            yield from self._likeliest(scores, messages, options, form)
            return
        asking = Asking(
            connection=self._connection,
            server=self._server,
            exact=self.exact,
            learnt=self._learnt,
            flag=self._flag,
        )
        overflow: RequestFailed | None = None
        begun = ""
        for prompt in self._prompts.of(messages, options, form.begun):
            text = self._prompts.begun_text(prompt)
            yield Chunk(
                plan=self._prompts.plan(prompt, messages, options),
                text=text.removeprefix(begun),  # once, however often the prompt has to be shortened
                tokens=tuple(map(Token, prompt.begun)),
            )
            begun = text
            answer = RemoteAnswer(self._tokenizer, prompt, options, alternatives=form.logprobs)
            try:
                with closing(asking.deltas(prompt, options, fields, form.logprobs)) as deltas:
                    yield from answer.stream(deltas)
            except RequestFailed as failure:
                if answer.begun or not failure.context_overflow:
                    raise
                overflow = failure
            else:
                seed = None if "seed" in self._learnt.refused else options.seed
                yield answer.last_chunk(seed=seed, scores=scores)
                return
        raise self._too_long(messages[-1], overflow) from overflow

    def complete(
        self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm = PLAIN
    ) -> Generator[Chunk, None, None]:
        """Raises InputError: a server is only asked with messages."""
        raise InputError(
            _("{host} is only asked with messages.").format(host=self._connection.host),
            hint=_("Use a model on this machine: tanuki models"),
        )

    def score(
        self, messages: Sequence[Message], answers: Sequence[str], *, alternatives: int = 0
    ) -> list[AnswerScore]:
        """How likely each of ``answers`` is; see :meth:`Engine.score
        <tanuki_cli.engines.base.Engine.score>`.

        Raises RemoteError as well where the server does not say: only vLLM, given ids, does.
        """
        self._flag.clear()
        scores = self._scores(messages, answers, alternatives)
        if not scores:
            raise tells_no_probability(self._connection.host)
        return scores

    def _scores(
        self, messages: Sequence[Message], answers: Sequence[str], alternatives: int
    ) -> list[AnswerScore]:
        """Nothing where the server does not tell."""
        if self._tokenizer is None or not can_score(self._server):
            return []
        longest = max(len(self._tokenizer.encode(answer)) for answer in answers) + 1
        prompt = next(self._prompts.of(messages, SamplingOptions(max_new_tokens=longest)))
        return score_answers(
            self._connection,
            self._server,
            self._tokenizer,
            prompt.ids or (),
            answers,
            alternatives=alternatives,
        )

    def _choice_scores(
        self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm
    ) -> tuple[AnswerScore, ...]:
        """Those of the choices, where they are wanted and the server tells."""
        choices = form.shape.choices if form.shape is not None and not form.begun else ()
        wanted = choices and (form.scores or options.greedy)
        return tuple(self._scores(messages, choices, form.logprobs)) if wanted else ()

    def _likeliest(
        self,
        scores: tuple[AnswerScore, ...],
        messages: Sequence[Message],
        options: SamplingOptions,
        form: AnswerForm,
    ) -> Iterator[Chunk]:
        """The likeliest of the choices, as it is without a server."""
        best = max(scores, key=lambda score: score.logprob)
        tokens = best.tokens if form.logprobs else tuple(Token(token.id) for token in best.tokens)
        prompt = next(self._prompts.of(messages, options))
        usage = Usage(prompt_tokens=len(prompt.ids or ()), completion_tokens=len(tokens))
        yield Chunk(plan=self._prompts.plan(prompt, messages, options))
        yield Chunk(text=best.text, token_count=len(tokens), tokens=tokens)
        yield Chunk(finish_reason="stop", usage=usage, seed=options.seed, scores=scores)

    def answerer(self, places: int | None = None, *, interactive: bool = False) -> Answerer:
        """This server for several jobs at once, on as many connections; by default as many as it likes."""
        places = places or self._server.usual_places
        if places == 1 or not (self._tokenizer is None or self._tokenizer.thread_safe):
            return OneByOne(self)
        return RemoteAnswerer(self._another, places, close=self.close)

    def _another(self) -> "RemoteEngine":
        """The same server on a connection of its own, for another thread."""
        twin = copy(self)  # what is learnt of the server is learnt for all
        twin._flag = CancelFlag()
        twin._connection = self._connect(flag=twin._flag)
        return twin

    def cancel(self) -> None:
        """Ask the running stream to stop; only sets a flag, so safe in a signal handler.

        The connection is closed within 0.3 seconds, which makes the server stop too.
        """
        self._flag.set()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _too_long(self, message: Message, overflow: RequestFailed | None) -> InputError:
        size, limit = (overflow.prompt_tokens, overflow.context_length) if overflow else (None, None)
        if size is not None and limit is not None and size > limit:
            return prompt_too_long(message.content, prompt_tokens=size, limit=limit)
        return InputError(
            _("The message is too long for the served model."),
            hint=_("Shorten it, or serve the model with a longer context."),
        )
