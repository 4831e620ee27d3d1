"""The one door to a model for everybody who uses one: the command line, a server, a batch, an evaluation."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from tanuki_cli.catalog import TANUKI_8B, LocalModel, RemoteModel, Target
from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import Engine, OpenOptions, Use
from tanuki_cli.engines.opening import open_engine
from tanuki_cli.errors import DownloadError
from tanuki_cli.i18n import _
from tanuki_cli.loading.asker import Asker
from tanuki_cli.loading.finder import Finder, fetch_tokenizer
from tanuki_cli.machine.hardware import inspect_machine
from tanuki_cli.settings.values import Directories, Settings
from tanuki_cli.tokenizer import ChatTokenizer


class LoadedModel(Struct, frozen=True, kw_only=True):
    """An engine that was loaded for ``reference``, and how long that took in seconds.

    ``target`` is what the reference stood for. ``tokenizer`` is None for a server that takes text only.
    """

    engine: Engine
    reference: str
    target: Target
    load_s: float
    practice: bool = False
    remote: bool = False

    @property
    def tokenizer(self) -> ChatTokenizer | None:
        """What makes the ids that the engine is given."""
        return self.engine.tokenizer

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about how it was loaded; the asker has had them."""
        return self.engine.notes

    def close(self) -> None:
        """Free the model."""
        self.engine.close()


def load_model(
    reference: str,
    settings: Settings,
    asker: Asker,
    *,
    environ: Mapping[str, str],
    directories: Directories,
    use: Use,
    first: Sequence[Message] = (),
    report_trial: Callable[[str], None] | None = None,
    debug: bool = False,
    named_by_user: bool = False,
) -> LoadedModel:
    """Find, if need be and allowed download, and load the model that ``reference`` names.

    ``use``, ``first`` and ``named_by_user`` as in :func:`~tanuki_cli.engines.base.OpenOptions`. With
    ``report_trial`` it is measured anew how the model runs best, and reported. ``debug`` lets the backend's
    own log through.

    Raises ModelError if it is unknown or not installed and may not be fetched, DownloadError,
    EngineError, RemoteError.
    """
    finder = Finder(settings, environ=environ, directories=directories, asker=asker)
    target = finder.find(reference)
    started = time.monotonic()
    compiles = isinstance(target, LocalModel) and target.format == "safetensors"
    if settings.compile and compiles and inspect_machine(environ).gpus:
        asker.note(_("The model is compiled for the GPU; this takes about a minute."))
    remote = isinstance(target, RemoteModel)
    family_tokenizer = finder.family_tokenizer() if remote else None
    practice_tokenizer = practice_model().tokenizer if remote else None
    options = OpenOptions(
        consent=asker.may_run_code,
        cache_folder=directories.cache,
        first=first,
        use=use,
        announce_tuning=_announcer(settings, asker),
        report_trial=report_trial,
        debug=debug,
        served_tokenizers=[path for path in (family_tokenizer, practice_tokenizer) if path],
        tokenizer_command=TANUKI_8B.tokenizer_command if remote and family_tokenizer is None else "",
        fetch_tokenizer=_tokenizer_fetcher(finder, settings, asker) if family_tokenizer is None else None,
        environ=environ,
        key_file=directories.key_file,
        named_by_user=named_by_user,
    )
    engine = open_engine(target, settings, options)
    for note in engine.notes:
        asker.note(note)
    if settings.compile and not compiles:
        asker.note(_("--compile is for models in safetensors; it changes nothing here."))
    return LoadedModel(
        engine=engine,
        reference=target.name if reference == "auto" else reference,
        target=target,
        load_s=time.monotonic() - started,
        practice=isinstance(target, LocalModel) and target.practice,
        remote=remote,
    )


def _tokenizer_fetcher(
    finder: Finder, settings: Settings, asker: Asker
) -> Callable[[str], Path | None] | None:
    """Asks whether Tanuki's tokenizer may be fetched for a server, and does it; None where it may not."""
    if settings.offline:
        return None

    def fetch(host: str) -> Path | None:
        if not asker.may_fetch_tokenizer(host):
            return None
        try:
            return fetch_tokenizer(finder.hub, TANUKI_8B, asker)
        except DownloadError as exc:  # the server can be used without it
            asker.note(exc.message, kind="warning")
            return None

    return fetch


def _announcer(settings: Settings, asker: Asker) -> Callable[[int], None] | None:
    """Says that a measurement begins, where somebody waits who can skip it, and it is not switched off."""
    if not (settings.tune and asker.someone_waits):
        return None
    text = _("Measuring once how this model runs fastest here: at most {seconds} seconds, Ctrl-C skips it.")
    return lambda seconds: asker.note(text.format(seconds=seconds))
