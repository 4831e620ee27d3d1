"""The texts that models are compared on: built in, the user's own files, or the user's own history.

A folder's files belong to the category that their subfolder names. A ``.jsonl`` file holds one object a
line: ``{"messages": [...]}`` is a chat, of which the answers are scored, ``{"text": "..."}`` a document.
Everything else is a document.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, cast, get_args

from msgspec import Struct

from tanuki_cli.conversation import Conversation, Message, Role
from tanuki_cli.errors import InputError
from tanuki_cli.files import real_path
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import LeftOut, read_lines
from tanuki_cli.prompt import segments, with_persona
from tanuki_cli.text.decoding import read_text_file

BUILT_IN: Final = Path(__file__).parent / "texts"
HISTORY: Final = "history"


class Document(Struct, frozen=True):
    """A text as it is, scored from its first token to its last."""

    category: str
    name: str
    text: str


class Chat(Struct, frozen=True):
    """Turns that end with an answer; only the answers are scored."""

    category: str
    name: str
    messages: tuple[Message, ...]


Text = Document | Chat


def read_texts(path: Path) -> list[Text | LeftOut]:
    """The texts of a file, or of all files of a folder by name; hidden ones are left alone.

    Raises InputError for a file that cannot be read or is no text, and where there is nothing.
    """
    files = sorted(_files(path)) if path.is_dir() else [path]
    found = [text for file in files for text in _read(file, _category(file, path))]
    if not any(not isinstance(text, LeftOut) for text in found):
        raise InputError(
            _("There is no text in {path}.").format(path=path),
            hint=_("Give a text file, a folder of them, or .jsonl with messages: --text FILE"),
        )
    return found


def built_in_texts() -> list[Text]:
    """Those written for this: Japanese prose, chats in Tanuki's format, code, English."""
    return [text for text in read_texts(BUILT_IN) if not isinstance(text, LeftOut)]


def conversation_texts(conversations: Iterable[Conversation]) -> list[Text]:
    """The chats of a history, each along its path as far as it was answered."""
    found = []
    for conversation in conversations:
        messages = with_persona(conversation.path(), conversation.settings.persona)
        while messages and messages[-1].role != "assistant":
            messages.pop()
        if _takes_turns(messages):
            found.append(Chat(HISTORY, conversation.id, tuple(messages)))
    return list(found)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _category(file: Path, root: Path) -> str:
    """The first folder below ``root``, or else the name of what was given."""
    parts = file.relative_to(root).parts if file != root else ()
    return parts[0] if len(parts) > 1 else real_path(root).stem


def _read(file: Path, category: str) -> Iterator[Text | LeftOut]:
    if file.suffix == ".jsonl":
        for line, entry in read_lines(file):
            yield entry if isinstance(entry, LeftOut) else _from_object(entry, file, line, category)
    elif text := read_text_file(file).strip("\n"):
        yield Document(category, file.name, text)


def _from_object(entry: Any, file: Path, line: int, category: str) -> Text | LeftOut:
    name = f"{file.name}:{line}"
    text, messages = entry.get("text"), entry.get("messages")
    if isinstance(text, str) and text.strip():
        return Document(category, name, text)
    if not isinstance(messages, list):
        return LeftOut(path=file, line=line, reason=_("it has neither messages nor a text"))
    turns = [_message(message) for message in messages]
    if any(turn is None for turn in turns):
        return LeftOut(path=file, line=line, reason=_("a message has no role and text that are known"))
    chat = [turn for turn in turns if turn is not None]
    if not _takes_turns(chat):
        return LeftOut(path=file, line=line, reason=_("user and assistant do not take turns up to an answer"))
    return Chat(category, name, tuple(chat))


def _message(entry: object) -> Message | None:
    role, content = (entry.get(key) for key in ("role", "content")) if isinstance(entry, dict) else ("", "")
    if role not in get_args(Role) or not isinstance(content, str):
        return None
    return Message(cast("Role", role), content)


def _takes_turns(messages: list[Message]) -> bool:
    try:
        segments(messages)
    except InputError:
        return False
    return bool(messages) and messages[-1].role == "assistant"
