"""The questions of a load, put to the person at the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from tanuki_cli.engines.consent import CodeRequest
from tanuki_cli.i18n import _
from tanuki_cli.loading import NoteKind, Offer
from tanuki_cli.terminal.console import Console

if TYPE_CHECKING:
    from tanuki_cli.hub import Progress


class TerminalAsker(Struct, frozen=True, kw_only=True):
    """Implements :class:`~tanuki_cli.loading.Asker`.

    ``assume_yes`` answers for downloads, ``trust_remote_code`` for code; off a terminal nobody else does.
    """

    console: Console
    assume_yes: bool = False
    trust_remote_code: bool = False

    @property
    def someone_waits(self) -> bool:
        """Whether stdin and stderr are terminals."""
        return self.console.can_ask

    def may_download(self, offer: Offer) -> bool:
        """Show ``offer`` and ask; with ``assume_yes`` only say what lasting reason there is against it."""
        if self.assume_yes:
            if offer.lasting_obstacle:
                self.console.warn(offer.lasting_obstacle)
            return True
        if not self.console.can_ask:
            return False
        from tanuki_cli.terminal.first_run.offer import show_offer  # seldom needed

        show_offer(self.console, offer)
        return self.console.confirm(_("Download it now?"), default=True)

    def may_run_code(self, request: CodeRequest) -> bool:
        """Ask, with where the code is from and where it can be read."""
        if self.trust_remote_code:
            return True
        if not self.console.can_ask:
            return False
        folder = [str(request.folder)] if request.repository else []
        question = _(
            "{model} brings Python code of its own:\n{where}\n"
            "It runs with all your rights, and nobody has checked it for you. Run it?"
        )
        where = "\n".join(f"  {line}" for line in (request.origin, request.file_names, *folder))
        return self.console.confirm(question.format(model=request.model, where=where), default=False)

    def may_fetch_tokenizer(self, host: str) -> bool:
        """Ask, with what it is good for."""
        if self.assume_yes or not self.console.can_ask:
            return self.assume_yes
        question = _("{host} takes exact tokens. Fetch Tanuki's tokenizer (4 MB) for it now?")
        return self.console.confirm(question.format(host=host), default=True)

    def note(self, text: str, *, kind: NoteKind = "note") -> None:
        """On stderr."""
        self.console.note(text, style=kind)

    @contextmanager
    def progress(self) -> Iterator[Callable[["Progress"], None]]:
        """A bar on stderr."""
        from tanuki_cli.terminal.download import DownloadProgress  # brings rich.progress

        with DownloadProgress(self.console) as progress:
            yield progress.update
