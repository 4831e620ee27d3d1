"""``tanuki config`` for servers by name: ``remotes.NAME``."""

import re
from typing import Final

from tanuki_cli.catalog import VARIANT_BY_NAME, parse_reference
from tanuki_cli.catalog.variants import FAMILY_BY_NAME, PRACTICE_NAME
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.errors import InputError, SettingsError
from tanuki_cli.i18n import _
from tanuki_cli.options import asks_for_default, fold
from tanuki_cli.settings.file import REMOTES_TABLE
from tanuki_cli.settings.specs import Settings

_REMOTE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


def remote_name(key: str) -> str | None:
    """The name in ``remotes.NAME``; None for any other key."""
    table, dot, name = fold(key).partition(".")
    return name if dot and table.lower() == REMOTES_TABLE else None


def remote_url(name: str, settings: Settings) -> str:
    """The address of the server ``name``. Raises InputError that names the known ones."""
    try:
        return dict(settings.remotes)[name]
    except KeyError as exc:
        known = ", ".join(name for name, _url in settings.remotes)
        raise InputError(
            _("There is no server named {name}.").format(name=name),
            hint=_("Known: {names}").format(names=known) if known else "tanuki config set remotes.NAME URL",
        ) from exc


def checked_url(name: str, url: str) -> str:
    """``url``, for a server that is to be called ``name``. Raises InputError unless both can be used."""
    taken = {"auto", PRACTICE_NAME, *FAMILY_BY_NAME, *VARIANT_BY_NAME}
    if not _REMOTE_NAME.fullmatch(name) or name.lower() in taken:
        raise InputError(
            _("A server cannot be named {name!r}.").format(name=name),
            hint=_("Use letters, digits, - and _, and not the name of a model: remotes.lab"),
        )
    if url.strip().lower().startswith(("http://", "https://")):
        parse_reference(url)  # raises InputError for an address that is not one
        return url.strip()
    key = f"{REMOTES_TABLE}.{name}"
    raise InputError(
        _("The address of a server begins with http:// or https://."),
        hint=f"tanuki config unset {key}"
        if asks_for_default(url)
        else f"tanuki config set {key} http://host:8000/v1",
    )


def not_a_table(context: CommandContext) -> SettingsError:
    """The error for a file in which ``remotes`` is something else."""
    return SettingsError(
        _('{path}: [remotes] must hold lines such as lab = "http://host:8000/v1".').format(
            path=context.directories.config_file
        ),
        hint="tanuki config edit",
    )
