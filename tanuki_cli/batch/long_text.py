"""A question about texts longer than the context: put to each part, and the answers combined.

Answers that do not fit into one prompt are combined in groups, and those answers again, until they do.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.batch.wording import Document, Part, Wording
from tanuki_cli.conversation import FinishReason, Usage
from tanuki_cli.engines.answers import Job
from tanuki_cli.engines.base import Answerer, Engine, GenerationCancelled
from tanuki_cli.errors import InputError, InterruptedByUser, PromptTooLongError
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.text.ranking import best_first
from tanuki_cli.text.splitting import Span, split_text

_SLACK: Final = 16
_LEAST_ROOM: Final = 48
_GROUP: Final = 4
"""So many answers fit into one prompt at least."""
_LEAST_PASSAGE: Final = 32
_PASSAGES: Final = 8
"""With ``find``, so many of the best passages fit into one prompt."""


class PartAnswer(Struct, frozen=True, kw_only=True):
    """The answer about one part."""

    part: Part
    text: str
    finish_reason: FinishReason
    usage: Usage | None


class LongText:
    """Puts a question to parts of ``documents``.

    ``engine`` counts, ``answerer`` answers; it may be the engine's own, and is not closed.
    """

    def __init__(
        self,
        engine: Engine,
        answerer: Answerer,
        wording: Wording,
        options: SamplingOptions,
        documents: Sequence[Document],
    ) -> None:
        self._engine = engine
        self._answerer = answerer
        self._wording = wording
        self._options = options
        self._documents = documents
        self.answers: list[PartAnswer] = []

    def fits_whole(self) -> bool:
        """Whether the question and all of the documents fit into one prompt."""
        return self._fits(self._wording.about(self.whole()))

    def whole(self) -> list[Part]:
        """The documents, each as one part."""
        return self._parts(None)

    def best_passages(self) -> list[Part]:
        """The passages that the question is most likely about, as many as fit, in the order of the text.

        Raises InputError where nothing of the question is in the text, or the question leaves no room.
        """
        passages = self._parts(max(self._room() // _PASSAGES, _LEAST_PASSAGE))
        ranked = best_first(self._wording.question, [passage.text for passage in passages])
        if not ranked:
            raise InputError(
                _("No part of the text has anything of the question."), hint="tanuki ask --chunked …"
            )
        chosen: list[int] = []
        for place in ranked:
            if not self._fits(self._wording.about([passages[one] for one in sorted([*chosen, place])])):
                break
            chosen.append(place)
        return [passages[place] for place in sorted(chosen)]

    def parts(self) -> list[Part]:
        """The documents in parts that fit with the question. Raises InputError where it leaves no room."""
        return self._parts(self._room())

    def ask_each(self, parts: Sequence[Part], *, told: Callable[[PartAnswer], None]) -> None:
        """Fill :attr:`answers` with those to ``parts``, in their order; ``told`` hears of each.

        Raises InterruptedByUser at Ctrl-C, and what answering raises; the answers so far are there then.
        """
        jobs = [
            Job(messages=self._wording.messages(self._wording.about([part])), options=self._part_options)
            for part in parts
        ]
        by_job = dict(zip(jobs, parts, strict=True))
        place_of = {id(part): number for number, part in enumerate(parts)}

        def keep(job: Job, text: str, finish_reason: FinishReason, usage: Usage | None) -> None:
            answer = PartAnswer(part=by_job[job], text=text, finish_reason=finish_reason, usage=usage)
            self.answers.append(answer)
            self.answers.sort(key=lambda answer: place_of[id(answer.part)])
            told(answer)

        self._run(jobs, keep)

    def combined(self, *, round_begins: Callable[[int], None]) -> str:
        """The prompt that makes one answer of :attr:`answers`; where they do not fit, of answers to groups.

        ``round_begins`` hears of each round of groups, and of how many. Raises what :meth:`ask_each` raises.
        """
        count = len(self.answers)
        texts = [answer.text for answer in self.answers]
        while not self._fits(prompt := self._wording.combining(texts, count=count)):
            groups = self._groups(texts, count)
            round_begins(len(groups))
            texts = self._combine_groups(groups, count)
        return prompt

    def _combine_groups(self, groups: Sequence[Sequence[str]], count: int) -> list[str]:
        texts = {number: group[0] for number, group in enumerate(groups) if len(group) == 1}
        jobs = {}
        for number, group in enumerate(groups):
            if len(group) > 1:
                messages = self._wording.messages(self._wording.combining(group, count=count))
                jobs[Job(messages=messages, options=self._part_options)] = number

        def keep(job: Job, text: str, finish_reason: FinishReason, usage: Usage | None) -> None:
            texts[jobs[job]] = text

        self._run(list(jobs), keep)
        return [texts[number] for number in range(len(groups))]

    def _groups(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """As few groups as fit, each of two texts at least where there are two."""
        groups: list[list[str]] = [[]]
        for text in texts:
            group = [*groups[-1], text]
            if len(group) > 2 and not self._fits(self._wording.combining(group, count=count)):
                groups.append([text])
            else:
                groups[-1] = group
        return groups

    @property
    def _part_options(self) -> SamplingOptions:
        """Answers about parts are so long at most that some of them fit into one prompt."""
        most = max(self._room(self._wording.combining([], count=99)) // _GROUP, 1)
        return replace(self._options, max_new_tokens=min(self._options.max_new_tokens, most))

    def _run(self, jobs: Sequence[Job], keep: Callable[[Job, str, FinishReason, Usage | None], None]) -> None:
        texts: dict[Job, list[str]] = {job: [] for job in jobs}
        interrupted = False

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            self._answerer.cancel()

        for job in jobs:
            self._answerer.add(job)
        with on_interrupt(interrupt):
            while texts and not interrupted:
                try:
                    news = self._answerer.advance()
                except GenerationCancelled:
                    break
                for progress in news:
                    if progress.error is not None:
                        for job in texts:
                            self._answerer.drop(job)
                        raise progress.error
                    chunk = progress.chunk
                    if chunk is None or progress.job not in texts:
                        continue
                    texts[progress.job].append(chunk.text)
                    if chunk.finish_reason == "interrupted":
                        interrupted = True
                    elif chunk.finish_reason is not None:
                        text = "".join(texts.pop(progress.job))
                        keep(progress.job, text, chunk.finish_reason, chunk.usage)
        if interrupted:
            raise InterruptedByUser(_("Interrupted."))

    def _parts(self, limit: int | None) -> list[Part]:
        """All documents in parts of at most ``limit`` tokens; None leaves them whole."""
        parts: list[Part] = []
        for document in self._documents:
            text = document.text
            whole = [Span(0, len(text))]
            spans = whole if limit is None else split_text(text, size=self._size, limit=limit)
            line = 1
            for number, span in enumerate(spans, 1):
                piece = text[span.start : span.end]
                after = line + piece.count("\n")
                parts.append(
                    Part(
                        name=document.name,
                        text=piece,
                        number=number,
                        count=len(spans),
                        start=span.start,
                        end=span.end,
                        first_line=line,
                        last_line=max(line, after - piece.endswith("\n")),
                    )
                )
                line = after
        return parts

    def _size(self, text: str) -> int:
        """Tokens; characters where only a server counts tokens, of which there are hardly more."""
        tokenizer = self._engine.tokenizer
        return len(text) if tokenizer is None else len(tokenizer.encode(text))

    def _room(self, frame: str | None = None) -> int:
        """Tokens that a prompt has left beside ``frame``, by default the question and what names a part.

        Raises InputError for too few.
        """
        name = max((document.name for document in self._documents), key=len, default="")
        empty = Part(name=name, text="", number=99, count=99, start=0, end=0, first_line=1, last_line=1)
        frame = frame or self._wording.about([empty])
        room = 0
        with suppress(PromptTooLongError):
            plan = self._engine.plan(self._wording.messages(frame), self._options)
            used = self._size(frame) + _SLACK if plan.prompt_tokens is None else plan.prompt_tokens
            room = plan.limit - used - _SLACK
        if room < _LEAST_ROOM:
            raise InputError(
                _("The question leaves no room for the text in the context."),
                hint=_("Shorten it, lower --max-new-tokens, or raise --context-length."),
            )
        return room

    def _fits(self, text: str) -> bool:
        plan = self._engine.plan
        try:
            planned = plan(self._wording.messages(text), self._options)
        except InputError:
            return False
        return planned.prompt_tokens is not None or self._size(text) + _SLACK <= planned.limit
