"""Shapes as a user gives them: read, and checked before any model is loaded.

Nothing of a schema is ignored: a keyword that changes what is valid is enforced, or refused by its name.
"""

import json
import re
from collections.abc import Iterable
from typing import Final

from tanuki_cli.engines.shapes.schema import in_order, unsupported_keywords
from tanuki_cli.engines.shapes.shape import Shape
from tanuki_cli.errors import InputError, brief
from tanuki_cli.i18n import _
from tanuki_cli.text.strict_json import json_fault, strict_loads

MAX_BYTES: Final = 1 << 20
_CONTROL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u00[01]|\x7f")
r"""What JSON, or llguidance, writes as \u0000 to \u001F and \u007F only: no answer has such escapes."""
_ANY_OBJECT: Final = '{"type": "object"}'


def any_object() -> Shape:
    """Any JSON object."""
    return Shape("json_object", _ANY_OBJECT)


def json_schema(text: str, *, name: str = "--json-schema") -> Shape:
    """What the JSON Schema ``text`` describes; ``name`` is what errors call it.

    Raises InputError if it is no schema, or has keywords that are not supported: all of them are named.
    """
    _check_size(text, name)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(
            _("{name} cannot be used: {reason}").format(name=name, reason=json_fault(exc)),
            hint="""tanuki ask --json-schema '{"type": "object"}' …""",
        ) from exc
    if not isinstance(schema, dict):
        raise InputError(
            _("{name} must be a JSON object that describes the answer.").format(name=name),
            hint="""tanuki ask --json-schema '{"type": "object"}' …""",
        )
    try:
        refused = sorted(set(unsupported_keywords(schema)))
    except RecursionError as exc:
        raise InputError(
            _("{name} is nested too deeply.").format(name=name),
            hint=_("Name its parts in $defs, and refer to them."),
        ) from exc
    if refused:
        raise InputError(
            _("{name} has keywords that are not supported: {keywords}.").format(
                name=name, keywords=brief(", ".join(refused))
            ),
            hint=_("Take them out, or see what is supported: tanuki help shapes"),
        )
    written = json.dumps(schema, ensure_ascii=False)
    if _CONTROL.search(written):
        raise InputError(
            _("{name} holds control characters, which an answer cannot spell.").format(name=name),
            hint=_("Of those, only line breaks, tabs, backspaces and form feeds can be used."),
        )
    return _checked(Shape("json_schema", written), name)


def choices(answers: Iterable[str], *, name: str = "--choices") -> Shape:
    """One of ``answers``, blanks around them taken off.

    Raises InputError if there is none, or an empty one.
    """
    found = tuple(dict.fromkeys(answer.strip() for answer in answers))
    if not found or "" in found:
        raise InputError(
            _("{name} needs answers to choose from, and none of them empty.").format(name=name),
            hint=_("tanuki ask --choices yes,no …"),
        )
    text = json.dumps(found, ensure_ascii=False)
    _check_size(text, name)
    return _checked(Shape("choices", text), name)


def regex(pattern: str, *, name: str = "--regex") -> Shape:
    """The whole answer matches ``pattern``. Raises InputError if it is no pattern, or looks around."""
    if not pattern:
        raise InputError(
            _("{name} needs a pattern.").format(name=name), hint=r"tanuki ask --regex '\d{3}-\d{4}' …"
        )
    _check_size(pattern, name)
    return _checked(Shape("regex", pattern), name)


def grammar(text: str, *, name: str = "--grammar") -> Shape:
    """An answer of the Lark grammar ``text``. Raises InputError if it is none."""
    _check_size(text, name)
    return _checked(Shape("grammar", text), name)


def _check_size(text: str, name: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InputError(
            _("{name} is longer than {count} bytes.").format(name=name, count=MAX_BYTES),
            hint=_("See what is supported: tanuki help shapes"),
        )


def _checked(shape: Shape, name: str) -> Shape:
    # Its import takes longer than an answer without a shape may wait.
    from tanuki_cli.engines.shapes.guidance import fault

    reason = fault(shape)
    if reason:
        raise InputError(
            _("{name} cannot be used: {reason}").format(name=name, reason=reason),
            hint=_("See what is supported: tanuki help shapes"),
        )
    return shape


def fits(shape: Shape, text: str, *, as_data: bool = False) -> bool:
    """Whether ``text`` is a whole answer of the shape.

    With ``as_data`` JSON counts for what it says: white space, escapes and the order of names are anybody's
    own, where this program's engines write them in one way.
    """
    from tanuki_cli.engines.shapes.guidance import accepts

    if not (as_data and shape.is_json):
        return accepts(shape, text)
    try:
        value = strict_loads(text)
        schema = json.loads(shape.text)
        return accepts(shape, json.dumps(in_order(value, schema, schema), ensure_ascii=False))
    except (ValueError, RecursionError):
        return False
