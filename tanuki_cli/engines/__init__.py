"""Where text becomes tokens and back."""

from tanuki_cli.catalog import LocalModel, RemoteModel, Target
from tanuki_cli.engines.base import Engine
from tanuki_cli.engines.local import LocalEngine
from tanuki_cli.settings import Settings
from tanuki_cli.tokenizer import ChatTokenizer, verify_tokenizer

__all__ = ["open_engine"]


def open_engine(target: Target, settings: Settings, *, debug: bool = False) -> Engine:
    """Load ``target`` on the engine for its format. Backends are imported only here, when used.

    ``debug`` lets the backend's own log through. Raises EngineError or RemoteError.
    """
    if isinstance(target, RemoteModel):
        return _open_remote(target, settings)
    if target.format == "gguf":
        return _open_gguf(target, settings, debug=debug)
    return _open_checkpoint(target, settings, debug=debug)
