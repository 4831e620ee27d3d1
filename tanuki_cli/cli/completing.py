"""What the shell's completion offers as values: models, personas, settings, conversations."""

import os
from collections.abc import Callable

from tanuki_cli.catalog import VARIANTS, reference_names
from tanuki_cli.errors import TanukiError
from tanuki_cli.options import OptionSpec, fold
from tanuki_cli.settings.file import REMOTES_TABLE
from tanuki_cli.settings.personas import PersonaStore
from tanuki_cli.settings.specs import SPECS
from tanuki_cli.settings.values import Directories

Completion = Callable[[str], "list[str | tuple[str, str]]"]
_MOST_CONVERSATIONS, _MOST_QUESTIONS = 30, 10


def model_names(incomplete: str) -> list[str | tuple[str, str]]:
    """The models of the catalog that can be run and whose names begin so."""
    refused = {variant.name for variant in VARIANTS if variant.refused}
    return [name for name in reference_names() if name.startswith(incomplete.lower()) and name not in refused]


def persona_names(incomplete: str) -> list[str | tuple[str, str]]:
    """The names of personas that begin so."""
    return [
        name for name in PersonaStore(_directories().personas).names() if name.startswith(fold(incomplete))
    ]


def setting_keys(incomplete: str) -> list[str | tuple[str, str]]:
    """The keys of config.toml that begin so, with what they are for."""
    wanted = fold(incomplete).lower().replace("-", "_")
    keys: list[str | tuple[str, str]] = [
        (spec.key, spec.help) for spec in SPECS if spec.key.startswith(wanted)
    ]
    return [*keys, f"{REMOTES_TABLE}."] if REMOTES_TABLE.startswith(wanted) and wanted else keys


def conversation_ids(incomplete: str) -> list[str | tuple[str, str]]:
    """The ids of the newest conversations that begin so, with their titles; none without a history."""
    from tanuki_cli.history import HistoryStore  # SQLite is opened only for this

    try:
        with HistoryStore(_directories().history_file) as store:
            digits = store.id_digits()
            found = store.offered(chats=_MOST_CONVERSATIONS, questions=_MOST_QUESTIONS)
    except TanukiError:
        return []
    return [(one.id[:digits], one.label) for one in found if one.id.startswith(incomplete.lower())]


def choices_of(spec: OptionSpec) -> Completion | None:
    """What offers the values of an option that has a few."""
    if not spec.choices:
        return None
    return lambda incomplete: [choice for choice in spec.choices if choice.startswith(incomplete.lower())]


def _directories() -> Directories:
    return Directories.from_environment(os.environ)
