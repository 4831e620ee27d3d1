"""Who answers the questions of a load: a terminal asks a person, a server or a batch asks nobody."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from tanuki_cli.catalog import Downloadable
from tanuki_cli.engines.consent import CodeRequest
from tanuki_cli.machine.hardware import Machine

if TYPE_CHECKING:
    from tanuki_cli.hub import Progress

NoteKind = Literal["note", "warning", "success"]


class NotInstalled(Struct, frozen=True, kw_only=True):
    """A model that has to be downloaded first; ``reason`` says why it is the recommended one."""

    reference: Downloadable
    reason: str = ""


class Offer(Struct, frozen=True, kw_only=True):
    """What a download would mean.

    ``reason`` is a sentence for the recommended model, empty for one that the user named; ``obstacle``
    says why it would not run here as things are, empty if it would; ``lasting_obstacle`` the same with
    all memory free. ``bytes_to_receive`` None for a size nobody knows yet; ``begun`` if an earlier pull
    left a part; ``bytes_per_s`` the speed of the last download, None before the first;
    ``expected_tokens_per_s`` what answers will come with on this CPU, None where that is not known.
    """

    name: str
    reason: str
    obstacle: str
    lasting_obstacle: str
    machine: Machine
    bytes_to_receive: int | None
    begun: bool
    free_disk_bytes: int
    bytes_per_s: float | None
    expected_tokens_per_s: float | None = None


class Asker(Protocol):
    """The questions, the notes and the progress of a load."""

    @property
    def someone_waits(self) -> bool:
        """Whether a person sees the notes and can interrupt what takes long."""

    def may_download(self, offer: Offer) -> bool:
        """Whether ``offer`` may be downloaded now."""

    def may_run_code(self, request: CodeRequest) -> bool:
        """Whether the code that came with a checkpoint may run with the user's rights."""

    def may_fetch_tokenizer(self, host: str) -> bool:
        """Whether Tanuki's tokenizer, of 4 MB, may be fetched, which gives exact tokens to the server."""

    def note(self, text: str, *, kind: NoteKind = "note") -> None:
        """A sentence for the user."""

    def progress(self) -> AbstractContextManager[Callable[["Progress"], None]]:
        """What a download reports to while the block lasts."""


class Unattended(Struct, frozen=True):
    """Nobody is there: nothing is downloaded, no code is run; notes go to ``tell``."""

    tell: Callable[[str], None] = lambda text: None
    someone_waits: bool = False

    def may_download(self, offer: Offer) -> bool:
        """No."""
        return False

    def may_run_code(self, request: CodeRequest) -> bool:
        """No."""
        return False

    def may_fetch_tokenizer(self, host: str) -> bool:
        """No."""
        return False

    def note(self, text: str, *, kind: NoteKind = "note") -> None:
        """Pass ``text`` on."""
        self.tell(text)

    def progress(self) -> AbstractContextManager[Callable[["Progress"], None]]:
        """Nothing is shown."""
        return nullcontext(lambda progress: None)
