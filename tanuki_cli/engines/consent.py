"""The user's yes to running code that came with a model. It is remembered nowhere.

It is asked for last, when packages and memory are known to do, and before anything of the code is
imported.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.packages import pip_install

_FLASH_ATTENTION: Final = "flash-attn"
_SHORT_COMMIT: Final = 12


class CodeRequest(Struct, frozen=True, kw_only=True):
    """What would be run with the user's rights.

    ``repository`` and ``revision`` (a commit) are None for a directory of the user's own; ``files``
    are all in one folder.
    """

    model: str
    repository: str | None
    revision: str | None
    files: tuple[Path, ...]

    @property
    def origin(self) -> str:
        """Where the code is from: repository and commit, or the directory."""
        if self.repository is None or self.revision is None:
            return str(self.folder)
        return _("{repository}, revision {revision}").format(
            repository=self.repository, revision=self.revision[:_SHORT_COMMIT]
        )

    @property
    def folder(self) -> Path:
        """Where it can be read."""
        return self.files[0].parent

    @property
    def file_names(self) -> str:
        """The files' names, for a sentence."""
        return ", ".join(path.name for path in self.files)


Consent = Callable[[CodeRequest], bool]


def never(_request: CodeRequest) -> bool:
    """Nobody was asked."""
    return False


def install_code_packages(missing: Sequence[str]) -> str:
    """What installs the packages that a model's own code needs."""
    command = pip_install(*missing)
    if _FLASH_ATTENTION not in missing:
        return command
    # Its build needs the torch that is installed, and nvcc.
    return _("{command}   (flash-attn needs an NVIDIA GPU and the CUDA Toolkit)").format(
        command=f"{command} --no-build-isolation"
    )


def require_consent(request: CodeRequest, consent: Consent) -> None:
    """Raise EngineError, with what the code is and where, unless ``consent`` says yes."""
    if consent(request):
        return
    raise EngineError(
        _(
            "{model} needs Python code from {origin} ({files}); it would run with all your rights, "
            "and nobody agreed to that."
        ).format(model=request.model, origin=request.origin, files=request.file_names),
        hint=_("Read it in {folder}; if you trust it: --trust-remote-code").format(folder=request.folder),
    )
