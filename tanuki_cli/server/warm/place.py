"""Where the socket is: a folder that nobody but this user can enter."""

import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tanuki_cli.settings.values import Directories


@dataclass(frozen=True, slots=True)
class Place:
    """The folder, and the name of this installation's socket in it: one for each set of own folders."""

    folder: Path
    name: str

    @property
    def socket(self) -> Path:
        """The socket."""
        return self.folder / f"{self.name}.sock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time looks whether there is a keeper, and starts one."""
        import fcntl  # is not on every system; nor is this reached there

        with (self.folder / f"{self.name}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def find_place(directories: Directories, environ: Mapping[str, str]) -> Place | None:
    """The place, made where it is missing; None where there can be none that is private."""
    if os.name != "posix" or not hasattr(socket, "AF_UNIX"):
        return None
    # The path of a socket may have a hundred bytes only, which our own folders may exceed.
    runtime = environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and Path(runtime).is_dir() else Path(tempfile.gettempdir())
    folder = base / f"tanuki-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    if not private or found.st_uid != os.getuid():
        return None
    digest = hashlib.sha256(str(directories.state).encode("utf-8", "surrogateescape")).hexdigest()
    return Place(folder, digest[:12])
