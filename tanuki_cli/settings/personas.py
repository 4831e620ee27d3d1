"""Personas: texts by name that go before every question. A file each, so that any editor can change them.

Tanuki was trained with its own system prompt only, so what it is asked to be stands in the question.
"""

import difflib
import re
import unicodedata
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.errors import InputError, SettingsError
from tanuki_cli.files import os_reason, read_bounded, write_atomically
from tanuki_cli.i18n import _
from tanuki_cli.options import fold

MAX_CHARACTERS: Final = 20_000
_MAX_BYTES: Final = 4 * MAX_CHARACTERS + 16  # a BOM and line ends, too
_SUFFIX: Final = ".txt"
_NAME: Final = re.compile(r"\w[\w・-]{0,39}")


class Persona(Struct, frozen=True, kw_only=True):
    """A text that goes before every question; ``built_in`` while the user keeps none of that name."""

    name: str
    text: str
    built_in: bool = False


BUILT_IN: Final = (
    Persona(
        name="要約",
        text="次の文章を、大事な点を三つまでの箇条書きで要約してください。文章にないことは書かないでください。",
        built_in=True,
    ),
    Persona(
        name="校正",
        text="次の文章の誤字、脱字、文法の誤りを直してください。はじめに直した文章の全体を書き、"
        "そのあとに直した所を箇条書きで示してください。意味と文体は変えないでください。",
        built_in=True,
    ),
    Persona(
        name="やさしい日本語",
        text="次の質問に、やさしい日本語で答えてください。一つの文を短くし、"
        "むずかしい言葉には説明をつけてください。",
        built_in=True,
    ),
)
"""Tried with the practice model only, and so for their form, not for what Tanuki makes of them."""


class PersonaStore:
    """The personas in ``folder``, and the built-in ones. Nothing is created by reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """All names: the user's in order, then the built-in ones. A folder that cannot be read has none."""
        try:
            files = [path for path in self.folder.iterdir() if path.suffix == _SUFFIX]
        except OSError:
            files = []
        own = {name for path in files if _NAME.fullmatch(name := _plain(path.stem))}
        return [*sorted(own), *(persona.name for persona in BUILT_IN if persona.name not in own)]

    def find(self, name: str) -> Persona:
        """The persona ``name``, typed full-width or half-width.

        Raises InputError with the nearest name if there is none, SettingsError if its file is no text.
        """
        name = self._known(name)
        try:
            data = read_bounded(self._path(name), limit=_MAX_BYTES)
            return Persona(name=name, text=_checked(data.decode("utf-8-sig")))
        except FileNotFoundError:
            return next(persona for persona in BUILT_IN if persona.name == name)
        except (UnicodeDecodeError, InputError) as exc:
            reason = exc.message if isinstance(exc, InputError) else _("it is not UTF-8")
            raise self._unreadable(name, reason) from exc
        except OSError as exc:
            raise self._unreadable(name, os_reason(exc)) from exc

    def save(self, name: str, text: str, *, replace: bool = False) -> Persona:
        """Keep ``text`` as the persona ``name``.

        Raises InputError for a name or a text that cannot be kept, and for a name that is taken unless
        ``replace``; SettingsError where nothing can be written.
        """
        name, text = _checked_name(name), _checked(text)
        path = self._path(name)
        if path.exists() and not replace:
            raise InputError(
                _("There is a persona “{name}” already.").format(name=name),
                hint=f"tanuki persona save --force {name} …",
            )
        try:
            write_atomically(path, text + "\n")
        except OSError as exc:
            raise SettingsError(
                _("{path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
                hint=_("Check the permissions and the free space of {path}.").format(path=self.folder),
            ) from exc
        return Persona(name=name, text=text)

    def remove(self, name: str) -> Persona | None:
        """Delete the persona ``name``; the built-in one that then has the name again, if any.

        Raises InputError if there is none, or only a built-in one; SettingsError if it cannot be deleted.
        """
        name = self._known(name)
        path = self._path(name)
        try:
            path.unlink()
        except FileNotFoundError as exc:
            raise InputError(
                _("“{name}” is built in, and cannot be removed.").format(name=name),
                hint=f"tanuki persona save {name} …",
            ) from exc
        except OSError as exc:
            raise SettingsError(
                _("{path} cannot be removed: {reason}").format(path=path, reason=os_reason(exc)),
                hint=f"ls -ld {self.folder}",
            ) from exc
        return next((persona for persona in BUILT_IN if persona.name == name), None)

    def _known(self, name: str) -> str:
        wanted, names = _plain(name), self.names()
        found = next((known for known in names if known.casefold() == wanted.casefold()), None)
        if found is not None:
            return found
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
        raise InputError(
            _("There is no persona “{name}”.").format(name=name),
            hint=_("Did you mean {key}?").format(key=near[0]) if near else "tanuki persona list",
        )

    def _path(self, name: str) -> Path:
        """The file of ``name``; it may be spelled otherwise: macOS takes accents and voicing marks apart."""
        usual = self.folder / f"{name}{_SUFFIX}"
        if usual.exists() or not self.folder.is_dir():
            return usual
        return next((path for path in self.folder.glob(f"*{_SUFFIX}") if _plain(path.stem) == name), usual)

    def _unreadable(self, name: str, reason: str) -> SettingsError:
        path = self._path(name)
        return SettingsError(
            _("{path} cannot be read: {reason}").format(path=path, reason=reason.rstrip(".。")),
            hint=f"tanuki persona save --force {name} …",
        )


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", fold(name))


def _checked_name(name: str) -> str:
    plain = _plain(name)
    if not _NAME.fullmatch(plain):
        raise InputError(
            _("A persona cannot be named {name!r}.").format(name=name),
            hint=_("Use up to 40 letters, digits, - and _: tanuki persona save 先生 …"),
        )
    return plain


def _checked(text: str) -> str:
    text = text.strip()
    if not text:
        raise InputError(_("The text of a persona cannot be empty."), hint="tanuki persona save NAME TEXT")
    if len(text) > MAX_CHARACTERS or "\0" in text:
        raise InputError(
            _("The text of a persona can have at most {count} characters.").format(count=MAX_CHARACTERS)
            if len(text) > MAX_CHARACTERS
            else _("The text of a persona cannot hold zero bytes."),
            hint=_("Shorten it."),
        )
    return text
