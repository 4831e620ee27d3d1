"""The certificates that the environment names for checking servers: whether they can be used at all."""

import os
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Final

from tanuki_cli.files import os_reason
from tanuki_cli.i18n import _

FILE_VARIABLE: Final = "SSL_CERT_FILE"
FOLDER_VARIABLE: Final = "SSL_CERT_DIR"
"""What httpx2 reads, the file before the folder; it knows no REQUESTS_CA_BUNDLE."""


def certificate_fault() -> tuple[str, str] | None:
    """What is wrong with the certificates of the environment, and what to do; None if nothing is."""
    if text := os.environ.get(FILE_VARIABLE):
        name, reason = FILE_VARIABLE, _file_fault(Path(text))
    elif text := os.environ.get(FOLDER_VARIABLE):
        name, reason = FOLDER_VARIABLE, _folder_fault(Path(text))
    else:
        return None
    if not reason:
        return None
    return (
        _("{name} names {path}, which cannot be used: {reason}").format(name=name, path=text, reason=reason),
        _("Let it name your certificates, or do without: unset {name}").format(name=name),
    )


def _file_fault(path: Path) -> str:
    try:
        with path.open("rb") as file:
            written = os.fstat(file.fileno()).st_mtime_ns
        holds = _holds_certificates(path, written)
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the name
        return os_reason(exc) if isinstance(exc, OSError) else str(exc)
    return "" if holds else _("there is no certificate in it")


@lru_cache(maxsize=4)
def _holds_certificates(path: Path, _written: int) -> bool:
    """Reading them all takes 30 ms, and a download asks before each of hundreds of requests."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _folder_fault(path: Path) -> str:
    try:
        next(path.iterdir(), None)
    except (OSError, ValueError) as exc:
        return os_reason(exc) if isinstance(exc, OSError) else str(exc)
    return ""
