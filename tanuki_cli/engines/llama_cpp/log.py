"""llama.cpp's log, which is its only explanation when something fails, and the start of its backends."""

from collections.abc import Callable
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.bindings import native
from tanuki_cli.engines.llama_cpp.llama_h import Kernels

_LOG_WARN, _LOG_ERROR, _LOG_CONTINUE = 3, 4, 5
_MAX_ERRORS: Final = 8


class Log:
    """llama.cpp's log: kept off the terminal; the errors stay for a message to the user."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.interrupt: KeyboardInterrupt | None = None
        self._level = 0
        self._debug = False
        self._callback = native.llama_log_callback(self._receive)
        self._initialized = False
        self._others: list[Any] = []  # callbacks, kept alive

    def install(self, *, debug: bool) -> None:
        """Take the log over (before anything native runs), and start the backends once."""
        self._debug = debug
        if not self._initialized:
            native.llama_log_set(self._callback, None)
            native.llama_backend_init()
            self._initialized = True
            self.raise_interrupt()

    def take_over(self, other: Kernels) -> None:
        """Start another library, which logs here, too."""
        self._others.append(other.llama_log_callback(self._receive))
        other.llama_log_set(self._others[-1], None)
        other.llama_backend_init()

    def debug(self, line: str) -> None:
        """Pass on a line of our own, where the log is passed on."""
        if self._debug:
            import logging  # for those who have asked for it

            logging.getLogger("tanuki_cli.llama_cpp").debug("%s", line)

    def raise_interrupt(self) -> None:
        """Raise the KeyboardInterrupt that came up while native code ran, if one did: after what may be
        given up half-way. Elsewhere it waits."""
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            raise interrupt

    def _receive(self, level: int, text: bytes, _user_data: int) -> None:
        # While llama.cpp works, Ctrl-C comes up here, where it could only be printed.
        try:
            self._note(level, text)
        except KeyboardInterrupt as exc:
            self.interrupt = exc

    def goes_on(self, should_stop: Callable[[], bool]) -> bool:
        """For llama.cpp's progress callback: False ends the loading of a model."""
        try:
            return self.interrupt is None and not should_stop()
        except KeyboardInterrupt as exc:
            self.interrupt = exc
            return False

    def _note(self, level: int, text: bytes) -> None:
        self._level = self._level if level == _LOG_CONTINUE else level
        if self._level < _LOG_WARN and not self._debug:
            return
        line = text.decode("utf-8", errors="replace").strip()
        if self._level == _LOG_ERROR and line and len(self.errors) < _MAX_ERRORS:
            self.errors.append(line)
        self.debug(line)


log: Final = Log()


def start(*, debug: bool) -> None:
    """Load the backends, silently; with ``debug`` the log goes to the logger of this package.

    Must come before everything else here; may be called again.
    """
    log.install(debug=debug)
