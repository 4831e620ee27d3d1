"""The messages of a request as Tanuki knows conversations. Nothing is dropped: it is mapped, or refused.

- ``developer`` is ``system``. System messages before the first turn are joined by a blank line, later ones
  are refused: Tanuki has one system prompt, at its beginning.
- Messages of one role in a row are joined by a blank line.
- ``tool``, ``function`` and calls of tools are refused, as is a content that is no text.
- The user begins. A last message of the assistant's is one that goes on, as llama-server and Ollama have it:
  that is what Open WebUI sends to continue an answer. ``continue_final_message`` says it, or forbids it.
- A line that imitates a heading of the prompt (``### 指示:``) gets a backslash: no content opens a turn.
"""

from typing import Final, cast

from msgspec import Struct

from tanuki_cli.conversation import Message, Role
from tanuki_cli.i18n import N_
from tanuki_cli.prompt import guard_markers
from tanuki_cli.protocol.fields import Fields, RequestError, as_text

MAX_MESSAGES: Final = 10_000
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Turns(Struct, frozen=True, kw_only=True):
    """What is to be answered: ``messages``, the last of them the user's, and how the answer ``begun``.

    ``guarded`` counts the lines that got a backslash.
    """

    messages: tuple[Message, ...]
    begun: str = ""
    guarded: int = 0


def read_turns(request: Fields, *, goes_on: bool) -> Turns:
    """The turns of ``messages``; ``goes_on`` is whether an answer at their end does where they do not say.

    Raises RequestError that names the message.
    """
    found = request.items("messages", most=MAX_MESSAGES)
    if not found:
        raise RequestError("messages", N_("'{name}' must be a list of at least one message."))
    joined: list[Message] = []
    guarded = 0
    for index, value in enumerate(found):
        path = f"messages[{index}]"
        if not isinstance(value, dict):
            raise RequestError(path, N_("'{name}' must be an object."))
        message, changed = _message(Fields(value, f"{path}."), path)
        guarded += changed
        _join(joined, message, path)
    begun = ""
    if joined[-1].role == "assistant":
        begun = joined.pop().content
        if not request.flag("continue_final_message", default=goes_on):
            raise RequestError(
                f"messages[{len(found) - 1}]",
                N_("The last message is the assistant's. To let it go on, set 'continue_final_message'."),
            )
    elif request.flag("continue_final_message"):
        raise RequestError("continue_final_message", N_("'{name}' needs a last message to go on with."))
    if not joined or joined[-1].role == "system":
        raise RequestError("messages", N_("'{name}' has no message of the user's to answer."))
    return Turns(messages=tuple(joined), begun=begun, guarded=guarded)


def _message(fields: Fields, path: str) -> tuple[Message, int]:
    role = fields.text("role")
    if role in ("tool", "function") or fields.raw("tool_calls") or fields.raw("function_call"):
        raise RequestError(
            path, N_("'{name}': Tanuki knows no tools, so their calls and results are not taken.")
        )
    if role not in _ROLES:
        raise RequestError(
            f"{path}.role",
            N_("'{name}' must be one of: system, developer, user, assistant; not '{role}'."),
            {"role": role},
        )
    content, changed = guard_markers(_content(fields, path))
    return Message(cast("Role", _ROLES[role]), content), changed


def _content(fields: Fields, path: str) -> str:
    """A text, or the texts of a list of parts."""
    value = fields.raw("content")
    if not isinstance(value, list):
        return as_text(value, f"{path}.content")
    texts = []
    for index, part in enumerate(value):
        name = f"{path}.content[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "input_text"):
            raise RequestError(name, N_("'{name}' must be a part of type 'text': Tanuki reads text only."))
        texts.append(as_text(part.get("text"), f"{name}.text"))
    return "".join(texts)


def _join(joined: list[Message], message: Message, path: str) -> None:
    last = joined[-1].role if joined else "system"
    if joined and last == message.role:
        joined[-1] = Message(last, f"{joined[-1].content}\n\n{message.content}")
        return
    if message.role == "system" and joined:
        raise RequestError(path, N_("'{name}': a system message is taken before the first turn only."))
    if message.role == "assistant" and last == "system":
        raise RequestError(path, N_("'{name}': the first turn must be the user's."))
    joined.append(message)
