"""``tanuki help``: the pages about what ``--help`` is too short for, and the help of a command.

A page is ``docs/<language>/<topic>.md``; its first line is its title. A page that is added there, in both
languages, is listed and completed without further ado.
"""

import difflib
import re
import shutil
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tanuki_cli.cli.context import CommandContext, prepare
from tanuki_cli.cli.options import OutputOptions, takes
from tanuki_cli.errors import InputError
from tanuki_cli.i18n import N_, Language, _, active_language
from tanuki_cli.options import fold
from tanuki_cli.terminal.document import show_document
from tanuki_cli.text.japanese import wrap_text
from tanuki_cli.text.width import cell_width, pad_cells

help_app = typer.Typer(add_completion=False)

_HELP: Final = N_(
    """Read about tanuki: keys, settings, servers, measurements.

Examples:
  tanuki help
  tanuki help chat
  tanuki help settings | head -20
  tanuki help ask

Without a topic, the pages are listed. A topic may also be a command."""
)
DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
_MARK: Final = re.compile(r"<!-- .* -->\n")
"""A line around a table that scripts/make_tables.py writes."""
_LINK: Final = re.compile(r"\[([^\]]+)\]\((\w+)\.md(?:#[^)]*)?\)")
_PAGE_LINK: Final = {"ja": r"\1（`tanuki help \2`）", "en": r"\1 (`tanuki help \2`)"}


def topics(incomplete: str = "") -> list[str]:
    """The pages whose names begin so, sorted. Names in capitals, such as README, are no pages."""
    names = sorted(path.stem for path in (DOCS / "en").glob("*.md") if path.stem.islower())
    return [name for name in names if name.startswith(incomplete.lower())]


def read_page(topic: str, language: Language) -> str:
    """The page ``topic`` as a terminal shows it: a link to another page names the command that shows it."""
    text = (DOCS / language / f"{topic}.md").read_text(encoding="utf-8")
    return _LINK.sub(_PAGE_LINK[language], _MARK.sub("", text))


def page_title(topic: str, language: Language) -> str:
    """What the list says about the page: its first line."""
    with (DOCS / language / f"{topic}.md").open(encoding="utf-8") as page:
        return page.readline().removeprefix("#").strip()


def _complete_topics(incomplete: str) -> list[str]:
    return topics(incomplete)


@help_app.command(help=_HELP)
@takes(OutputOptions)
def help_command(
    ctx: typer.Context,
    options: OutputOptions,
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="[TOPIC]", help=N_("A page of the list, or a command."), autocompletion=_complete_topics
        ),
    ] = None,
) -> None:
    """Show a page, the help of a command, or the list of pages."""
    context = prepare(ctx, options)
    if topic is None:
        _list_pages(context)
        return
    name = fold(topic).lower().removesuffix(".md")
    if name in topics():
        show_document(context.console, context.settings, read_page(name, active_language()))
        return
    root: Any = ctx.find_root()
    if name not in root.command.list_commands(root):
        raise InputError(_("There is no page {topic!r}.").format(topic=topic), hint=_nearest(name))
    command = root.command.get_command(root, name)
    context.console.write(typer.Context(command, info_name=name, parent=root).get_help() + "\n")


def _list_pages(context: CommandContext) -> None:
    language, names = active_language(), topics()
    widest = max(map(cell_width, names))
    lines = [_("Pages, each shown by tanuki help TOPIC:"), ""]
    for name in names:
        head, columns = f"  {pad_cells(name, widest)}  ", shutil.get_terminal_size().columns
        title = page_title(name, language)
        for row in wrap_text(title, columns - widest - 4) if context.console.out_is_terminal else [title]:
            lines.append(head + row)
            head = " " * (widest + 4)
    lines += ["", _("Commands: tanuki --help")]
    context.console.write("".join(f"{line}\n" for line in lines))


def _nearest(name: str) -> str:
    """The page that was probably meant, by its name or by a word of its title; else the list."""
    titles = {topic: page_title(topic, active_language()).lower() for topic in topics()}
    begun = [topic for topic in titles if topic.startswith(name)]
    said = [topic for topic, title in titles.items() if name in title]
    near = [*begun, *said, *difflib.get_close_matches(name, titles, n=1)]
    return f"tanuki help {near[0]}" if name and near else "tanuki help"
