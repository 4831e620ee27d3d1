"""The engine's own log, which ``--debug`` shows."""

import logging

from tanuki_cli.terminal.console import Console


class _Shown(logging.Handler):
    """Writes what is logged to stderr, sanitised."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.debug(f"{record.getMessage()}\n")


def show_log(console: Console) -> None:
    """Show on ``console``, and nowhere else, what this program's loggers are told from now on."""
    logger = logging.getLogger("tanuki_cli")
    logger.handlers[:] = [_Shown(console)]
    logger.setLevel(logging.DEBUG)
