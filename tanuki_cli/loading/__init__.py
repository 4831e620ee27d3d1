"""From a reference to a loaded model: find, offer, consent, load. Asks through callbacks, knows no screen."""

from tanuki_cli.loading.asker import Asker, NoteKind, Offer, Unattended
from tanuki_cli.loading.fetching import fetch
from tanuki_cli.loading.finder import Finder, NotInstalled, memory_plan, not_installed
from tanuki_cli.loading.load import LoadedModel, load_model
from tanuki_cli.loading.obstacle import lasting_obstacle, missing_engine

__all__ = [
    "Asker",
    "Finder",
    "LoadedModel",
    "NotInstalled",
    "NoteKind",
    "Offer",
    "Unattended",
    "fetch",
    "lasting_obstacle",
    "load_model",
    "memory_plan",
    "missing_engine",
    "not_installed",
]
