"""Downloading a model, and saying what came of it."""

from tanuki_cli.catalog import Downloadable
from tanuki_cli.hub import Hub, InstalledModel, Progress
from tanuki_cli.i18n import _
from tanuki_cli.loading.asker import Asker
from tanuki_cli.machine.hardware import format_bytes


def fetch(
    hub: Hub, reference: Downloadable, asker: Asker, *, revision: str | None = None, verify: bool = False
) -> InstalledModel:
    """Pull ``reference``, with the progress shown by ``asker``. Raises as :meth:`Hub.pull`."""
    before = hub.locate(reference)
    worked = False
    with asker.progress() as show:

        def update(progress: Progress) -> None:
            nonlocal worked
            worked = True
            show(progress)

        installed = hub.pull(reference, revision=revision, verify=verify, on_progress=update)
    facts = {
        "name": reference.name,
        "size": format_bytes(installed.size),
        "revision": installed.commit[:7],
    }
    if before is not None and before.path == installed.model.path and not worked:
        asker.note(_("{name} is whole: {size}, revision {revision}.").format(**facts))
    else:
        asker.note(_("{name} is ready: {size}, revision {revision}.").format(**facts), kind="success")
    return installed
