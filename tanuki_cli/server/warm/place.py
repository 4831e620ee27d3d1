"""Where the keeper is reached, and by nobody but this user.

On a Unix socket in a folder that only this user can enter. Where there are none, as on Windows, on a port of
loopback: a file of this user's names it and a secret, and each side proves to the other that it knows that
before anything is said. (A port that was left may be another program's by now.)
"""

import hashlib
import hmac
import json
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.files import read_bounded, write_atomically
from tanuki_cli.settings.values import Directories

TRANSPORT: Final = "TANUKI_WARM_TRANSPORT"
"""``loopback`` in this environment variable takes the way of systems without Unix sockets."""
_PROOF: Final = 32
_PROOF_S: Final = 5.0
_MAX_FILE: Final = 1024
_HOST: Final = "127.0.0.1"


class Place(Struct, frozen=True, kw_only=True):
    """The folder, and the name of this installation's keeper in it: one for each set of own folders."""

    folder: Path
    name: str
    loopback: bool = False

    @property
    def address(self) -> Path:
        """The socket, or the file that names the port."""
        return self.folder / f"{self.name}.{'port' if self.loopback else 'sock'}"

    @property
    def identity(self) -> tuple[int, int] | None:
        """What tells this address from a later one; None where there is none."""
        try:
            found = self.address.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time looks whether there is a keeper, and starts one."""
        from filelock import FileLock  # who finds one needs no lock

        with FileLock(self.folder / f"{self.name}.lock"):
            yield

    def connect(self) -> socket.socket:
        """A connection to the keeper. Raises OSError where there is none."""
        if not self.loopback:
            return _connected(socket.AF_UNIX, str(self.address))
        try:
            known = json.loads(read_bounded(self.address, limit=_MAX_FILE))
            port, secret = int(known["port"]), bytes.fromhex(known["secret"])
        except (ValueError, KeyError, TypeError) as exc:
            raise ConnectionError from exc
        connection = _connected(socket.AF_INET, (_HOST, port))
        try:
            _prove_to_keeper(connection, secret)
        except OSError:
            connection.close()
            raise
        return connection

    def listen(self) -> tuple[socket.socket, bytes]:
        """A listener in place of one that a dead keeper left, and the secret that its clients know."""
        self.address.unlink(missing_ok=True)
        if not self.loopback:
            return _listening_on_unix(self.address), b""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((_HOST, 0))
        listener.listen(64)
        secret = secrets.token_bytes(_PROOF)
        known = {"port": listener.getsockname()[1], "secret": secret.hex()}
        write_atomically(self.address, json.dumps(known), mode=0o600)
        return listener, secret


def admit(connection: socket.socket, secret: bytes) -> None:
    """Let in who knows ``secret``, and prove to know it too. Raises OSError for anybody else."""
    if not secret:
        return
    connection.settimeout(_PROOF_S)
    theirs = _received(connection, _PROOF)
    ours = secrets.token_bytes(_PROOF)
    connection.sendall(ours + _proof(secret, b"keeper", theirs))
    if not hmac.compare_digest(_received(connection, _PROOF), _proof(secret, b"client", ours)):
        raise ConnectionError
    connection.settimeout(None)


def _prove_to_keeper(connection: socket.socket, secret: bytes) -> None:
    connection.settimeout(_PROOF_S)
    ours = secrets.token_bytes(_PROOF)
    connection.sendall(ours)
    theirs, proof = _received(connection, _PROOF), _received(connection, _PROOF)
    if not hmac.compare_digest(proof, _proof(secret, b"keeper", ours)):
        raise ConnectionError
    connection.sendall(_proof(secret, b"client", theirs))
    connection.settimeout(None)


def _proof(secret: bytes, who: bytes, asked: bytes) -> bytes:
    return hmac.digest(secret, who + asked, "sha256")


def _received(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionError
        parts += part
    return bytes(parts)


def _connected(family: int, address: str | tuple[str, int]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.connect(address)
        if family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        connection.close()
        raise
    return connection


def _listening_on_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


def find_place(directories: Directories, environ: Mapping[str, str]) -> Place | None:
    """The place, made where it is missing; None where there can be none that is private."""
    loopback = os.name != "posix" or environ.get(TRANSPORT) == "loopback"
    folder = directories.state / "warm" if loopback else _runtime_folder(environ)
    try:
        folder.mkdir(mode=0o700, parents=loopback, exist_ok=True)
        if os.name == "posix" and not _is_private(folder.lstat()):
            return None
    except OSError:
        return None
    digest = hashlib.sha256(str(directories.state).encode("utf-8", "surrogateescape")).hexdigest()
    return Place(folder=folder, name=digest[:12], loopback=loopback)


def _runtime_folder(environ: Mapping[str, str]) -> Path:
    # The path of a socket may have a hundred bytes only, which our own folders may exceed.
    runtime = environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and Path(runtime).is_dir() else Path(tempfile.gettempdir())
    return base / f"tanuki-{os.getuid()}"


def _is_private(found: os.stat_result) -> bool:
    own = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return own and found.st_uid == os.getuid()
