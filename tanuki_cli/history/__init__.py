"""The conversations of all chats, in one SQLite file."""

from tanuki_cli.history.search import SearchHit, excerpt
from tanuki_cli.history.store import AmbiguousIdError, ConversationSummary, HistoryStore

__all__ = ["AmbiguousIdError", "ConversationSummary", "HistoryStore", "SearchHit", "excerpt"]
