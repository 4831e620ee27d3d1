"""``--template``: a prompt with the names of fields in braces."""

import json
import re
from typing import Final

from msgspec import Struct

from tanuki_cli.batch.rows import Fields
from tanuki_cli.errors import InputError, brief
from tanuki_cli.i18n import _

_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template(Struct, frozen=True):
    """Texts and the names of fields in turn, beginning and ending with a text."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Read ``{name}``; ``{{`` and ``}}`` are braces. Raises InputError for a brace on its own, and where
        no field is named."""
        texts, names = [""], []
        end = 0
        for part in _PART.finditer(text):
            texts[-1] += text[end : part.start()]
            end = part.end()
            name = (part[1] or "").strip()
            if part[0] in ("{{", "}}"):
                texts[-1] += part[0][0]
            elif name:
                names.append(name)
                texts.append("")
            else:
                raise InputError(
                    _("The template has {brace} that names no field.").format(brace=repr(part[0])),
                    hint=_("A brace as such is written twice: {{ and }}"),
                )
        texts[-1] += text[end:]
        if not names:
            raise InputError(
                _("The template names no field, so every question would be the same."),
                hint="tanuki batch FILE --template '… {text}'",
            )
        return cls(tuple(texts), tuple(names))

    def missing(self, fields: Fields) -> list[str]:
        """The names that ``fields`` have no value for."""
        return [name for name in dict.fromkeys(self.names) if fields.get(name) is None]

    def render(self, fields: Fields) -> str:
        """The prompt of a row. Raises InputError that names what is missing."""
        missing = self.missing(fields)
        if missing:
            raise InputError(_("it has no field {names}").format(names=", ".join(map(brief, missing))))
        values = [_text(fields[name]) for name in self.names]
        return self.texts[0] + "".join(
            value + text for value, text in zip(values, self.texts[1:], strict=True)
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
