"""``tanuki history``: list, show, search, export, import, title, rm; verify and recover are beside it."""

from pathlib import Path
from typing import Annotated, Final, get_args

import typer

from tanuki_cli.cli import history_output as output
from tanuki_cli.cli.completing import choices_of, conversation_ids
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.conversations import open_history
from tanuki_cli.cli.forgetting import remove_conversations, remove_everything
from tanuki_cli.cli.history_repair import recover, verify
from tanuki_cli.cli.options import OutputOptions, describe_group, read_count, read_option, takes
from tanuki_cli.conversation import Conversation, ConversationKind
from tanuki_cli.errors import HistoryError, InputError, brief
from tanuki_cli.files import os_reason, read_stream
from tanuki_cli.history import HistoryStore
from tanuki_cli.history.transfer import ExportFormat, export_text, format_of, from_json, write_export
from tanuki_cli.i18n import N_, _, plural
from tanuki_cli.options import OptionSpec, fold

_HELP = N_(
    """List, search, export and remove conversations.

Examples:
  tanuki history list
  tanuki history search ガソリン
  tanuki history show 3fa85f
  tanuki chat --resume 3fa85f
  tanuki history export --all -o history.json"""
)
_MAX_IMPORT_BYTES: Final = 1 << 30
_FORMATS: Final[dict[str, ExportFormat]] = {
    "md": "markdown",
    "markdown": "markdown",
    "json": "json",
    "jsonl": "jsonl",
}

_LIMIT: Final = OptionSpec(
    key="limit", kind="integer", minimum=1, maximum=1_000_000, usual=20, help=N_("At most this many.")
)

_KIND: Final = OptionSpec(
    key="kind", choices=get_args(ConversationKind), help=N_("Chats only, or questions of tanuki ask only.")
)

history_app = typer.Typer(add_completion=False, help=_HELP)

Json = Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))]
Limit = Annotated[str, typer.Option("--limit", "-n", metavar="N", help=N_("At most this many."))]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar=_KIND.short_range, help=_KIND.help, autocompletion=choices_of(_KIND)),
]
Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", help=N_("The first digits of a conversation's id."), autocompletion=conversation_ids
    ),
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]...", help=N_("The first digits of their ids."), autocompletion=conversation_ids
    ),
]
Everything = Annotated[bool, typer.Option("--all", help=N_("All conversations."))]
Yes = Annotated[bool, typer.Option("--yes", "-y", help=N_("Do not ask."))]


describe_group(history_app)


@history_app.command("list", help=N_("List the conversations, last talked in first."))
@takes(OutputOptions)
def list_command(
    ctx: typer.Context,
    options: OutputOptions,
    limit: Limit = "20",
    kind: Kind = None,
    as_json: Json = False,
) -> None:
    """List the conversations, last talked in first."""
    context = prepare(ctx, options)
    count = read_count(_LIMIT, limit)
    with open_history(context) as store:
        found, digits = store.list(limit=count + 1, kind=_kind(kind)), store.id_digits()
    if as_json:
        context.console.write_json(output.list_as_json(found[:count]), indent=2)
        return
    if not found:
        context.console.note(_("There are no conversations yet.") if kind is None else _("There are none."))
    output.print_list(context.console, found[:count], digits=digits)
    if len(found) > count:
        context.console.note(_("Only the newest {count}; more with --limit.").format(count=count))
        if kind is None and any(one.is_question for one in found):
            context.console.note(_("Chats only: {command}").format(command="tanuki history list --kind chat"))


