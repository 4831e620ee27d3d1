"""How large the variants of a model are, as the hub tells it."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from huggingface_hub import constants

from tanuki_cli.catalog import Variant
from tanuki_cli.errors import DownloadError, ModelError
from tanuki_cli.hub.client import DEFAULT_REVISION, HubClient
from tanuki_cli.hub.faults import MissingError, offline_error
from tanuki_cli.hub.selection import select_files
from tanuki_cli.hub.transfer import Patience
from tanuki_cli.i18n import _

if TYPE_CHECKING:
    from tanuki_cli.hub.files import HubFile


def remote_sizes(variants: Iterable[Variant], *, offline: bool, waits: tuple[float, ...]) -> dict[str, int]:
    """Bytes of each variant that the hub has, by name; one request per repository."""
    patience = Patience(waits=waits, notify=lambda fault: None)
    listings: dict[str, list[HubFile]] = {}
    sizes: dict[str, int] = {}
    for variant in variants:
        if offline or constants.HF_HUB_OFFLINE:
            raise DownloadError(
                _("The hub cannot be asked: the network is not to be used."),
                hint=offline_error(variant.name).hint,
            )
        repository = variant.repository
        if repository not in listings:
            client = HubClient(variant.name)
            try:
                listings[repository] = patience.persist(
                    partial(client.list_files, repository, DEFAULT_REVISION)
                )
            except MissingError:
                listings[repository] = []
        try:
            sizes[variant.name] = sum(file.size for file in select_files(variant, listings[repository]))
        except ModelError:
            continue
    return sizes
