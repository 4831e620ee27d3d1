"""The conversations of all chats, in one SQLite file.

``transfer`` writes and reads exports, ``recovery`` reads what is left of a damaged file: imported for that.
"""

from tanuki_cli.history.database import set_aside_files
from tanuki_cli.history.listing import ConversationSummary
from tanuki_cli.history.lookup import MAX_NUMBER, AmbiguousIdError, UnknownConversationError
from tanuki_cli.history.search import SearchHit, excerpt
from tanuki_cli.history.store import HistoryStore
from tanuki_cli.history.titles import title_from

__all__ = [
    "MAX_NUMBER",
    "AmbiguousIdError",
    "ConversationSummary",
    "HistoryStore",
    "SearchHit",
    "UnknownConversationError",
    "excerpt",
    "set_aside_files",
    "title_from",
]