@history_app.command("show", help=N_("Print a conversation; without an id, the last one."))
@takes(OutputOptions)
def show_command(
    ctx: typer.Context,
    options: OutputOptions,
    id: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help=N_("The first digits of a conversation's id."),
            autocompletion=conversation_ids,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a conversation; without an id, the last one."""
    context = prepare(ctx, options)
    with open_history(context) as store:
        (conversation,) = _chosen(store, [id] if id else [])
        digits = store.id_digits()
    if as_json:
        context.console.write_json(output.conversation_as_json(conversation), indent=2)
    else:
        output.print_conversation(context.console, conversation, digits=digits)


@history_app.command("search", help=N_("Find messages that contain all the words, on any branch."))
@takes(OutputOptions)
def search_command(
    ctx: typer.Context,
    options: OutputOptions,
    text: Annotated[list[str], typer.Argument(metavar="TEXT", help=N_("Words of one character or more."))],
    limit: Limit = "20",
    as_json: Json = False,
) -> None:
    """Find messages that contain all the words, on any branch."""
    context = prepare(ctx, options)
    count, words = read_count(_LIMIT, limit), " ".join(text)
    if not words.strip():
        raise InputError(_("There is nothing to search for."), hint="tanuki history search たぬき")
    with open_history(context) as store:
        hits, digits = store.search(words, limit=count + 1), store.id_digits()
    if as_json:
        context.console.write_json(output.hits_as_json(hits[:count]), indent=2)
        return
    if not hits:
        context.console.note(_("Nothing was found for {text!r}.").format(text=brief(words)))
    output.print_hits(context.console, hits[:count], digits=digits)
    if len(hits) > count:
        context.console.note(_("Only the newest {count}; more with --limit.").format(count=count))


@history_app.command(
    "export", help=N_("Write conversations as Markdown, JSON or JSONL; without an id, the last one.")
)
@takes(OutputOptions)
def export_command(
    ctx: typer.Context,
    options: OutputOptions,
    ids: Ids = None,
    everything: Everything = False,
    kind: Kind = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="md|json|jsonl", help=N_("By default what the file's name ends with, or md.")),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help=N_("A new file; - is stdout."))
    ] = None,
) -> None:
    """Write conversations as Markdown, JSON or JSONL; without an id, the last one."""
    context = prepare(ctx, options)
    to_stdout = file is None or str(file) == "-"
    chosen, wanted_kind = _format(format, Path() if to_stdout or file is None else file), _kind(kind)
    if wanted_kind is not None and not everything:
        raise InputError(_("--kind needs --all."), hint=f"tanuki history export --all --kind {wanted_kind}")
    with open_history(context) as store:
        wanted = [one.id for one in reversed(store.list(kind=wanted_kind))] if everything else (ids or [])
        conversations = [] if everything and not wanted else _chosen(store, wanted)
    text = export_text(conversations, format=chosen)
    if to_stdout and chosen == "markdown":
        context.console.write_text(text)
    elif to_stdout:
        context.console.write_json_text(text)
    elif file is not None:
        write_export(file, text)
        context.console.note(
            plural(
                len(conversations),
                "Written: {path} ({count} conversation)",
                _("Written: {path} ({count} conversations)"),
            ).format(path=file, count=len(conversations))
        )


@history_app.command("import", help=N_("Add the conversations of a JSON export; what is there stays."))
@takes(OutputOptions)
def import_command(
    ctx: typer.Context,
    options: OutputOptions,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=N_("A JSON export; - is stdin."))],
) -> None:
    """Add the conversations of a JSON export; what is there stays."""
    context = prepare(ctx, options)
    name = _("The standard input") if str(file) == "-" else str(file)
    conversations = from_json(_read(context, file), name=name, report=context.console.warn)
    with open_history(context) as store:
        context.console.note(output.import_sentence(store.add(conversations)))


@history_app.command("title", help=N_("Show a conversation's title, or give it a new one."))
@takes(OutputOptions)
def title_command(
    ctx: typer.Context,
    options: OutputOptions,
    id: Id,
    title: Annotated[list[str] | None, typer.Argument(metavar="TITLE", help=N_("The new title."))] = None,
) -> None:
    """Show a conversation's title, or give it a new one."""
    context = prepare(ctx, options)
    words = " ".join(" ".join(title or []).splitlines()).strip()
    with open_history(context) as store:
        conversation = store.load(id)
        if words:
            store.set_title(conversation.id, words)
    context.console.write_text((words or conversation.title) + "\n")


@history_app.command("rm", help=N_("Remove conversations with all their messages."))
@takes(OutputOptions)
def rm_command(
    ctx: typer.Context,
    options: OutputOptions,
    ids: Ids = None,
    everything: Everything = False,
    yes: Yes = False,
) -> None:
    """Remove conversations with all their messages."""
    context = prepare(ctx, options)
    if ids and everything:
        raise InputError(
            _("{first} and {second} cannot be used together.").format(first="ID", second="--all"),
            hint="tanuki history list",
        )
    if not ids and not everything:
        raise InputError(_("{name} is missing.").format(name="ID"), hint="tanuki history list")
    with open_history(context) as store:
        if everything:
            remove_everything(context, store, yes=yes)
        else:
            remove_conversations(context, store, ids or [], yes=yes)


def _kind(text: str | None) -> ConversationKind | None:
    value = None if text is None else read_option(_KIND, text)
    return next((kind for kind in get_args(ConversationKind) if kind == value), None)


def _chosen(store: HistoryStore, ids: list[str]) -> list[Conversation]:
    """The conversations that ``ids`` begin; the last one if none are given."""
    if ids:
        return [store.load(id_) for id_ in ids]
    latest = store.latest()
    if latest is None:
        raise HistoryError(_("There are no conversations yet."), hint="tanuki chat")
    return [latest]


def _format(name: str | None, file: Path) -> ExportFormat:
    """The format ``name``, else that of ``file``."""
    known = fold(name or "").lower()
    if known in _FORMATS:
        return _FORMATS[known]
    hint = "tanuki history export --format md|json|jsonl"
    if name is not None:
        raise InputError(_("There is no export format {name!r}.").format(name=name), hint=hint)
    try:
        return format_of(file)
    except ValueError as exc:
        raise InputError(str(exc), hint=hint) from exc


def _read(context: CommandContext, file: Path) -> str:
    """The text of an export. Raises InputError that names the file."""
    try:
        if str(file) == "-":
            data = read_stream(context.environment.streams.stdin.buffer, limit=_MAX_IMPORT_BYTES)
        else:
            with file.open("rb") as source:
                data = read_stream(source, limit=_MAX_IMPORT_BYTES)
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = os_reason(exc) if isinstance(exc, OSError) else _("it is not UTF-8")
        raise InputError(
            _("{path} cannot be read: {reason}").format(path=file, reason=reason), hint=f"ls -l {file}"
        ) from exc


history_app.command("verify", help=N_("Check the history, and name what cannot be read."))(verify)
history_app.command("recover", help=N_("Save what can be read of a damaged history; the file is kept."))(
    recover
)
