"""The exceptions of tanuki. One subclass per exit code; ``main()`` is the only place that exits.

    TanukiError                     1
    ├── InputError                  2   usage, or input that cannot be used
    │   └── PromptTooLongError      2   with the counts
    ├── SettingsError               3   config file, environment
    ├── ModelError                  4   unknown or not installed
    ├── DownloadError               5   hub, network, disk during a download
    ├── EngineError                 6   load, memory, generation
    │   └── DamagedModelError       6   the model's files make no sense
    ├── RemoteError                 7   a served model
    ├── HistoryError                8   the history file
    ├── InterruptedByUser         130   Ctrl-C outside a chat
    └── ClosedPipeError           141   the reader of our output went away

A message is one sentence in the user's language; ``hint`` is the next step, a command that can be
pasted where there is one. Errors of libraries are translated where the library is called. What others
wrote (names, reasons, values out of files and servers) goes into a message through :func:`brief`.
"""

from enum import IntEnum
from typing import ClassVar, Final

from tanuki_cli.i18n import N_, _

_MAX_MESSAGE: Final = 1000
_MAX_QUOTED: Final = 160


def brief(value: object, limit: int = _MAX_QUOTED) -> str:
    """The text of ``value`` on one line, at most ``limit`` characters of it.

    A name or a reason may be megabytes long.
    """
    return _cut(" ".join(_cut(str(value), 4 * limit).split()), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


class ExitCode(IntEnum):
    """Exit codes of the command line; part of the contract with users."""

    SUCCESS = 0
    UNEXPECTED = 1
    USAGE = 2
    SETTINGS = 3
    MODEL = 4
    DOWNLOAD = 5
    ENGINE = 6
    REMOTE = 7
    HISTORY = 8
    INTERRUPTED = 130
    CLOSED_PIPE = 141


EXIT_MEANINGS: Final = {
    ExitCode.SUCCESS: N_("success"),
    ExitCode.UNEXPECTED: N_("an unexpected error"),
    ExitCode.USAGE: N_("wrong usage, or input that cannot be used"),
    ExitCode.SETTINGS: N_("wrong settings"),
    ExitCode.MODEL: N_("the model is unknown or not installed"),
    ExitCode.DOWNLOAD: N_("the download failed"),
    ExitCode.ENGINE: N_("the engine failed: loading, memory, generation"),
    ExitCode.REMOTE: N_("the server failed"),
    ExitCode.HISTORY: N_("the history failed"),
    ExitCode.INTERRUPTED: N_("interrupted by Ctrl-C"),
    ExitCode.CLOSED_PIPE: N_("the reader of the output went away"),
}
"""What each code says, as message ids."""


class TanukiError(Exception):
    """An error that the user is told about in one sentence, with a hint on what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message = _cut(message, _MAX_MESSAGE)
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is None else _cut(hint, _MAX_MESSAGE)


def update_hint() -> str:
    """The hint where a newer version of this program is needed. It is on no package index, where its name
    may be somebody else's: how it is updated depends on how it was installed."""
    return _("Update tanuki: {command}").format(command="tanuki help install")


class InputError(TanukiError):
    """The command line or the input cannot be used."""

    exit_code = ExitCode.USAGE


class PromptTooLongError(InputError):
    """A single message does not fit the context.

    Counts are tokens; ``excess_characters`` is an estimate of how much to cut.
    """

    def __init__(
        self, message: str, *, hint: str | None, prompt_tokens: int, limit: int, excess_characters: int
    ) -> None:
        super().__init__(message, hint=hint)
        self.prompt_tokens = prompt_tokens
        self.limit = limit
        self.excess_characters = excess_characters


class SettingsError(TanukiError):
    """The config file or an environment variable holds something unusable."""

    exit_code = ExitCode.SETTINGS


class ModelError(TanukiError):
    """The model is unknown, not installed, or not one this program can run."""

    exit_code = ExitCode.MODEL


class DownloadError(TanukiError):
    """A download failed; what was received is kept and the next pull resumes."""

    exit_code = ExitCode.DOWNLOAD


class EngineError(TanukiError):
    """Loading or running a model failed."""

    exit_code = ExitCode.ENGINE


class DamagedModelError(EngineError):
    """The files of a model make no sense. How they are got again depends on where they came from: who
    knows that gives the hint."""


class RemoteError(TanukiError):
    """A served model failed or cannot be reached."""

    exit_code = ExitCode.REMOTE


class HistoryError(TanukiError):
    """The history file cannot be used."""

    exit_code = ExitCode.HISTORY


class InterruptedByUser(TanukiError):
    """The user pressed Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED


class ClosedPipeError(TanukiError):
    """The reader of the output went away (``tanuki ask … | head``)."""

    exit_code = ExitCode.CLOSED_PIPE
