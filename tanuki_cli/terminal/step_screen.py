"""Steps that take minutes, on stderr: a line for each, written over while it goes on."""

from tanuki_cli.terminal.console import Console
from tanuki_cli.terminal.live_row import BEGIN_ROW, END_ROW, WIPE_ROW
from tanuki_cli.text.sanitize import sanitize
from tanuki_cli.text.width import truncate_cells


class StepScreen:
    """Implements :class:`~tanuki_cli.engines.llama_cpp.building.running.Screen`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_live = console.err_can_move_cursor and not console.quiet

    def tell(self, line: str) -> None:
        """On a line of its own."""
        self._console.note(line)

    def begin(self, title: str) -> None:
        """Its title, where nothing can be written over."""
        if not self._is_live:
            self._console.note(f"{title}…")

    def go_on(self, line: str) -> None:
        """Over the last one, and no longer than the terminal is wide."""
        if self._is_live:
            width = self._console.err.width - 1
            text = truncate_cells(sanitize(line), width, ambiguous=self._console.ambiguous_width)
            self._console.streams.stderr.write(f"{WIPE_ROW}{BEGIN_ROW}{text}{END_ROW}")
            self._console.streams.stderr.flush()

    def end(self) -> None:
        """Leave the last one."""
        if self._is_live:
            self._console.streams.stderr.write("\n")
