"""A row that says what goes on: a sign that turns, and a text that is cut where the window ends."""

from types import TracebackType

import rich.console
import rich.live
import rich.spinner
import rich.text

from tanuki_cli.terminal.live_row import begin_row, end_row


class StatusRow:
    """Shown on ``console``, a terminal, as long as the context manager is entered."""

    def __init__(self, console: rich.console.Console) -> None:
        self._console = console
        self._spinner = rich.spinner.Spinner("dots", style="status.spinner")
        self._text = ""
        self._live = rich.live.Live(
            console=console, transient=True, refresh_per_second=12.5, get_renderable=self._draw
        )

    def __enter__(self) -> "StatusRow":
        begin_row(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_row(self._live)

    def update(self, text: str) -> None:
        """Say ``text``, which is clean, from the next time it is drawn."""
        self._text = text

    def _draw(self) -> rich.text.Text:
        # Not rich's own status: it wraps, and of several rows only the last is found again.
        sign = self._spinner.render(self._console.get_time())
        assert isinstance(sign, rich.text.Text)
        return rich.text.Text.assemble(sign, " ", self._text, no_wrap=True, overflow="ellipsis")
