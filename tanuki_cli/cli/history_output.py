"""How ``tanuki history`` prints: lists in cells, messages with their branches, highlights."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import rich.text

from tanuki_cli.conversation import Conversation, Node
from tanuki_cli.history import MAX_NUMBER, ConversationSummary, SearchHit, excerpt
from tanuki_cli.history.merging import ImportReport
from tanuki_cli.history.transfer import conversation_to_json
from tanuki_cli.i18n import _, plural
from tanuki_cli.terminal.console import Console
from tanuki_cli.text.sanitize import sanitize, sanitize_line
from tanuki_cli.text.width import cell_width, truncate_cells

_EXCERPT_CHARACTERS: Final = 120
_LEAST_CELLS: Final = 5
_LEAST_TITLE: Final = 12
_HIGHLIGHT: Final = "found"


def local_time(time: datetime) -> str:
    """``time`` as the clock on the wall shows it; in its own zone at the ends of the calendar."""
    with suppress(OverflowError, ValueError, OSError):  # year 1 or 9999
        time = time.astimezone()
    return f"{time.isoformat(' ', 'minutes'):.16}"


def print_list(console: Console, summaries: Sequence[ConversationSummary], *, digits: int) -> None:
    """One line each: id, time, number of messages, kind, title.

    On a terminal they are numbered and cut to its width, and the newest is the last: the old scroll away.
    There the questions stand under a heading of their own before the chats.
    """
    widest = max((len(str(one.messages)) for one in summaries), default=0)
    if not console.out_is_terminal:
        kinds = {False: _("chat"), True: _("question")}
        longest = max(map(cell_width, kinds.values()))
        for one in summaries:
            kind = kinds[one.is_question]
            facts = f"{_facts(one, widest)}  {kind}{' ' * (longest - cell_width(kind))}"
            _print(console, rich.text.Text(f"{one.id[:digits]}{facts}  {_title(one.title)}"))
        return
    questions, chats = ([one for one in summaries if one.is_question is is_one] for is_one in (True, False))
    places = max((len(_number(one)) for one in summaries), default=0)
    for heading, group in ((_("Questions (tanuki ask)"), questions), (_("Chats (tanuki chat)"), chats)):
        if questions and group:  # chats alone need no heading
            _print(console, rich.text.Text(heading, style="bold"))
        for one in reversed(group):
            line = rich.text.Text(f"{_number(one):>{places}}  ").append(one.id[:digits], style="hint")
            facts = f"{_facts(one, widest)}  "
            if console.out.width - cell_width(line.plain + facts) < _LEAST_TITLE:
                facts = f"  {local_time(one.updated_at)}  "  # the title says more than the count
            line.append(facts, style="note")
            line.append(_fitted(console, _title(one.title), used=cell_width(line.plain)))
            _print(console, line)


def _facts(one: ConversationSummary, widest: int) -> str:
    count = plural(one.messages, "{count} message ", _("{count} messages")).format(
        count=str(one.messages).rjust(widest)
    )
    return f"  {local_time(one.updated_at)}  {count}"


def _number(one: ConversationSummary) -> str:
    """What can be typed instead of the id; nothing where that has as many digits as an id."""
    return str(one.number) if one.number <= MAX_NUMBER else ""


def print_conversation(console: Console, conversation: Conversation, *, digits: int) -> None:
    """The path to the tip; a message with alternatives says which of them it is."""
    _print(console, rich.text.Text(_title(conversation.title), style="bold"))
    facts = [conversation.id[:digits], local_time(conversation.created_at), conversation.settings.model]
    left_out = len(conversation.nodes) - len(conversation.path_nodes())
    if left_out:
        facts.append(_("{count} more on other branches").format(count=left_out))
    _print(console, rich.text.Text(" · ".join(map(sanitize_line, facts)), style="note"))
    if conversation.system is not None:
        _print_message(console, _("System"), "", conversation.system)
    for node in conversation.path_nodes():
        _print_message(console, _speaker(node), _remarks(conversation, node), node.message.content)


def print_hits(console: Console, hits: Iterable[SearchHit], *, digits: int) -> None:
    """Two lines each: where and when, then the words around the place found."""
    for hit in hits:
        head = rich.text.Text().append(hit.conversation_id[:digits], style="hint")
        place = "" if hit.on_path else f"  {_('[other branch]')}"
        speaker = _("You") if hit.role == "user" else "Tanuki"
        head.append(f"  {local_time(hit.created_at)}  {speaker}{place}  ", style="note")
        head.append(
            _fitted(console, _title(hit.conversation_title), used=cell_width(head.plain)), style="bold"
        )
        _print(console, head)
        _print(console, rich.text.Text("  ").append_text(_highlighted(hit)))


def import_sentence(report: ImportReport) -> str:
    """What an import did."""
    text = _(
        "Conversations added: {added}; continued: {extended}; already there: {unchanged}; "
        "copied under a new id: {copied}; messages written: {messages}."
    )
    return text.format(
        added=report.added,
        extended=report.extended,
        unchanged=report.unchanged,
        copied=report.copied,
        messages=report.messages,
    )


def list_as_json(summaries: Iterable[ConversationSummary]) -> dict[str, object]:
    """``{"conversations": [{"id", "title", "kind", "created_at", "updated_at", "messages", "model"}]}``.

    ``kind`` is "chat" or "question"; null for one from before that was kept.
    """
    return {
        "conversations": [
            {
                "id": one.id,
                "title": one.title,
                "kind": one.kind,
                "created_at": one.created_at.isoformat(),
                "updated_at": one.updated_at.isoformat(),
                "messages": one.messages,
                "model": one.model,
            }
            for one in summaries
        ]
    }


def conversation_as_json(conversation: Conversation) -> dict[str, object]:
    """The conversation as it is exported, and under ``path`` the ids from the first message to the tip."""
    path = [node.id for node in conversation.path_nodes()]
    return {**conversation_to_json(conversation), "path": path}


def hits_as_json(hits: Iterable[SearchHit]) -> dict[str, object]:
    """``{"hits": […]}``; highlights are ``[start, end]`` in characters of ``content``."""
    return {
        "hits": [
            {
                "conversation_id": hit.conversation_id,
                "title": hit.conversation_title,
                "message_id": hit.node_id,
                "role": hit.role,
                "created_at": hit.created_at.isoformat(),
                "content": hit.content,
                "highlights": [list(place) for place in hit.highlights],
                "on_path": hit.on_path,
            }
            for hit in hits
        ]
    }


def _print(console: Console, line: rich.text.Text) -> None:
    if console.out_is_terminal or console.out_has_color:
        console.out.print(line, soft_wrap=True)
    else:  # rich takes half a millisecond a line, and spaces for tabs
        console.write(f"{line.plain}\n")


def _print_message(console: Console, speaker: str, remarks: str, content: str) -> None:
    head = rich.text.Text("\n").append(sanitize_line(speaker), style="hint")
    _print(console, head.append(f"  {remarks}" if remarks else "", style="note"))
    _print(console, rich.text.Text(sanitize(content.rstrip("\n"))))


def _speaker(node: Node) -> str:
    if node.message.role == "user":
        return _("You")
    return node.generation.model if node.generation is not None else "Tanuki"


def _remarks(conversation: Conversation, node: Node) -> str:
    """When it was written, which of its siblings it is, and whether it broke off."""
    remarks = [local_time(node.created_at)]
    siblings = conversation.siblings(node.id)
    if len(siblings) > 1:
        position = [sibling.id for sibling in siblings].index(node.id) + 1
        remarks.append(f"[{position}/{len(siblings)}]")
    if node.generation is not None and node.generation.finish_reason is None:
        remarks.append(_("(being written)"))
    elif node.generation is not None and node.generation.finish_reason == "interrupted":
        remarks.append(_("(interrupted)"))
    return "  ".join(remarks)


def _title(title: str) -> str:
    return sanitize_line(title) or _("(untitled)")


def _fitted(console: Console, text: str, *, used: int) -> str:
    """``text`` cut to what is left of a terminal's line after ``used`` cells; next to nothing is left out."""
    if not console.out_is_terminal:
        return text
    room = console.out.width - used
    return truncate_cells(text, room) if room >= _LEAST_CELLS else ""


def _highlighted(hit: SearchHit) -> rich.text.Text:
    text, places = excerpt(hit, length=_EXCERPT_CHARACTERS)
    line, done = rich.text.Text(), 0
    for start, end in places:
        line.append(sanitize_line(text[done:start])).append(sanitize_line(text[start:end]), style=_HIGHLIGHT)
        done = end
    return line.append(sanitize_line(text[done:]))
