"""Options and arguments as they were typed, without typer's conversion.

Typer has pydantic convert flags, texts and paths, whose import is a third of all the time before a model
is loaded. Numbers are texts here anyway: :mod:`tanuki_cli.settings.specs` reads them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final


class AsTyped:
    """The values of a parameter, in place of typer's own conversion.

    Where typer does not know this hook (any more), it converts them itself, and nothing else changes.
    """

    def __init__(self, convert: Callable[[str], Any]) -> None:
        self._convert = convert

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """The converted value, or a tuple of them for what can be given repeatedly."""
        if param.nargs == -1 or getattr(param, "multiple", False):
            return tuple(self._convert(item) for item in value or ())
        return None if value is None else self._convert(value)


_CONVERSIONS: Final[Mapping[Any, Callable[[str], Any]]] = {
    bool: bool,
    str: str,
    list[str]: str,
    Path: Path,
    list[Path]: Path,
}


def parse_as_typed(command: Any, ctx: Any, args: list[str]) -> Any:
    """Parse ``args`` as typer does, but take flags, texts and paths as they were typed."""
    for param in command.get_params(ctx):
        descriptor = getattr(param, "type_descriptor", None)
        convert = _CONVERSIONS.get(getattr(descriptor, "annotation", None))
        if convert is not None:
            param._runtime_param = AsTyped(convert)
    return type(command).parse_args(command, ctx, args)
