"""The settings that a conversation keeps, as JSON: in a row, and in an export."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import to_builtins

from tanuki_cli.conversation import ConversationSettings
from tanuki_cli.history.json_place import Place
from tanuki_cli.options import Kind, Value, within_range
from tanuki_cli.sampling import SAMPLING_SPECS, SamplingOptions


def settings_to_json(settings: ConversationSettings) -> str:
    """The settings with every field named."""
    return json.dumps(to_builtins(settings), ensure_ascii=False, sort_keys=True, allow_nan=False)


def settings_from_place(place: Place) -> ConversationSettings:
    """The settings of :func:`settings_to_json`, read and checked. Raises ValueError with the place.

    What is missing, because the text is older than the option, has its default; what is unknown, because it
    is newer, is left out. A number out of its option's range becomes the nearest that is allowed, so that
    every conversation can be gone on with.
    """
    model, sampling = place.find("model"), place.find("sampling")
    return ConversationSettings(
        model="auto" if model is None else model.text(),
        sampling=SamplingOptions() if sampling is None else _sampling_from_place(sampling),
        context_length=place.maybe("context_length", Place.integer),
        persona=place.maybe("persona", Place.text),
    )


def _sampling_from_place(place: Place) -> SamplingOptions:
    values: dict[str, Any] = {}
    for spec in SAMPLING_SPECS:
        found = place.find(spec.key)
        if found is not None and not (found.value is None and spec.default is None):
            values[spec.key] = within_range(spec, _READERS[spec.kind](found))
    return SamplingOptions(**values)


_READERS: Final[Mapping[Kind, Callable[[Place], Value]]] = {
    "text": Place.text,
    "texts": Place.texts,
    "integer": Place.integer,
    "number": Place.number,
    "boolean": Place.boolean,
}
