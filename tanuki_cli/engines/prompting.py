"""From what is asked to the ids a local model is given, and the mask that keeps the answer to its shape."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answer_text import AnswerText
from tanuki_cli.engines.answers import AnswerForm, Chunk, PromptPlan, Token
from tanuki_cli.errors import DamagedModelError, InputError, PromptTooLongError
from tanuki_cli.i18n import _
from tanuki_cli.prompt import fit_context
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from tanuki_cli.engines.masks import LogitsMask
    from tanuki_cli.engines.shapes.guidance import Guide


def prompt_limit(context_length: int, max_new_tokens: int) -> int:
    """Tokens a prompt may have: room is kept for the answer, but never more than half."""
    return context_length - min(max_new_tokens, context_length // 2)


class Prompt(Struct, frozen=True, kw_only=True):
    """What a model is given for one answer: ``ids``, the last of which are ``begun``, how the answer begins.

    The seed of ``options`` is set.
    """

    plan: PromptPlan
    ids: list[int]
    begun: Sequence[int]
    options: SamplingOptions
    form: AnswerForm

    @property
    def scored_choices(self) -> Sequence[str]:
        """Answers whose probabilities are wanted before anything is generated; often none."""
        shape = self.form.shape
        if shape is None or self.begun or not (self.form.scores or self.options.greedy):
            return ()
        return shape.choices

    @property
    def is_chosen(self) -> bool:
        """Whether the answer is the likeliest of the choices, so that nothing is generated."""
        return self.options.greedy and bool(self.scored_choices)


class Prompter:
    """Makes prompts for a model with ``tokenizer`` and ``context_length``.

    ``get_again`` is the advice for a model whose files turn out to be damaged.
    """

    def __init__(self, tokenizer: ChatTokenizer, *, context_length: int, get_again: str = "") -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self._get_again = get_again
        self._guide: Guide | None = None

    def chat(self, messages: Sequence[Message], options: SamplingOptions, form: AnswerForm) -> Prompt:
        """Ask for an answer to the last message. Raises PromptTooLongError if it alone does not fit."""
        begun = self._begun(form)
        limit = prompt_limit(self.context_length, options.max_new_tokens)
        with self.advice():
            kept = fit_context(messages, self.tokenizer, max_prompt_tokens=limit - len(begun))
            ids = [*self.tokenizer.encode_chat(kept), *begun]
        plan = PromptPlan(
            messages=tuple(kept), dropped=len(messages) - len(kept), prompt_tokens=len(ids), limit=limit
        )
        return Prompt(plan=plan, ids=ids, begun=begun, options=options.with_seed(), form=form)

    def continuation(self, prompt_ids: Sequence[int], options: SamplingOptions, form: AnswerForm) -> Prompt:
        """Ask for what follows ``prompt_ids`` as they are.

        Raises InputError for ids that the model does not have, and PromptTooLongError.
        """
        begun = self._begun(form)
        ids = [*prompt_ids, *begun]
        unknown = next((id_ for id_ in ids if not 0 <= id_ < self.tokenizer.vocab_size), None)
        if unknown is not None:
            raise InputError(_("The model has no token {id}.").format(id=unknown))
        limit = self.context_length - 1
        if len(ids) > limit:
            raise PromptTooLongError(
                _("The prompt has {count} tokens, the context {limit}.").format(
                    count=len(ids), limit=self.context_length
                ),
                hint=None,
                prompt_tokens=len(ids),
                limit=limit,
                excess_characters=len(ids) - limit,
            )
        plan = PromptPlan(messages=(), dropped=0, prompt_tokens=len(ids), limit=limit)
        return Prompt(plan=plan, ids=ids, begun=begun, options=options.with_seed(), form=form)

    def begin(self, prompt: Prompt) -> tuple[Chunk, AnswerText]:
        """The first chunk of an answer, and what makes the others of its tokens."""
        begun, tokenizer = prompt.begun, self.tokenizer
        whole = tokenizer.complete_length(begun)
        before = prompt.ids[: len(prompt.ids) - len(begun)]
        with self.advice():
            text = "".join(tokenizer.detokenize(begun[:whole], prompt_ids=before))
            answer = AnswerText(tokenizer, [*before, *begun[:whole]], prompt.options, withheld=begun[whole:])
        return Chunk(plan=prompt.plan, text=text, tokens=tuple(map(Token, begun))), answer

    def mask(self, prompt: Prompt) -> "LogitsMask | None":
        """What keeps the answer to its shape, if it has one. Raises EngineError where ``begun`` does not."""
        shape = prompt.form.shape
        if shape is None:
            return None
        if self._guide is None:
            # Its import, and a look at every piece, are for those who ask for a shape.
            from tanuki_cli.engines.shapes.guidance import Guide

            self._guide = Guide(self.tokenizer)
        return self._guide.mask(shape, prompt.begun)

    @contextmanager
    def advice(self) -> Iterator[None]:
        """Say how to get a model again whose files turn out to be damaged."""
        try:
            yield
        except DamagedModelError as exc:
            exc.hint = exc.hint or self._get_again
            raise

    def _begun(self, form: AnswerForm) -> list[int]:
        return self.tokenizer.encode(form.begun) if isinstance(form.begun, str) else list(form.begun)
