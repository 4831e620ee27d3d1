"""From a row to what a model is asked."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.batch.openai_form import read_request
from tanuki_cli.batch.rows import TEXT_FIELD, Fields, Row
from tanuki_cli.batch.template import Template
from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import PLAIN, AnswerForm, Job
from tanuki_cli.errors import InputError, brief
from tanuki_cli.i18n import _
from tanuki_cli.options import check_value
from tanuki_cli.prompt import guard_markers, with_persona
from tanuki_cli.protocol.fields import Fields as ProtocolFields
from tanuki_cli.protocol.turns import read_turns
from tanuki_cli.sampling import SAMPLING_SPECS, SamplingOptions

_SPEC_BY_KEY: Final = {spec.key: spec for spec in SAMPLING_SPECS}
_OPTIONS: Final = "options"


class Asking(Struct, frozen=True, kw_only=True):
    """How every row is asked, unless it says otherwise itself.

    ``system`` None is the model's own system prompt. ``persona`` comes before every question, ``explanation``
    follows each.
    """

    template: Template | None = None
    system: str | None = None
    persona: str | None = None
    options: SamplingOptions
    form: AnswerForm = PLAIN
    explanation: str = ""


class Request(Struct, frozen=True, kw_only=True):
    """What a row asks.

    ``guarded`` lines of it imitated a turn heading, and were defused. An answer that ``continues`` is told
    without its beginning. Unless it ``truncates``, no message may be left out. ``ignored`` are
    fields that nobody here knows. A row that wants log probabilities itself is told ``alternatives`` of each.
    """

    row: Row
    job: Job
    guarded: int
    continues: bool = False
    truncates: bool = True
    ignored: tuple[str, ...] = ()
    alternatives: int | None = None


class _Asked(Struct, frozen=True, kw_only=True):
    messages: Sequence[Message]
    options: SamplingOptions
    form: AnswerForm
    guarded: int = 0
    continues: bool = False
    truncates: bool = True
    ignored: tuple[str, ...] = ()
    alternatives: int | None = None


def make_request(row: Row, asking: Asking) -> Request:
    """What ``row`` asks. Raises InputError that names the row and what is wrong with it."""
    try:
        if row.problem:
            raise InputError(row.problem)
        asked = _asked(row, asking)
    except (InputError, ValueError) as exc:
        reason = exc.message if isinstance(exc, InputError) else str(exc)
        raise InputError(
            _("Line {number} cannot be asked: {reason}.").format(
                number=row.number, reason=reason.removesuffix(".").removesuffix("。")
            )
        ) from exc
    guarded = asked.guarded
    safe = []
    for message in asked.messages:
        content, changed = guard_markers(message.content)
        guarded += changed
        safe.append(replace(message, content=content))
    if asking.system is not None and safe[0].role != "system":
        safe.insert(0, Message("system", asking.system))
    if asking.explanation and safe[-1].role == "user":
        safe[-1] = replace(safe[-1], content=f"{safe[-1].content}\n\n{asking.explanation}")
    messages = with_persona(safe, asking.persona)
    return Request(
        row=row,
        job=Job(messages=messages, options=asked.options, form=asked.form),
        guarded=guarded,
        continues=asked.continues,
        truncates=asked.truncates,
        ignored=asked.ignored,
        alternatives=asked.alternatives,
    )


def _asked(row: Row, asking: Asking) -> _Asked:
    fields = row.fields
    if asking.template is not None:
        question = _question(asking.template.render(fields))
        return _Asked(messages=[question], options=asking.options, form=asking.form)
    if row.is_openai:
        return _openai(fields, asking)
    options = _own_options(fields.get(_OPTIONS), asking.options)
    if fields.get("messages") is not None:
        # Chats with their answers are data of many kinds: to go on with all of them is seldom what is meant.
        turns = read_turns(ProtocolFields(fields), goes_on=False)
        return _Asked(
            messages=turns.messages,
            options=options,
            form=_begun(asking.form, turns.begun),
            guarded=turns.guarded,
            continues=bool(turns.begun),
        )
    system = fields.get("system")
    first = [Message("system", system)] if isinstance(system, str) and system else []
    return _Asked(messages=[*first, _question(_prompt(fields))], options=options, form=asking.form)


def _openai(fields: Fields, asking: Asking) -> _Asked:
    """A row in OpenAI's form: what it does not say, the command line says."""
    asked = read_request(fields, asking.options)
    form = _begun(asking.form, asked.turns.begun)
    if asked.logprobs is not None:
        form = replace(form, logprobs=max(1, asked.logprobs))
    if asked.shape is not None:
        form = replace(form, shape=asked.shape, scores=False)
    return _Asked(
        messages=asked.turns.messages,
        options=asked.options,
        form=form,
        guarded=asked.turns.guarded,
        continues=bool(asked.turns.begun),
        truncates=asked.truncates,
        ignored=asked.ignored,
        alternatives=asked.logprobs,
    )


def _begun(form: AnswerForm, begun: str) -> AnswerForm:
    return replace(form, begun=begun) if begun else form


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
