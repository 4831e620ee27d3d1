"""What was typed ahead goes from the console to a prompt, and what the prompt did not use goes back: a
question between two prompts finds it too, and every line is taken once, in its order."""

from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.keys import Keys

from tanuki_cli.terminal.key_parser import KeyParser, as_typed
from tanuki_cli.terminal.typed_lines import TypedLines


class PromptTyping:
    """Between ``typed`` and the prompts that read ``source``, which is made to understand newer protocols."""

    def __init__(self, typed: TypedLines, source: Input) -> None:
        self._typed = typed
        self._source = source
        self._parser: KeyParser | None = None
        parser = getattr(source, "vt100_parser", None)  # on Windows there is none, and questions find nothing
        if isinstance(parser, Vt100Parser):
            self._parser = KeyParser(parser.feed_key_callback)
            source.vt100_parser = self._parser  # type: ignore[attr-defined]

    def give(self) -> None:
        """Let the next prompt begin with what was typed before it."""
        typed = self._typed.take()
        if self._parser is not None and typed:
            self._parser.feed(typed)
            # Escape is a key by itself only if nothing follows it.
            rest = self._source.read_keys() if self._typed.waits() else self._source.flush_keys()
            store_typeahead(self._source, rest)

    def take_back(self, *, and_read: bool = False) -> bool:
        """Keep what was read behind the input, ``and_read`` what waits to be read; whether that includes
        Ctrl-C, which is left out."""
        waiting = get_typeahead(self._source)
        while and_read and (keys := self._source.read_keys()):
            waiting += keys
        typed = [press for press in waiting if press.key != Keys.ControlC]
        if self._parser is None:
            store_typeahead(self._source, typed)
        else:
            self._typed.keep("".join(map(as_typed, typed)))
            self._typed.keep(self._parser.take_unfinished())
        return len(typed) < len(waiting)
