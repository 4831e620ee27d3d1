"""Runs a comparison: loads the models, scores what is not scored yet, asks what is not asked yet.

Small models run beside each other, on the very floats. Large ones run one after the other, and the
reference's distributions wait on the disk.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Final, Protocol

from msgspec import to_builtins

from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.engines.token_model import TokenModel
from tanuki_cli.errors import EngineError, InputError, InterruptedByUser
from tanuki_cli.evaluation.asking import complete
from tanuki_cli.evaluation.compare.answers import Answer
from tanuki_cli.evaluation.compare.distributions import (
    bytes_needed,
    read_distributions,
    write_distributions,
)
from tanuki_cli.evaluation.compare.divergence import ReferenceRows
from tanuki_cli.evaluation.compare.ledger import REFERENCE, Ledger, Plan
from tanuki_cli.evaluation.compare.scoring import (
    ROWS,
    Scorer,
    Timed,
    live_reference,
    logit_blocks,
)
from tanuki_cli.evaluation.compare.store import RunStore
from tanuki_cli.evaluation.provenance import DigestMemory
from tanuki_cli.evaluation.sources import source_of
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.loading import LoadedModel
from tanuki_cli.machine.hardware import format_bytes, used_memory_bytes
from tanuki_cli.sampling import SamplingOptions

_PROBE: Final = 32
"""Ids that are computed before the memory is read, so that mapped weights count."""


class Watcher(Protocol):
    """Hears how far a run is."""

    def begin(self, model: str, *, done: int, total: int) -> None:
        """``model`` is next; of ``total`` tokens of all models ``done`` are computed already."""

    def advance(self, tokens: int) -> None:
        """So many more tokens were computed."""


class Run:
    """One comparison, as far as ``store`` remembers it."""

    def __init__(
        self,
        plan: Plan,
        store: RunStore,
        *,
        open_model: Callable[[str], LoadedModel],
        digests: DigestMemory,
        watcher: Watcher,
    ) -> None:
        self._plan = plan
        self._store = store
        self._ledger = Ledger(plan, store)
        self._open = open_model
        self._digests = digests
        self._watcher = watcher
        self._stopped = False

    def finish(self) -> None:
        """Do everything that is not done yet.

        Raises what loading and running raise, and InputError where the disk does not do; what was done
        by then is kept.
        """
        if self._plan.together:
            self._run_together()
        else:
            self._run_in_turn()

    def _tell(self, names: Sequence[str]) -> None:
        """Say that these models are next."""
        done, total = self._ledger.tokens()
        self._watcher.begin(", ".join(names), done=done, total=total)

    def _run_together(self) -> None:
        indexes = range(len(self._plan.references))
        with ExitStack() as stack:
            local = [index for index in indexes if index not in self._plan.served]
            if not any(map(self._ledger.has_work, local)):
                local = []
            if local:
                self._tell([self._plan.references[index] for index in local])
            models = {index: stack.enter_context(self._loaded(index)) for index in local}
            left = sorted({number for index in models for number in self._ledger.passages_left(index)})
            backends = {index: _token_model(model) for index, model in models.items()}
            for number in left:
                with self._stoppable(backends.values()):
                    self._score_together(number, backends)
            for index, model in models.items():
                self._ask(index, model)
        for index in sorted(self._plan.served):
            self._run_alone(index)

    def _run_in_turn(self) -> None:
        self._check_room()
        for index in range(len(self._plan.references)):
            self._run_alone(index)

    def _run_alone(self, index: int) -> None:
        if not self._ledger.has_work(index):
            return
        self._tell([self._plan.references[index]])
        with self._loaded(index) as model:
            for number in self._ledger.passages_left(index):
                with self._stoppable([_token_model(model)]):
                    if index == REFERENCE:
                        self._score_reference(number, _token_model(model))
                    else:
                        self._score_candidate(number, index, _token_model(model))
            self._ask(index, model)

    @contextmanager
    def _loaded(self, index: int) -> Iterator[LoadedModel]:
        before = used_memory_bytes()
        with closing(self._open(self._plan.references[index])) as model:
            memory = None
            if isinstance(model.engine, LocalEngine) and self._plan.passages:
                probe = self._plan.passages[0].ids[:_PROBE]
                with self._stoppable([model.engine.token_model]):
                    rows = next(model.engine.token_model.logits(probe))
                self._check_vocabulary(index, rows.shape[1])
                memory = max(used_memory_bytes() - before, 0)
            facts = {
                "source": to_builtins(source_of(model, self._digests)),
                "load_s": model.load_s,
                "memory_bytes": memory,
            }
            self._store.keep_note(f"model-{index}", facts)
            yield model

    def _check_vocabulary(self, index: int, size: int) -> None:
        if size != self._plan.vocabulary:
            raise EngineError(
                _("{model} knows {count} tokens and the reference {other}: they cannot be compared.").format(
                    model=self._plan.references[index], count=size, other=self._plan.vocabulary
                ),
                hint=_("Compare forms of one model: tanuki models"),
            )

    def _check_room(self) -> None:
        """Whether the disk has room for what the candidates will need."""
        if not any(self._ledger.passages_left(index) for index in range(1, len(self._plan.references))):
            return
        numbers = range(len(self._plan.passages))
        places = sum(
            len(self._plan.passages[number].targets)
            for number in numbers
            if not self._ledger.is_stored(number)
        )
        needed, free = bytes_needed(places, self._plan.vocabulary), self._store.free_bytes()
        if needed > free:
            raise InputError(
                _("The reference's distributions need {needed} on the disk, and {free} is free.").format(
                    needed=format_bytes(needed), free=format_bytes(free)
                ),
                hint=_("Score fewer tokens of each category: --limit 500"),
            )

    @contextmanager
    def _stoppable(self, models: Iterable[TokenModel]) -> Iterator[None]:
        """Within this block Ctrl-C stops ``models`` at once, in the middle of a batch, and raises
        InterruptedByUser. An exception could not pass through native code."""
        running = list(models)

        def stop() -> None:
            self._stopped = True
            for model in running:
                model.cancel()

        with on_interrupt(stop):
            try:
                yield
            except GenerationCancelled as exc:
                raise InterruptedByUser(_("Interrupted.")) from exc
            self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stopped:
            raise InterruptedByUser(_("Interrupted."))

    def _advance(self, tokens: int) -> None:
        self._check_stopped()  # a request may have come before the model began, which then forgets it
        self._watcher.advance(tokens)

    def _score_together(self, number: int, models: dict[int, TokenModel]) -> None:
        passage = self._plan.passages[number]
        timed = {
            index: Timed(logit_blocks(model, passage, report=self._advance))
            for index, model in models.items()
        }
        scorer = Scorer(passage)
        candidates = {index: blocks for index, blocks in timed.items() if index != REFERENCE}
        for _rows in scorer.run(live_reference(timed[REFERENCE], passage), candidates):
            pass
        reference = scorer.reference_scores(seconds=timed[REFERENCE].seconds)
        for index, blocks in candidates.items():
            scores = scorer.candidate_scores(index, seconds=blocks.seconds)
            self._store.keep_scores(index, number, scores)
        self._store.keep_scores(REFERENCE, number, reference)

    def _score_reference(self, number: int, model: TokenModel) -> None:
        passage = self._plan.passages[number]
        blocks = Timed(logit_blocks(model, passage, report=self._advance))
        scorer = Scorer(passage)
        self._write(number, scorer.run(live_reference(blocks, passage), {}))
        self._store.keep_scores(REFERENCE, number, scorer.reference_scores(seconds=blocks.seconds))

    def _write(self, number: int, rows: Iterator[ReferenceRows]) -> None:
        path, places = self._store.distributions(number), len(self._plan.passages[number].targets)
        try:
            write_distributions(path, rows, places=places, vocabulary=self._plan.vocabulary)
        except OSError as exc:
            raise InputError(
                _("{path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
                hint=_("Score fewer tokens of each category: --limit 500"),
            ) from exc

    def _score_candidate(self, number: int, index: int, model: TokenModel) -> None:
        passage = self._plan.passages[number]
        blocks = Timed(logit_blocks(model, passage, report=self._advance))
        scorer = Scorer(passage)
        for _rows in scorer.run(
            read_distributions(self._store.distributions(number), rows=ROWS), {index: blocks}
        ):
            pass
        self._store.keep_scores(index, number, scorer.candidate_scores(index, seconds=blocks.seconds))

    def _ask(self, index: int, model: LoadedModel) -> None:
        options = SamplingOptions(temperature=0.0, seed=0, max_new_tokens=self._plan.answer_tokens)
        for number in self._ledger.questions_left(index):
            question = [Message("user", self._plan.questions[number])]
            started = time.perf_counter()
            completion = complete(model.engine, question, options, report=self._watcher.advance)
            answer = Answer(
                text=completion.text,
                finish_reason=completion.finish_reason,
                tokens=completion.usage.completion_tokens,
                seconds=time.perf_counter() - started,
            )
            self._watcher.advance(max(self._plan.answer_tokens - answer.tokens, 0))
            self._store.keep_note(f"answer-{index}-{number}", to_builtins(answer))


def fits_together(sizes: Sequence[int], *, free_bytes: int) -> bool:
    """Whether models of such file sizes may be in memory at once: in half of what is free, since caches
    and unpacked weights come on top."""
    return 2 * sum(sizes) <= free_bytes


def _token_model(model: LoadedModel) -> TokenModel:
    assert isinstance(model.engine, LocalEngine), "served models score nothing"
    return model.engine.token_model
