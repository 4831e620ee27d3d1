"""Several answers at once from a model on this machine."""

from collections import deque
from collections.abc import Sequence
from threading import RLock

from tanuki_cli.conversation import Usage
from tanuki_cli.engines.answer_text import AnswerText
from tanuki_cli.engines.answers import AnswerScore, Job, Progress, likeliest_tokens
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.prompting import Prompt, Prompter
from tanuki_cli.engines.token_model import Outcome, ParallelModel, Request
from tanuki_cli.errors import TanukiError


class _Started:
    """A job that has a place; ``request`` is None until the model knows of it."""

    __slots__ = ("answer", "job", "prompt", "request", "scores")

    def __init__(self, job: Job, prompt: Prompt, answer: AnswerText) -> None:
        self.job = job
        self.prompt = prompt
        self.answer = answer
        self.request: Request | None = None
        self.scores: list[AnswerScore] = []


class ParallelAnswerer:
    """Implements :class:`~tanuki_cli.engines.base.Answerer` on a :class:`ParallelModel`."""

    def __init__(self, model: ParallelModel, prompter: Prompter) -> None:
        self._model = model
        self._prompter = prompter
        self._jobs: deque[Job] = deque()
        self._started: dict[Job, _Started] = {}
        self._requests: dict[Request, _Started] = {}
        self._dropped: set[Job] = set()
        self._cancelled = False
        # A drop looks at what runs, which changes meanwhile.
        self._lock = RLock()

    @property
    def places(self) -> int:
        """How many jobs are worked on at a time."""
        return self._model.places

    @property
    def waiting(self) -> int:
        """How many jobs wait for a place."""
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Take ``job``; it begins when there is a place and those before it have begun."""
        self._jobs.append(job)

    def advance(self) -> list[Progress]:
        """Work until there is something new; see :meth:`Answerer.advance
        <tanuki_cli.engines.base.Answerer.advance>`."""
        while True:
            if self._cancelled:
                self._forget()
                self._cancelled = False
                raise GenerationCancelled
            self._remove_dropped()
            try:
                if news := self._ask() or self._begin():
                    return news
                if not self._started:
                    return []
                with self._prompter.advice():
                    outcomes = self._model.step()
            except GenerationCancelled:
                continue  # by cancel(), or by drop() where nothing else ran: what ran goes on from there
            except TanukiError:
                self._forget()
                raise
            if news := self._news(outcomes):
                return news

    def drop(self, job: Job) -> None:
        """Forget ``job``; where nothing else runs, the running step ends at once."""
        with self._lock:
            self._dropped.add(job)
            if job in self._started and self._dropped.issuperset(self._started):
                self._model.cancel()

    def cancel(self) -> None:
        """Stop everything; see :meth:`Answerer.cancel <tanuki_cli.engines.base.Answerer.cancel>`."""
        self._cancelled = True
        self._model.cancel()

    def close(self) -> None:
        """Forget all jobs and free the model."""
        self._forget()
        self._model.close()

    def _begin(self) -> list[Progress]:
        """Give the places that are free to those who wait."""
        news = []
        while self._jobs and len(self._started) < self.places:
            job = self._jobs.popleft()
            try:
                if job.prompt_ids:
                    prompt = self._prompter.continuation(job.prompt_ids, job.options, job.form)
                else:
                    prompt = self._prompter.chat(job.messages, job.options, job.form)
                first, answer = self._prompter.begin(prompt)
            except TanukiError as error:
                news.append(Progress(job=job, error=error))
                continue
            with self._lock:
                self._started[job] = _Started(job, prompt, answer)
            news.append(Progress(job=job, chunk=first))
        return news

    def _ask(self) -> list[Progress]:
        """Have the model generate for those whose first chunk was given; what is over at once."""
        for started in [started for started in self._started.values() if started.request is None]:
            prompt, answer = started.prompt, started.answer
            try:
                with self._prompter.advice():
                    self._score(started)
                    if prompt.is_chosen:
                        for token in likeliest_tokens(started.scores, logprobs=prompt.form.logprobs):
                            answer.add(token)
                        return self._ended(started)
                    mask = self._prompter.mask(prompt)
            except TanukiError as error:
                return self._failed(started, error)
            started.request = Request(
                prompt_ids=prompt.ids, options=prompt.options, mask=mask, logprobs=prompt.form.logprobs
            )
            self._requests[started.request] = started
            self._model.add(started.request)
        return []

    def _score(self, started: _Started) -> None:
        if not started.prompt.scored_choices:
            return
        # Needs numpy, whose import takes longer than most answers ever need it.
        from tanuki_cli.engines.scoring import score_answers

        started.scores = score_answers(
            self._model,
            self._prompter.tokenizer,
            started.prompt.ids,
            started.prompt.scored_choices,
            alternatives=started.prompt.form.logprobs,
            is_cancelled=lambda: self._cancelled,
        )

    def _news(self, outcomes: Sequence[Outcome]) -> list[Progress]:
        """What a step brought; nothing of those who were dropped meanwhile."""
        news: list[Progress] = []
        advanced: dict[Job, _Started] = {}
        for request, token, error in outcomes:
            started = self._requests.get(request)
            if started is None or started.job in self._dropped:
                continue
            try:
                with self._prompter.advice():
                    if error is not None:
                        raise error
                    if token is None:
                        started.answer.end("length")
                    elif not started.answer.ended:
                        started.answer.add(token)
                advanced[started.job] = started
            except TanukiError as failure:
                advanced.pop(started.job, None)
                news += self._failed(started, failure)
        for started in advanced.values():
            if started.answer.ended:
                news += self._ended(started)
            elif started.answer.text:
                news.append(Progress(job=started.job, chunk=started.answer.take()))
        return news

    def _ended(self, started: _Started) -> list[Progress]:
        job, answer = started.job, started.answer
        usage = Usage(
            prompt_tokens=len(started.prompt.ids),
            completion_tokens=answer.completion_tokens,
            cached_tokens=self._model.cached_tokens(started.request) if started.request is not None else 0,
        )
        self._remove(started)
        news = [Progress(job=job, chunk=answer.take())] if answer.text else []
        return [*news, Progress(job=job, chunk=answer.last_chunk(usage, scores=tuple(started.scores)))]

    def _failed(self, started: _Started, error: TanukiError) -> list[Progress]:
        self._remove(started)
        answer = started.answer
        news = [Progress(job=started.job, chunk=answer.take())] if answer.text else []
        return [*news, Progress(job=started.job, error=error)]

    def _remove(self, started: _Started) -> None:
        with self._lock:
            del self._started[started.job]
        if started.request is not None:
            del self._requests[started.request]
            self._model.drop(started.request)

    def _remove_dropped(self) -> None:
        for job in list(self._dropped):
            if started := self._started.get(job):
                self._remove(started)
            elif job in self._jobs:
                self._jobs.remove(job)
            self._dropped.discard(job)

    def _forget(self) -> None:
        self._jobs.clear()
        for started in list(self._started.values()):
            self._remove(started)
        self._dropped.clear()
