"""The hub's protocol, through huggingface_hub: listings and byte streams.

The library gives names, tokens, mirrors, proxies and the meaning of answers. The bytes of a file are
read here, because huggingface_hub 2 throws an unfinished file away when its process ends.
Imported only when the network is needed.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx2
from huggingface_hub import HfApi, constants, get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # documented
from msgspec import Struct

from tanuki_cli.errors import DownloadError
from tanuki_cli.hub.faults import translated
from tanuki_cli.hub.files import HubFile
from tanuki_cli.i18n import _

DEFAULT_REVISION: Final = "main"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_DIGEST: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Neither the versions of Python and the libraries nor the surroundings are the hub's business.
_HEADERS: Final = {"user-agent": "tanuki"}


class ByteStream(Struct, frozen=True):
    """The answer to a request for a file: its bytes from ``start`` on, and no more than were asked for if
    ``is_range``."""

    start: int
    chunks: Iterator[bytes]
    is_range: bool


class HubClient:
    """Asks the hub on behalf of the model that users call ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Set on the library, not in the environment: child processes are not ours to configure.
        constants.HF_HUB_DISABLE_TELEMETRY = True
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

    def list_files(self, repository: str, revision: str) -> list[HubFile]:
        """Every file of ``repository`` at ``revision``, with the commit it stands for, in one request.

        Raises DownloadError; :class:`~tanuki_cli.hub.faults.TransientFault` if it may help to repeat.
        """
        with translated(repository, name=self._name):
            try:
                info = HfApi(headers=_HEADERS).model_info(
                    repository,
                    revision=revision,
                    files_metadata=True,
                    timeout=constants.HF_HUB_ETAG_TIMEOUT,
                )
            except (KeyError, TypeError, AttributeError) as exc:
                raise ValueError(_("its listing cannot be read")) from exc
            if not _COMMIT.fullmatch(info.sha or ""):
                raise ValueError(_("its listing names no commit"))
        files = (
            HubFile(
                repository=repository,
                commit=str(info.sha),
                path=sibling.rfilename,
                size=sibling.size if sibling.size is not None else -1,
                digest=sibling.lfs.sha256 if sibling.lfs else str(sibling.blob_id),
                lfs=sibling.lfs is not None,
            )
            for sibling in info.siblings or ()
        )
        return [file for file in files if _is_safe(file)]

    @contextmanager
    def open(self, file: HubFile, *, offset: int, end: int | None = None) -> Iterator[ByteStream]:
        """Ask for ``file`` from byte ``offset`` on, up to ``end`` if given; the hub may send all of it.

        Errors while the bytes are read are translated too. Raises as :meth:`list_files`.
        May be called from several threads.
        """
        headers = {**_HEADERS, "accept-encoding": "identity"}
        if offset or end is not None:
            headers["range"] = f"bytes={offset}-{'' if end is None else end - 1}"
        url = hf_hub_url(file.repository, file.path, revision=file.commit)
        with (
            translated(file.repository, name=self._name, path=file.path),
            get_session().stream(
                "GET",
                url,
                headers=build_hf_headers(headers=headers),
                timeout=httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT),
            ) as response,
        ):
            hf_raise_for_status(response)
            place = response.headers.get("content-range", "").partition("/")[0]
            yield ByteStream(
                _start(response, file, offset),
                response.iter_bytes(),
                is_range=end is not None and place == f"bytes {offset}-{end - 1}",
            )


def _start(response: httpx2.Response, file: HubFile, offset: int) -> int:
    """The byte that ``response`` begins at. Raises DownloadError if the file has another size."""
    size = response.headers.get("content-length")
    start = 0
    if response.status_code == httpx2.codes.PARTIAL_CONTENT:
        place, _slash, size = response.headers.get("content-range", "").partition("/")
        start = offset if place.startswith(f"bytes {offset}-") else -1
    if start < 0 or (size and size.isdigit() and int(size) != file.size):
        raise DownloadError(
            _("The hub sent something else than {path} of {repository}.").format(
                path=file.path, repository=file.repository
            ),
            hint=_("Check HF_ENDPOINT and the proxy variables; a Wi-Fi sign-in page also looks like this."),
        )
    return start


def _is_safe(file: HubFile) -> bool:
    """A file whose size and digest are known and whose name stays inside its folder."""
    parts = file.path.split("/")
    inside = all(part not in ("", ".", "..") and "\\" not in part and ":" not in part for part in parts)
    return inside and file.size >= 0 and bool(_DIGEST.fullmatch(file.digest))
