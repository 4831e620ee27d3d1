"""From a row to what a model is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from tanuki_cli.batch.openai_form import read_body
from tanuki_cli.batch.rows import TEXT_FIELD, Fields, Row
from tanuki_cli.batch.template import Template
from tanuki_cli.conversation import Message, Role
from tanuki_cli.engines.answers import PLAIN, AnswerForm, Job
from tanuki_cli.errors import InputError, brief
from tanuki_cli.i18n import _
from tanuki_cli.options import check_value
from tanuki_cli.prompt import guard_markers, with_persona
from tanuki_cli.sampling import SAMPLING_SPECS, SamplingOptions

_SPEC_BY_KEY: Final = {spec.key: spec for spec in SAMPLING_SPECS}
_OPTIONS: Final = "options"
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How every row is asked, unless it says otherwise itself.

    ``system`` None is the model's own system text. ``persona`` comes before every question, ``explanation``
    follows each.
    """

    template: Template | None = None
    system: str | None = None
    persona: str | None = None
    options: SamplingOptions
    form: AnswerForm = PLAIN
    explanation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a row asks. ``guarded`` lines of it imitated a turn heading, and were defused."""

    row: Row
    job: Job
    guarded: int


def make_request(row: Row, asking: Asking) -> Request:
    """What ``row`` asks. Raises InputError that names the row and what is wrong with it."""
    try:
        if row.problem:
            raise InputError(row.problem)
        messages, options, form = _asked(row, asking)
    except (InputError, ValueError) as exc:
        reason = exc.message if isinstance(exc, InputError) else str(exc)
        raise InputError(
            _("Line {number} cannot be asked: {reason}.").format(
                number=row.number, reason=reason.removesuffix(".").removesuffix("。")
            )
        ) from exc
    guarded = 0
    safe = []
    for message in messages:
        content, changed = guard_markers(message.content)
        guarded += changed
        safe.append(replace(message, content=content))
    if asking.system is not None and safe[0].role != "system":
        safe.insert(0, Message("system", asking.system))
    if asking.explanation and safe[-1].role == "user":
        safe[-1] = replace(safe[-1], content=f"{safe[-1].content}\n\n{asking.explanation}")
    messages = with_persona(safe, asking.persona)
    return Request(row=row, job=Job(messages=messages, options=options, form=form), guarded=guarded)


def _asked(row: Row, asking: Asking) -> tuple[Sequence[Message], SamplingOptions, AnswerForm]:
    fields = row.fields
    if row.is_openai and asking.template is None:
        body = read_body(fields, asking.options, asking.form)
        return read_messages(body.messages), body.options, body.form
    if asking.template is not None:
        return [_question(asking.template.render(fields))], asking.options, asking.form
    options = _own_options(fields.get(_OPTIONS), asking.options)
    if fields.get("messages") is not None:
        return read_messages(fields["messages"]), options, asking.form
    system = fields.get("system")
    first = [Message("system", system)] if isinstance(system, str) and system else []
    return [*first, _question(_prompt(fields))], options, asking.form


def _prompt(fields: Fields) -> object:
    """The field that is the question: by its name, or the only one beside the id."""
    others = [name for name in fields if name != "id"]
    name = next(
        (name for name in ("prompt", TEXT_FIELD) if name in fields), others[0] if len(others) == 1 else ""
    )
    return fields.get(name)


def _question(text: object) -> Message:
    if not isinstance(text, str) or not text.strip():
        raise InputError(_("it has no question"))
    return Message("user", text)


def read_messages(value: object) -> list[Message]:
    """Messages in the form of the OpenAI API, those of one role in a row joined by a blank line.

    Raises InputError for what Tanuki cannot be told: tools, a system message after the first turn, a last
    message that is not the user's.
    """
    if not isinstance(value, list) or not value:
        raise InputError(_("its messages are no list"))
    messages: list[Message] = []
    for entry in value:
        if not isinstance(entry, Mapping):
            raise InputError(_("it has a message that is not text"))
        role = _ROLES.get(str(entry.get("role")))
        if role is None:
            shown = repr(brief(entry.get("role")))
            raise InputError(_("it has a message with the role {role}").format(role=shown))
        message = Message(role, _content(entry.get("content")))
        if messages and messages[-1].role == role:
            messages[-1] = replace(message, content=f"{messages[-1].content}\n\n{message.content}")
        else:
            messages.append(message)
    if messages[-1].role != "user":
        raise InputError(_("its last message is not the user's"))
    return messages


def _content(value: object) -> str:
    """A text, or the texts of its parts joined."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [None]
    texts = [part.get("text") if isinstance(part, Mapping) and _is_text(part) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(_("it has a message that is not text"))
    return "".join(cast("list[str]", texts))


def _is_text(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "text"


def _own_options(value: object, options: SamplingOptions) -> SamplingOptions:
    """``options`` with those of a row over them, under the names that they have in the settings."""
    if value is None:
        return options
    if not isinstance(value, Mapping):
        raise InputError(_("its options are no object"))
    unknown = next((key for key in value if key not in _SPEC_BY_KEY), None)
    if unknown is not None:
        raise InputError(_("it has an unknown option: {name}").format(name=brief(unknown)))
    given = {key: entry for key, entry in value.items() if entry is not None}
    changes: dict[str, Any] = {key: check_value(_SPEC_BY_KEY[key], entry) for key, entry in given.items()}
    return replace(options, **changes)


def check_first(columns: Sequence[str], asking: Asking, *, name: str) -> None:
    """Raise InputError, before a model is loaded, where no row with these ``columns`` could be asked."""
    if not columns:
        return
    missing = asking.template.missing(dict.fromkeys(columns, "")) if asking.template else []
    if missing:
        raise InputError(
            _("{name} has no field {names} on its first line; there is: {columns}.").format(
                name=name, names=", ".join(map(brief, missing)), columns=brief(", ".join(columns))
            ),
            hint="tanuki batch FILE --template '… {" + brief(columns[0]) + "}'",
        )
    if asking.template is None and _prompt(dict.fromkeys(columns, "?")) is None:
        known = {"messages", "custom_id"} & set(columns)
        if not known:
            raise InputError(
                _("{name} does not say which field is the question; there is: {columns}.").format(
                    name=name, columns=brief(", ".join(columns))
                ),
                hint="tanuki batch FILE --template '… {" + brief(columns[0]) + "}'",
            )
