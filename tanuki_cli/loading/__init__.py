"""From a reference to a loaded model: find, offer, consent, load. Asks through callbacks, knows no screen.

What it takes to recommend and to offer a download is in ``offers``, imported only where that is needed.
"""

from tanuki_cli.loading.asker import Asker, NoteKind, NotInstalled, Offer, Unattended
from tanuki_cli.loading.finder import Finder, fetch, fetch_tokenizer, not_installed
from tanuki_cli.loading.load import LoadedModel, load_model

__all__ = [
    "Asker",
    "Finder",
    "LoadedModel",
    "NotInstalled",
    "NoteKind",
    "Offer",
    "Unattended",
    "fetch",
    "fetch_tokenizer",
    "load_model",
    "not_installed",
]
