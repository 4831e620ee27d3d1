"""From a model reference to a loaded engine: find it, offer to download it, open it."""

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tanuki_cli.catalog import (
    TANUKI_8B,
    AutoReference,
    Downloadable,
    Family,
    FamilyReference,
    LocalModel,
    PathReference,
    PracticeReference,
    RemoteModel,
    Target,
    Variant,
    parse_reference,
)
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.cli.models import best_or_recommended, pull_with_progress
from tanuki_cli.cli.obstacle import note_obstacle, obstacle
from tanuki_cli.cli.options import ModelOptions
from tanuki_cli.conversation import Message
from tanuki_cli.engines import open_engine
from tanuki_cli.engines.llama_cpp.tuning import Tuner, TuningStore
from tanuki_cli.engines.remote.credentials import KEY_FILE_NAME, find_api_key
from tanuki_cli.engines.transformers.consent import CodeRequest
from tanuki_cli.errors import ModelError
from tanuki_cli.hub import Hub, InstalledModel, refusal
from tanuki_cli.i18n import _
from tanuki_cli.machine.hardware import free_disk_bytes, inspect_machine
from tanuki_cli.session import OpenedModel
from tanuki_cli.terminal.first_run.offer import Offer, show_offer


def open_model(
    context: CommandContext,
    options: ModelOptions,
    *,
    reference: str | None = None,
    first: Sequence[Message] = (),
    report_trial: Callable[[str, float], None] | None = None,
) -> OpenedModel:
    """Find, if need be download, and load the model ``reference`` (default: the settings').

    ``first`` as in :func:`~tanuki_cli.engines.open_engine`.
    With ``report_trial`` it is measured anew how the model runs best, and every trial reported.

    Raises ModelError if it is unknown or not installed and may not be fetched, DownloadError,
    EngineError, RemoteError.
    """
    name = reference or context.settings.model
    finder = Finder(context, assume_yes=options.yes)
    target = finder.find(name)
    started = time.monotonic()
    if isinstance(target, RemoteModel):
        key_file = context.directories.config / KEY_FILE_NAME
        api_key = find_api_key(target.name, environ=context.environ, key_file=key_file)
        tokenizers = [path for path in (finder.family_tokenizer(), practice_model().tokenizer) if path]
        engine = open_engine(target, context.settings, api_key=api_key, served_tokenizers=tokenizers)
    else:
        if context.settings.compile and _compiles(target) and inspect_machine(context.environ).gpus:
            context.console.note(_("The model is compiled for the GPU; this takes about a minute."))
        engine = open_engine(
            target,
            context.settings,
            consent=lambda request: options.trust_remote_code or _agrees_to(request, context),
            kv_folder=context.directories.cache / "kv",
            tuner=_tuner(context, report_trial),
            first=first,
            debug=context.debug,
        )
    for note in engine.notes:
        context.console.note(note)
    if context.settings.compile and not _compiles(target):
        context.console.note(_("--compile is for models in safetensors; it changes nothing here."))
    return OpenedModel(
        engine=engine,
        reference=target.name if name == "auto" else name,
        load_s=time.monotonic() - started,
        practice=isinstance(target, LocalModel) and target.practice,
    )


def _tuner(context: CommandContext, report_trial: Callable[[str, float], None] | None) -> Tuner:
    """Measures where somebody waits at a terminal and did not switch it off, or asked for it."""

    def announce() -> None:
        context.console.note(
            _(
                "Measuring once how this model runs fastest on this machine: at most 20 seconds, "
                "Ctrl-C skips it."
            )
        )

    store = TuningStore(context.directories.cache / "tuning")
    if report_trial is not None:
        return Tuner(store=store, announce=announce, report=report_trial, again=True)
    measures = context.settings.tune and context.console.can_ask
    return Tuner(store=store, announce=announce if measures else None)


def _compiles(target: Target) -> bool:
    """Whether its engine knows ``--compile``."""
    return isinstance(target, LocalModel) and target.format == "safetensors"


