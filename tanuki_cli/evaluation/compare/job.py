"""From a request to its result: finds the models, cuts the texts, runs what is left, and collects."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from tanuki_cli.catalog import LocalModel, RemoteModel, Target
from tanuki_cli.conversation import Conversation
from tanuki_cli.engines.opening import read_tokenizer
from tanuki_cli.errors import EngineError, InputError, InterruptedByUser
from tanuki_cli.evaluation.compare.collect import collect, count_places
from tanuki_cli.evaluation.compare.ledger import Ledger, Plan
from tanuki_cli.evaluation.compare.passages import Passage, cut_like_llama_cpp, cut_texts, digest, limited
from tanuki_cli.evaluation.compare.request import Request
from tanuki_cli.evaluation.compare.results import Comparison
from tanuki_cli.evaluation.compare.run import Run, Watcher, fits_together
from tanuki_cli.evaluation.compare.store import RunStore
from tanuki_cli.evaluation.compare.texts import Text, built_in_texts, conversation_texts, read_texts
from tanuki_cli.evaluation.provenance import (
    DigestMemory,
    Provenance,
    model_digest,
    model_files,
    package_versions,
)
from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import LeftOut
from tanuki_cli.loading import LoadedModel
from tanuki_cli.machine.hardware import format_bytes, inspect_machine
from tanuki_cli.tokenizer import ChatTokenizer


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a comparison needs from whoever runs it.

    ``find`` gives the files or the server of a reference, ``open_model`` loads it, ``conversations`` is
    the user's history. ``tell`` passes on a sentence, ``watcher`` hears how far it is. ``cache`` is a
    folder for what has to survive a kill.
    """

    find: Callable[[str], Target]
    open_model: Callable[[str], LoadedModel]
    conversations: Callable[[], Sequence[Conversation]]
    tell: Callable[[str], None]
    watcher: Watcher
    cache: Path
    environ: Mapping[str, str]


def compare(request: Request, around: Surroundings) -> Comparison:
    """Run what is not done yet, and give the result.

    After an error or Ctrl-C, which raises InterruptedByUser, the same request goes on where it was.
    Raises InputError and what finding, loading and running raise.
    """
    return _Job(request, around).result()


class _Job:
    def __init__(self, request: Request, around: Surroundings) -> None:
        self._request = request
        self._around = around
        self._digests = DigestMemory(around.cache / "digests.json")

    def result(self) -> Comparison:
        targets = [self._around.find(name) for name in self._request.models]
        served = frozenset(index for index, target in enumerate(targets) if isinstance(target, RemoteModel))
        self._check_served(served)
        files = [target for target in targets if isinstance(target, LocalModel)]
        tokenizers = [read_tokenizer(target) for target in files]
        scored = 0 not in served and len(served) < len(targets) - 1
        passages = self._passages(tokenizers) if scored else []
        with RunStore(self._around.cache / "compare", self._identity(targets, passages)) as store:
            plan = Plan(
                references=self._request.models,
                served=served,
                passages=tuple(passages),
                questions=self._request.questions,
                answer_tokens=self._request.answer_tokens,
                vocabulary=tokenizers[0].vocab_size if tokenizers else 0,
                together=not self._request.one_by_one and self._fit_together(files),
            )
            if not plan.together:
                store.keep_note("stored", {})  # for good: some figures may come from the disk
            result = self._run(plan, store)
            store.discard()
        return result

    def _run(self, plan: Plan, store: RunStore) -> Comparison:
        around = self._around
        run = Run(plan, store, open_model=around.open_model, digests=self._digests, watcher=around.watcher)
        try:
            run.finish()
        except (KeyboardInterrupt, InterruptedByUser) as exc:
            around.tell(
                _("Interrupted. The same command goes on where it was; {size} are kept for it.").format(
                    size=format_bytes(store.nbytes)
                )
            )
            raise InterruptedByUser(_("Interrupted.")) from exc
        ledger = Ledger(plan, store)
        reference, candidates = collect(plan, ledger, store)
        sources = (reference.figures.source, *(candidate.figures.source for candidate in candidates))
        return Comparison(
            provenance=Provenance.now(
                "compare", sources, options=self._request.to_json(), sampling={"temperature": 0.0}
            ),
            cut="llama.cpp" if self._request.llama_chunks else "documents",
            context_length=self._request.length,
            texts_sha256=digest(plan.passages),
            stored=store.note("stored") is not None,
            places=count_places(plan.passages),
            reference=reference,
            candidates=candidates,
            answers=ledger.answers(),
        )

    def _fit_together(self, files: Sequence[LocalModel]) -> bool:
        sizes = [sum(file.stat().st_size for file in model_files(target.path)) for target in files]
        machine = inspect_machine(self._around.environ)
        free = min([machine.available_ram_bytes, *(gpu.free_bytes for gpu in machine.gpus)])
        return fits_together(sizes, free_bytes=free)

    def _check_served(self, served: frozenset[int]) -> None:
        if served and not self._request.questions:
            raise InputError(
                _("A server gives no full distributions, so that only its answers can be compared."),
                hint=shlex.join(("tanuki", "compare", *self._request.models, "--answers", "10")),
            )
        if served:
            self._around.tell(
                _("A server gives no full distributions: of it, only the answers are compared.")
            )

    def _passages(self, tokenizers: Sequence[ChatTokenizer]) -> list[Passage]:
        texts = self._texts()
        cut = [self._cut(texts, tokenizer) for tokenizer in tokenizers]
        if any(other != cut[0] for other in cut):
            raise EngineError(
                _("The models cut the texts into different tokens, so that they cannot be compared."),
                hint=_("Compare forms of one model: tanuki models"),
            )
        if not cut[0]:
            raise InputError(
                _("The texts are too short to be scored."),
                hint=_("Give more text, or a shorter --context-length."),
            )
        return cut[0]

    def _cut(self, texts: Sequence[Text], tokenizer: ChatTokenizer) -> list[Passage]:
        length = self._request.length
        if self._request.llama_chunks:
            passages = cut_like_llama_cpp(texts, tokenizer, n_ctx=length)
        else:
            passages = cut_texts(texts, tokenizer, context_length=length)
        return passages if self._request.limit is None else limited(passages, places=self._request.limit)

    def _texts(self) -> list[Text]:
        found: list[Text] = []
        for path in self._request.text:
            for text in read_texts(Path(path)):
                if isinstance(text, LeftOut):
                    self._around.tell(str(text))
                else:
                    found.append(text)
        if self._request.history:
            found += self._history()
        return found or built_in_texts()

    def _history(self) -> list[Text]:
        texts = conversation_texts(self._around.conversations())
        if not texts:
            raise InputError(_("There are no answered chats in the history."), hint="tanuki chat")
        self._around.tell(
            _("Your own chats are scored: {count}. They stay on this machine.").format(count=len(texts))
        )
        return texts

    def _identity(self, targets: Sequence[Target], passages: Sequence[Passage]) -> dict[str, Any]:
        """Everything that decides the figures."""
        return {
            "models": [self._name(target) for target in targets],
            "passages": digest(passages),
            "options": {**self._request.to_json(), "text": [], "one_by_one": False},
            "packages": package_versions(),
        }

    def _name(self, target: Target) -> str:
        if isinstance(target, RemoteModel):
            return f"{target.base_url}#{target.served_name}"
        try:
            return model_digest(target.path, self._digests)
        except OSError as exc:
            raise EngineError(
                _("The files of {model} cannot be read: {reason}").format(
                    model=target.name, reason=os_reason(exc)
                ),
                hint="tanuki doctor",
            ) from exc
