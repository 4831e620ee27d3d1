"""``--help`` and the parser's own errors in the user's language.

Help texts are English message ids in the code; they are translated when they are shown. The page is
laid out here because Japanese has no spaces to wrap at and its characters are two cells wide, which
neither of typer's formatters takes into account.
"""

from collections.abc import Iterable
from typing import Any, Final

import typer.core

from tanuki_cli.cli.commands import COMMAND_BY_NAME
from tanuki_cli.i18n import N_, _
from tanuki_cli.text.japanese import to_cells, wrap_cells
from tanuki_cli.text.width import cell_width

_PARSER_TEXTS: Final = (
    N_("Show this message and exit."),
    N_("Install completion for the current shell."),
    N_("Show completion for the current shell, to copy it or customize the installation."),
)
_MOST_COLUMNS: Final = 100
_INDENT: Final = "  "
_WIDEST_NAMES: Final = 30


def help_page(command: Any, ctx: Any, *, columns: int) -> str:
    """The help of ``command``: what it does, examples, usage, then arguments, options, commands."""
    width = max(min(columns, _MOST_COLUMNS), 20)
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if getattr(parameter, "hidden", False):
            continue
        is_argument = isinstance(parameter, typer.core.TyperArgument)
        title = getattr(parameter, "rich_help_panel", None) or (
            N_("Arguments") if is_argument else N_("Options")
        )
        help_text = _(parameter.help) if parameter.help else ""
        sections.setdefault(title, []).append((_names(parameter, is_argument=is_argument), help_text))
    titles = set(sections)
    names = command.list_commands(ctx) if hasattr(command, "list_commands") else []
    children = [command.get_command(ctx, name) for name in names]
    for child in children:
        title = getattr(child, "rich_help_panel", None) or N_("Commands")
        sections.setdefault(title, []).append((child.name, _summary(child)))
    lines = [*_paragraphs(_(command.help or ""), width), ""]
    lines.append(_("Usage:") + " " + " ".join(_usage(command, ctx, has_commands=bool(children))))
    first = [title for title in ("Arguments", "Options") if title in sections]
    for title in [*first, *(title for title in sections if title not in first)]:
        of_commands = title not in titles
        lines += ["", f"{_(title)}:", *_table(sections[title], width, names=names if of_commands else ())]
    if command.epilog:
        lines += ["", *_paragraphs(_(command.epilog), width)]
    if row := COMMAND_BY_NAME.get("".join(ctx.command_path.split()[1:2])):
        lines += ["", _("More: {command}").format(command=f"tanuki help {row.page}")]
    return "\n".join(lines) + "\n"


def _usage(command: Any, ctx: Any, *, has_commands: bool) -> list[str]:
    arguments = [
        parameter.metavar or str(parameter.name).upper()
        for parameter in command.get_params(ctx)
        if isinstance(parameter, typer.core.TyperArgument)
    ]
    return [ctx.command_path, _("[OPTIONS]"), *arguments, *([_("COMMAND …")] if has_commands else [])]


def _summary(command: Any) -> str:
    return str(_(command.help or "")).split("\n\n", 1)[0]


def _names(parameter: Any, *, is_argument: bool) -> str:
    if is_argument:
        return str(parameter.metavar or parameter.name)
    names = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=len))
    return names if parameter.is_flag or not parameter.metavar else f"{names} {parameter.metavar}"


def _paragraphs(text: str, width: int) -> Iterable[str]:
    for index, paragraph in enumerate(text.split("\n\n")):
        if index:
            yield ""
        if "\n  " in paragraph:  # examples: their lines are for copying and stay whole
            yield from paragraph.split("\n")
        else:
            yield from _wrap(" ".join(paragraph.split("\n")), width)


def _wrap(text: str, width: int) -> list[str]:
    return ["".join(cell.text for cell in row) for row in wrap_cells(to_cells(text), width)]


def _table(rows: list[tuple[str, str]], width: int, *, names: Iterable[str] = ()) -> Iterable[str]:
    """Two columns, the first wide enough for ``names``, too, which stand in other tables; a name too wide
    for it stands on a line of its own."""
    first_column = [*names, *(name for name, _text in rows)]
    widest = min(max(map(cell_width, first_column)), _WIDEST_NAMES, width // 2)
    start = len(_INDENT) + widest + 2
    for name, text in rows:
        wrapped = _wrap(text, width - start)
        if cell_width(name) > widest:
            yield f"{_INDENT}{name}"
        else:
            padding = " " * (widest + 2 - cell_width(name))
            yield f"{_INDENT}{name}{padding}{wrapped.pop(0)}".rstrip()
        yield from (" " * start + line for line in wrapped)
