"""``tanuki persona``: texts by name that go before every question."""

from pathlib import Path
from typing import Annotated

import typer

from tanuki_cli.cli.completing import persona_names
from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.options import OutputOptions, describe_group, takes
from tanuki_cli.errors import InputError, TanukiError
from tanuki_cli.i18n import N_, _
from tanuki_cli.options import fold
from tanuki_cli.settings.personas import Persona, PersonaStore
from tanuki_cli.text.decoding import argument_text, decode_text, read_prompt, read_text_file
from tanuki_cli.text.sanitize import sanitize_line
from tanuki_cli.text.width import cell_width, pad_cells, truncate_cells

persona_app = typer.Typer(
    add_completion=False,
    help=N_(
        """Keep texts that go before every question.

Examples:
  tanuki persona list
  tanuki persona save 先生 小学生にもわかる言葉で、例を一つ挙げて答えてください。
  tanuki persona save 先生 --file 先生.txt --force
  tanuki ask --persona 先生 雷はなぜ光るのですか
  tanuki ask --persona 要約 -f 議事録.txt

Tanuki was trained with its own system prompt only: a role works better inside the question, where a persona
puts it. In a chat: /persona NAME. The three that come with tanuki were tried with the practice model only."""
    ),
)

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help=N_("The name of a persona."), autocompletion=persona_names),
]

describe_group(persona_app)


@persona_app.command("save", help=N_("Keep a text under a name."))
@takes(OutputOptions)
def save_command(
    ctx: typer.Context,
    options: OutputOptions,
    name: Name,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help=N_("The text; - reads it from stdin."))
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="PATH", help=N_("Read the text from a file."))
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=N_("Replace a text that is there."))] = False,
) -> None:
    """Keep a text under a name."""
    context = prepare(ctx, options)
    saved = _store(context).save(name, _text(context, words or [], file), replace=force)
    context.console.note(
        _("Saved: tanuki ask --persona {name} …, or /persona {name} in a chat.").format(name=saved.name)
    )


@persona_app.command("list", help=N_("List the names and how their texts begin."))
@takes(OutputOptions)
def list_command(
    ctx: typer.Context,
    options: OutputOptions,
    as_json: Annotated[bool, typer.Option("--json", help=N_("Print one JSON object."))] = False,
) -> None:
    """List the names and how their texts begin; a text that cannot be read does not hide the others."""
    context = prepare(ctx, options)
    store, console = _store(context), context.console
    found: list[Persona] = []
    for name in store.names():
        try:
            found.append(store.find(name))
        except TanukiError as error:
            console.warn(error.message)
    if as_json:
        rows = [{"name": one.name, "text": one.text, "built_in": one.built_in} for one in found]
        console.write_json({"personas": rows}, indent=2)
        return
    width = max((cell_width(one.name) for one in found), default=0)
    for one in found:
        line = sanitize_line(one.text)
        if not console.out_is_terminal:
            console.write(f"{one.name}\t{line}\n")
            continue
        mark = "" if one.built_in else "*"
        room = max(console.out.width - width - 6, 8)
        console.write(f"{mark:1} {pad_cells(one.name, width)}  {truncate_cells(line, room)}\n")
    if console.out_is_terminal:
        console.note(
            _("* is yours; the others come with tanuki, and were tried with the practice model only.")
        )


@persona_app.command("show", help=N_("Print the text of a persona."))
@takes(OutputOptions)
def show_command(ctx: typer.Context, options: OutputOptions, name: Name) -> None:
    """Print the text of a persona."""
    context = prepare(ctx, options)
    text = _store(context).find(name).text
    context.console.write_text(text + "\n")


@persona_app.command("rm", help=N_("Remove a persona that you saved."))
@takes(OutputOptions)
def rm_command(ctx: typer.Context, options: OutputOptions, name: Name) -> None:
    """Remove a persona of the user's; conversations that have it keep its text."""
    context = prepare(ctx, options)
    built_in = _store(context).remove(name)
    if built_in is None:
        context.console.note(_("Removed. Conversations that have it keep its text."))
    else:
        context.console.note(_("Removed: “{name}” is the built-in one again.").format(name=built_in.name))


def _store(context: CommandContext) -> PersonaStore:
    return PersonaStore(context.directories.personas)


def _text(context: CommandContext, words: list[str], file: Path | None) -> str:
    """The text that is to be kept: words, a file, or what is piped in. Raises InputError if there is none."""
    stdin = context.environment.streams.stdin
    if file is not None:
        if words:
            raise InputError(
                _("A text and --file cannot be used together."), hint="tanuki persona save NAME --file PATH"
            )
        return read_text_file(file)
    if [fold(word) for word in words] != ["-"] and (words or stdin.isatty()):
        if not words:
            raise InputError(_("There is no text to save."), hint="tanuki persona save NAME TEXT")
        return " ".join(map(argument_text, words))
    name = _("The standard input")
    return decode_text(read_prompt(stdin.buffer, name=name), name=name)
