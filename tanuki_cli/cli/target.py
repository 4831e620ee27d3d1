"""From a model reference to a loaded engine."""

import time

from tanuki_cli.catalog import LocalModel
from tanuki_cli.cli.context import CommandContext
from tanuki_cli.engines import open_engine
from tanuki_cli.practice import practice_model
from tanuki_cli.session import OpenedModel


def open_model(context: CommandContext, *, assume_yes: bool, reference: str | None = None) -> OpenedModel:
    """Find, if need be download, and load the model ``reference`` (default: the settings')."""
    name = reference or context.settings.model
    started = time.monotonic()
    target = practice_model()
    engine = open_engine(target, context.settings, debug=context.debug)
    return OpenedModel(
        engine=engine,
        reference=name,
        load_s=time.monotonic() - started,
        practice=isinstance(target, LocalModel) and target.practice,
    )
