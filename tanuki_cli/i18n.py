"""Messages in Japanese and English.

The English text is the message id; ``locale/ja/*.po`` holds the Japanese, one file per area of the
program, compiled into one ``tanuki.mo`` by ``scripts/compile_messages.py``.
"""

import gettext
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

Language = Literal["ja", "en"]
LANGUAGES: Final[tuple[Language, ...]] = ("ja", "en")

_LOCALE_DIR: Final = Path(__file__).parent / "locale"
_active: gettext.NullTranslations = gettext.NullTranslations()
_language: Language = "en"


def activate(language: Language) -> None:
    """Make ``language`` the language of every later :func:`_`."""
    global _active, _language
    _language = language
    _active = gettext.translation("tanuki", _LOCALE_DIR, languages=[language], fallback=True)


def active_language() -> Language:
    """The language that messages are given in now."""
    return _language


def detect_language(option: str | None, environ: Mapping[str, str]) -> Language:
    """Choose the language by ``--lang``, ``TANUKI_LANG``, then the POSIX locale variables.

    An unknown option or ``TANUKI_LANG`` value counts as unset; the settings report it. Everything
    that is not Japanese reads English.
    """
    for chosen in (option, environ.get("TANUKI_LANG")):
        for language in LANGUAGES:
            if chosen and chosen.lower() == language:
                return language
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environ.get(name):
            return "ja" if value.lower().startswith("ja") else "en"
    return "en"


def _(message: str) -> str:
    """Translate ``message`` into the active language."""
    return _active.gettext(message) if message else ""  # gettext("") is the catalogue's header


def plural(count: int, one: str, many: str) -> str:
    """``many``, which is translated; in English ``one`` for a single thing. Japanese has one form."""
    return one if count == 1 and _language == "en" else many


def N_(message: str) -> str:
    """Mark ``message`` for translation later, where a table is made before a language is known."""
    return message
