"""Conversations as files: JSON without loss, JSONL for other programs, Markdown for people."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from msgspec import to_builtins

from tanuki_cli.conversation import (
    Conversation,
    ConversationKind,
    ConversationSettings,
    FinishReason,
    Generation,
    Message,
    Node,
    Role,
    Usage,
)
from tanuki_cli.errors import HistoryError, InputError, update_hint
from tanuki_cli.files import os_reason
from tanuki_cli.history.json_place import Place
from tanuki_cli.history.rows import timestamp
from tanuki_cli.history.settings_json import settings_from_place
from tanuki_cli.i18n import _
from tanuki_cli.text.strict_json import json_fault

ExportFormat = Literal["markdown", "json", "jsonl"]

_SUFFIXES: Final[Mapping[str, ExportFormat]] = {
    ".json": "json",
    ".jsonl": "jsonl",
    **dict.fromkeys(("", ".md", ".markdown", ".txt"), "markdown"),
}
FORMAT_NAME: Final = "tanuki-history"
FORMAT_VERSION: Final = 1


def export_text(conversations: Iterable[Conversation], *, format: ExportFormat) -> str:
    """The conversations as the text of one file, which ends with a line break."""
    if format == "json":
        return to_json(conversations)
    if format == "jsonl":
        return "".join(map(to_jsonl, conversations))
    return "\n".join(map(to_markdown, conversations))


def format_of(path: Path) -> ExportFormat:
    """The format that the suffix of ``path`` names; Markdown where there is none, or that of a text.

    Raises ValueError, with a sentence, for any other: what is in a file is what its name says.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(_("{name} must end in .md, .json or .jsonl.").format(name=path.name))
    return _SUFFIXES[suffix]


def write_export(path: Path, text: str) -> None:
    """Write ``text`` into a new file that only this user can read.

    Raises InputError if there is a file already, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
            file.write(text)
    except FileExistsError as exc:
        raise InputError(
            _("{path} exists already, and nothing was written.").format(path=path),
            hint=_("Choose another name."),
        ) from exc
    except OSError as exc:
        raise InputError(
            _("{path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
            hint=_("Check the permissions and the free space of {path}.").format(path=path.parent),
        ) from exc


def to_jsonl(conversation: Conversation) -> str:
    """The current path as one line: ``{"messages": [{"role": …, "content": …}, …]}``."""
    messages = [{"role": message.role, "content": message.content} for message in conversation.path()]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def to_markdown(conversation: Conversation) -> str:
    """The current path under a heading each; the texts are as they were written."""
    speakers: dict[Role, str] = {"system": _("System"), "user": _("You"), "assistant": "Tanuki"}
    parts = [f"# {conversation.title or _('(untitled)')}"]
    parts.append(f"{conversation.id} · {conversation.created_at.astimezone():%Y-%m-%d %H:%M}")
    if conversation.system is not None:
        parts += [f"## {speakers['system']}", conversation.system]
    for node in conversation.path_nodes():
        parts += [f"## {speakers[node.message.role]}", node.message.content]
        if node.generation is not None and node.generation.finish_reason == "interrupted":
            parts.append(f"*{_('(interrupted)')}*")
    return "\n\n".join(parts) + "\n"


def to_json(conversations: Iterable[Conversation]) -> str:
    """Everything about the conversations; :func:`from_json` gives them back equal."""
    return document_text(map(conversation_to_json, conversations))


def document_text(conversations: Iterable[dict[str, object]]) -> str:
    """The text of a file with the values of :func:`conversation_to_json`."""
    document = {"format": FORMAT_NAME, "version": FORMAT_VERSION, "conversations": list(conversations)}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def conversation_to_json(conversation: Conversation) -> dict[str, object]:
    """Everything about one conversation, as values for JSON."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "kind": conversation.kind,
        "system": conversation.system,
        "settings": to_builtins(conversation.settings),
        "created_at": timestamp(conversation.created_at),
        "tip": conversation.tip,
        "nodes": [_node_to_json(node) for node in conversation.nodes.values()],
    }


def _node_to_json(node: Node) -> dict[str, object]:
    return {
        "id": node.id,
        "parent_id": node.parent_id,
        "role": node.message.role,
        "content": node.message.content,
        "created_at": timestamp(node.created_at),
        "generation": to_builtins(node.generation) if node.generation is not None else None,
    }


