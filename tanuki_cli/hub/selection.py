"""Which files of a repository make up a model."""

import difflib
from collections.abc import Sequence
from typing import Final

from tanuki_cli.catalog import Downloadable, HubReference, part_names, whole_models
from tanuki_cli.errors import ModelError, brief
from tanuki_cli.hub.files import HubFile
from tanuki_cli.hub.local import TOKENIZER
from tanuki_cli.i18n import _

_WEIGHTS: Final = ".safetensors"
_SHOWN: Final = 3


def select_files(reference: Downloadable, listing: Sequence[HubFile]) -> list[HubFile]:
    """The files of ``reference`` among those of its repository, small ones first, without a tokenizer.

    A GGUF is one file, or all the parts of one that was split. A checkpoint is its safetensors and its
    JSON files: no pickles, which could do anything when loaded. Code comes only with a model that cannot
    do without; see :mod:`tanuki_cli.hub.code`. Raises ModelError if there is no such model.
    """
    if reference.filename is not None:
        return [_named(name, reference, listing) for name in part_names(reference.filename)]
    top = [file for file in listing if "/" not in file.path]
    if any(file.path.endswith(_WEIGHTS) for file in top):
        chosen = [file for file in top if file.path.endswith((_WEIGHTS, ".json")) and file.path != TOKENIZER]
        return sorted(chosen, key=lambda file: (file.path.endswith(_WEIGHTS), file.path))
    models = whole_models(file.path for file in listing)
    if len(models) == 1:
        return [_named(name, reference, listing) for name in models[0]]
    if models:
        names = ", ".join(brief(parts[0]) for parts in models[:_SHOWN])
        raise ModelError(
            _("{repository} holds {count} GGUF files; name one: {names} …").format(
                repository=reference.repository, count=len(models), names=names
            ),
            hint=f"tanuki pull hf:{reference.repository}/{models[0][0]}",
        )
    raise ModelError(
        _("{repository} holds neither safetensors nor a GGUF file.").format(repository=reference.repository),
        hint=_("Pickles (*.bin, *.pt) are not loaded, because they can run any code."),
    )


def own_tokenizer(reference: Downloadable, listing: Sequence[HubFile]) -> HubFile | None:
    """The tokenizer.json of a repository outside the catalog; inside it the reference one is the right one.

    Raises ModelError for a checkpoint without any.
    """
    if not isinstance(reference, HubReference):
        return None
    found = next((file for file in listing if file.path == TOKENIZER), None)
    if found is None and any(file.path.endswith(_WEIGHTS) for file in select_files(reference, listing)):
        raise ModelError(
            _("{repository} has no tokenizer.json.").format(repository=reference.repository),
            hint=_("All names: tanuki models"),
        )
    return found


def _named(filename: str, reference: Downloadable, listing: Sequence[HubFile]) -> HubFile:
    for file in listing:
        if file.path == filename:
            return file
    near = difflib.get_close_matches(filename, [file.path for file in listing], n=1)
    raise ModelError(
        _("{repository} has no file {path}.").format(repository=reference.repository, path=filename),
        hint=f"tanuki pull hf:{reference.repository}/{near[0]}" if near else _("All names: tanuki models"),
    )
