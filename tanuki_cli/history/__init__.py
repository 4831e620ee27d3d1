"""The conversations of all chats, in one SQLite file.

``recovery`` reads what is left of a damaged one; it is imported only for that.
"""

from tanuki_cli.history.database import set_aside_files
from tanuki_cli.history.listing import ConversationSummary
from tanuki_cli.history.merging import ImportReport
from tanuki_cli.history.search import SearchHit, excerpt
from tanuki_cli.history.store import (
    AmbiguousIdError,
    HistoryStore,
    UnknownConversationError,
)
from tanuki_cli.history.transfer import (
    ExportFormat,
    conversation_to_json,
    export_text,
    format_of,
    from_json,
    write_export,
)

__all__ = [
    "AmbiguousIdError",
    "ConversationSummary",
    "ExportFormat",
    "HistoryStore",
    "ImportReport",
    "SearchHit",
    "UnknownConversationError",
    "conversation_to_json",
    "excerpt",
    "export_text",
    "format_of",
    "from_json",
    "set_aside_files",
    "write_export",
]