def from_json(
    text: str, *, name: str, report: Callable[[str], None] = lambda problem: None
) -> list[Conversation]:
    """Read what :func:`to_json` wrote. ``name`` is the file's, for messages.

    A conversation that cannot be read is left out, and ``report`` is given a sentence about it; one also
    where an option of a conversation was out of its range and is not any more. Raises InputError that names
    the place in the file if none can be read, HistoryError for a later version's file.
    """
    hint = "tanuki history export --all --format json -o history.json"
    try:
        document = Place(json.loads(text))
        if document.get("format").text() != FORMAT_NAME:
            raise ValueError(_("it is not a history of tanuki"))
        if document.get("version").integer() > FORMAT_VERSION:
            raise HistoryError(
                _("{name} was written by a newer version of tanuki.").format(name=name),
                hint=update_hint(),
            )
        places = document.get("conversations").items()
    except (ValueError, RecursionError) as exc:
        raise InputError(
            _("{name} cannot be imported: {reason}").format(name=name, reason=json_fault(exc)), hint=hint
        ) from exc
    conversations: list[Conversation] = []
    problems: list[str] = []
    for place in places:
        try:
            conversations.append(read_conversation(place))
        except (ValueError, RecursionError) as exc:
            problems.append(str(exc))
            continue
        if _out_of_range(place, conversations[-1]):
            report(
                _("{place}: an option out of its range was brought into it.").format(
                    place=f"{place.path}.settings"
                )
            )
    if problems and not conversations:
        raise InputError(
            _("{name} cannot be imported: {reason}").format(name=name, reason=problems[0]), hint=hint
        )
    for problem in problems:
        report(_("A conversation was left out: {reason}").format(reason=problem))
    return conversations


def _out_of_range(place: Place, conversation: Conversation) -> bool:
    """Whether an option was not taken as it stands in the file."""
    settings = place.find("settings")
    sampling = None if settings is None else settings.find("sampling")
    found = sampling.value if sampling is not None and isinstance(sampling.value, dict) else {}
    taken = to_builtins(conversation.settings.sampling)
    return any(
        found[key] != value for key, value in taken.items() if isinstance(found.get(key), (int, float))
    )


def read_conversation(place: Place) -> Conversation:
    """A conversation of :func:`conversation_to_json`. Raises ValueError with the place."""
    conversation = Conversation(
        id=place.get("id").id(),
        title=place.get("title").text(),
        kind=place.maybe("kind", lambda kind: kind.choice(get_args(ConversationKind))),
        system=place.maybe("system", Place.text),
        settings=place.maybe("settings", settings_from_place) or ConversationSettings(),
        created_at=place.get("created_at").time(),
    )
    nodes = [read_node(node) for node in place.get("nodes").items()]
    if len({node.id for node in nodes}) < len(nodes):
        raise ValueError(f"{place.path}.nodes: " + _("an id stands there twice"))
    tip = place.get("tip").optional(Place.id)
    try:
        conversation.restore(nodes, tip=tip)
    except ValueError as exc:
        raise ValueError(f"{place.path}: {exc}") from exc
    return conversation


def read_node(place: Place) -> Node:
    """A message of a conversation in JSON. Raises ValueError with the place."""
    role: Role = place.get("role").choice(get_args(Role))
    return Node(
        id=place.get("id").id(),
        parent_id=place.get("parent_id").optional(Place.id),
        message=Message(role, place.get("content").text()),
        created_at=place.get("created_at").time(),
        generation=place.get("generation").optional(_generation),
    )


def _generation(place: Place) -> Generation:
    reason: FinishReason | None = place.get("finish_reason").optional(
        lambda value: value.choice(get_args(FinishReason))
    )
    return Generation(
        model=place.get("model").text(),
        finish_reason=reason,
        usage=place.maybe("usage", _usage),
        seed=place.maybe("seed", Place.integer),
        tokens_per_s=place.maybe("tokens_per_s", Place.number),
        token_ids=place.maybe("token_ids", _token_ids) or (),
    )


def _token_ids(place: Place) -> tuple[int, ...]:
    return tuple(item.integer() for item in place.items())


def _usage(place: Place) -> Usage:
    return Usage(
        prompt_tokens=place.get("prompt_tokens").integer(),
        completion_tokens=place.get("completion_tokens").integer(),
        cached_tokens=place.get("cached_tokens").integer(),
    )