def _agrees_to(request: CodeRequest, context: CommandContext) -> bool:
    """Ask whether code that came with a checkpoint may run; no on anything but a terminal."""
    if not context.console.can_ask:
        return False
    where = [request.origin, request.file_names, *([str(request.folder)] if request.repository else ())]
    question = _(
        "{model} brings Python code of its own:\n{where}\n"
        "It runs with all your rights, and nobody has checked it for you. Run it?"
    )
    return context.console.confirm(
        question.format(model=request.model, where="\n".join(f"  {line}" for line in where)), default=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A model that has to be downloaded first; ``reason`` says why it is the recommended one."""

    reference: Downloadable
    reason: str = ""


class Finder:
    """Looks a reference up on this machine, and asks before anything is downloaded."""

    def __init__(self, context: CommandContext, *, assume_yes: bool) -> None:
        self._context = context
        self._assume_yes = assume_yes
        self._hub = Hub.from_environment(
            context.environ, context.directories, offline=context.settings.offline
        )

    def find(self, text: str) -> Target:
        """The files or the server that ``text`` names. Raises ModelError or DownloadError."""
        found = self.look_up(text)
        return self._fetch(found) if isinstance(found, Missing) else found

    def look_up(self, text: str) -> Target | Missing:
        """What ``text`` names, or what would have to be downloaded for it; asks nobody.

        Raises ModelError for an unknown name, and if no variant can run here.
        """
        try:
            reference = parse_reference(text, self._context.settings.remotes)
        except ModelError as exc:
            if Path(text).exists():  # what lies here is named by its path, as a command of the shell is
                raise ModelError(exc.message, hint=f"-m {shlex.quote(f'./{text}')}") from exc
            raise
        if isinstance(reference, RemoteModel):
            return reference
        if isinstance(reference, PracticeReference):
            return practice_model()
        if isinstance(reference, AutoReference):
            return self._best_of(None)
        if isinstance(reference, FamilyReference):
            return self._best_of(reference.family)
        located = self._hub.locate(reference)
        if located is not None:
            return located
        if isinstance(reference, PathReference):
            raise ModelError(
                _("There is no model at {path}.").format(path=reference.path), hint="tanuki models"
            )
        if isinstance(reference, Variant) and reference.refused:
            raise refusal(reference)  # before anybody is asked, or waits for a download
        return Missing(reference=reference)

    def describe(self, missing: Missing) -> Offer:
        """What the download of ``missing`` would mean."""
        reference = missing.reference
        machine = inspect_machine(self._context.environ)
        begun = self._hub.missing_bytes(reference)
        total = reference.approximate_bytes if isinstance(reference, Variant) else None
        return Offer(
            name=reference.name,
            reason=missing.reason,
            obstacle=obstacle(reference, machine, self._context) if isinstance(reference, Variant) else "",
            machine=machine,
            bytes_to_receive=total if begun is None else begun,
            begun=begun is not None,
            free_disk_bytes=free_disk_bytes(self._hub.cache.root),
            bytes_per_s=self._hub.last_speed,
        )

    def family_tokenizer(self) -> Path | None:
        """Tanuki's own tokenizer.json, if it was ever fetched."""
        return self._hub.reference_tokenizer(TANUKI_8B)

    def _best_of(self, family: Family | None) -> LocalModel | Missing:
        """The best installed variant for this machine, else the recommended one."""
        choice = best_or_recommended(self._context, self._hub, family)
        if isinstance(choice, InstalledModel):
            return choice.model
        variant, reason = choice
        return Missing(reference=variant, reason=reason)

    def _fetch(self, missing: Missing) -> LocalModel:
        console = self._context.console
        reference = missing.reference
        if self._context.settings.offline or not (self._assume_yes or console.can_ask):
            raise not_installed(reference)
        if not self._assume_yes:
            show_offer(console, self.describe(missing))
            if not console.confirm(_("Download it now?"), default=True):
                raise not_installed(reference)
        elif isinstance(reference, Variant):
            note_obstacle(reference, self._context)
        return pull_with_progress(console, self._hub, reference).model


def not_installed(reference: Downloadable) -> ModelError:
    """``reference`` would have to be downloaded, and that is not wanted or not allowed."""
    return ModelError(
        _("The model {name} is not installed.").format(name=reference.name),
        hint=_("tanuki pull {name}   (or, at once and offline: -m mame)").format(name=reference.name),
    )
