"""Models on this machine: which are whole, and where. Never touches the network."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.catalog import (
    TANUKI_8B,
    VARIANT_BY_NAME,
    VARIANTS,
    Downloadable,
    HubReference,
    LocalModel,
    PathReference,
    Quantization,
    Variant,
    parse_reference,
    part_names,
    whole_models,
)
from tanuki_cli.errors import ModelError
from tanuki_cli.files import as_typed
from tanuki_cli.hub.code import code_files, has_all_code
from tanuki_cli.hub.files import Cache, PinnedModel
from tanuki_cli.hub.records import Records
from tanuki_cli.i18n import _

TOKENIZER: Final = "tokenizer.json"
_INDEX: Final = "model.safetensors.index.json"


class InstalledModel(Struct, frozen=True, kw_only=True):
    """A whole model in the cache. ``files`` are all it consists of, its tokenizer included."""

    reference: Downloadable
    model: LocalModel
    commit: str
    files: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)


def reference_repository(reference: Downloadable) -> str:
    """The repository that holds the right tokenizer.json where a model's own is not to be used."""
    family = reference.family if isinstance(reference, Variant) else TANUKI_8B
    return family.reference_repository


def find_installed(
    cache: Cache, pinned: PinnedModel | None, reference: Downloadable
) -> InstalledModel | None:
    """The whole model for ``reference``, whoever downloaded it: as pinned, else any commit in the cache."""
    if pinned is not None and is_whole(cache, pinned, reference):
        return _from_pinned(cache, reference, pinned)
    return next(_scan(cache, reference), None)


def is_whole(cache: Cache, pinned: PinnedModel, reference: Downloadable) -> bool:
    """Whether every file of a pinned model is there, its code included; contents are not hashed."""
    if not all(map(cache.is_whole, pinned.files)):
        return False
    checkpoint = any(file.path.endswith(".safetensors") for file in pinned.files)
    return not checkpoint or has_all_code(_snapshot(cache, pinned, reference))


def all_installed(cache: Cache, records: Records) -> list[InstalledModel]:
    """Every whole model: the catalog's variants, and what was pulled by ``hf:``."""
    pinned = records.all_pinned()
    pulled = (parse_reference(name) for name in pinned if name not in VARIANT_BY_NAME)
    references: Iterable[Downloadable] = (
        *VARIANTS,
        *(reference for reference in pulled if isinstance(reference, HubReference)),
    )
    found = (find_installed(cache, pinned.get(reference.name), reference) for reference in references)
    return [model for model in found if model is not None]


def find_verified(cache: Cache, records: Records, reference: Downloadable) -> InstalledModel | None:
    """The pinned model if it is whole and every file has the digest it was verified with."""
    pinned = records.pinned(reference.name)
    if pinned is None or not is_whole(cache, pinned, reference):
        return None
    unchanged = all(records.is_verified(cache.path(file), file.digest) for file in pinned.files)
    return _from_pinned(cache, reference, pinned) if unchanged else None


def find_tokenizer(cache: Cache, repository: str) -> Path | None:
    """The newest tokenizer.json of ``repository`` in the cache."""
    for commit in cache.commits(repository):
        path = cache.snapshot(repository, commit) / TOKENIZER
        if path.is_file():
            return path
    return None


def _snapshot(cache: Cache, pinned: PinnedModel, reference: Downloadable) -> Path:
    commit = next(file.commit for file in pinned.files if file.repository == reference.repository)
    return cache.snapshot(reference.repository, commit)


def _from_pinned(cache: Cache, reference: Downloadable, pinned: PinnedModel) -> InstalledModel:
    snapshot = _snapshot(cache, pinned, reference)
    weights = next((cache.path(file) for file in pinned.files if file.path.endswith(".gguf")), None)
    tokenizer = next((cache.path(file) for file in pinned.files if file.path == TOKENIZER), None)
    return InstalledModel(
        reference=reference,
        model=_local_model(reference, snapshot, weights, tokenizer),
        commit=snapshot.name,
        files=tuple(cache.path(file) for file in pinned.files),
    )


def _scan(cache: Cache, reference: Downloadable) -> Iterator[InstalledModel]:
    for commit in cache.commits(reference.repository):
        snapshot = cache.snapshot(reference.repository, commit)
        own = snapshot / TOKENIZER
        if isinstance(reference, HubReference) and own.is_file():
            tokenizer: Path | None = own
        else:
            tokenizer = find_tokenizer(cache, reference_repository(reference))
        weights = _weights(snapshot, reference)
        if tokenizer is None or not weights:
            continue
        gguf = weights[0] if weights[0].suffix == ".gguf" else None
        code = code_files(snapshot) if gguf is None else ()
        if not all(path.is_file() for path in code):
            continue
        yield InstalledModel(
            reference=reference,
            model=_local_model(reference, snapshot, gguf, tokenizer),
            commit=commit,
            files=tuple(dict.fromkeys((*weights, *code, tokenizer))),
        )


def _local_model(
    reference: Downloadable, snapshot: Path, gguf: Path | None, tokenizer: Path | None
) -> LocalModel:
    if gguf is None:
        quantization = read_quantization(snapshot)
        return LocalModel(
            name=reference.name,
            format="safetensors",
            path=snapshot,
            tokenizer=tokenizer,
            quantization=quantization,
            repository=reference.repository,
            revision=snapshot.name,
        )
    # The vocabulary of somebody else's GGUF is only known from the file itself.
    foreign = isinstance(reference, HubReference) and tokenizer is not None and snapshot != tokenizer.parent
    return LocalModel(
        name=reference.name,
        format="gguf",
        path=gguf,
        tokenizer=None if foreign else tokenizer,
        reference_tokenizer=tokenizer if foreign else None,
        repository=reference.repository,
        revision=snapshot.name,
    )


def _weights(snapshot: Path, reference: Downloadable) -> list[Path]:
    """Weights and configuration of a whole model in ``snapshot``; empty if something is missing."""
    if reference.filename is not None:
        paths = [snapshot.joinpath(*name.split("/")) for name in part_names(reference.filename)]
        return paths if all(path.is_file() for path in paths) else []
    if checkpoint := checkpoint_files(snapshot):
        return checkpoint
    models = _gguf_models(snapshot)
    return models[0] if len(models) == 1 else []


def _gguf_models(folder: Path) -> list[list[Path]]:
    """The GGUF models in ``folder``, each with all its parts."""
    names = (path.name for path in folder.glob("*.gguf") if path.is_file())
    return [[folder / name for name in parts] for parts in whole_models(names)]


def checkpoint_files(folder: Path) -> list[Path]:
    """Files of the safetensors checkpoint in ``folder``; empty if it is not whole."""
    config = folder / "config.json"
    shards = sorted(folder.glob("*.safetensors"))
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        needed = {folder / name for name in index["weight_map"].values()}
    except FileNotFoundError:
        needed = set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    if not config.is_file() or not shards or not needed <= set(shards):
        return []
    return [*shards, *sorted(folder.glob("*.json"))]


def read_quantization(folder: Path) -> Quantization | None:
    """How the checkpoint in ``folder`` is quantized, by its config.json; None for plain floats."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        method = config.get("quantization_config", {}).get("quant_method")
    except (OSError, ValueError, AttributeError):
        return None
    methods: tuple[Quantization, ...] = ("awq", "gptq")
    return next((known for known in methods if known == method), None)


def open_path(cache: Cache, reference: PathReference) -> LocalModel:
    """The model in a file or folder of the user's own.

    Its tokenizer is the tokenizer.json beside it; a GGUF without one gets the reference tokenizer from
    the cache as a last resort. Raises ModelError if there is no model.
    """
    path = as_typed(reference.path)
    name = str(reference.path)
    if path.is_dir():
        models = _gguf_models(path)
        if checkpoint_files(path):
            return LocalModel(
                name=name,
                format="safetensors",
                path=path,
                tokenizer=_beside(path),
                quantization=read_quantization(path),
            )
        if len(models) != 1:
            raise ModelError(
                _("{path} holds no model: neither a whole safetensors checkpoint nor one GGUF file.").format(
                    path=name
                ),
                hint=_("Name the file itself: -m {path}/model.gguf").format(path=name),
            )
        path = models[0][0]
    if not path.is_file():
        raise ModelError(
            _("There is no model file {path}.").format(path=name), hint=_("All names: tanuki models")
        )
    return LocalModel(
        name=name,
        format="gguf",
        path=path,
        tokenizer=_beside(path.parent),
        reference_tokenizer=find_tokenizer(cache, TANUKI_8B.reference_repository),
    )


def _beside(folder: Path) -> Path | None:
    path = folder / TOKENIZER
    return path if path.is_file() else None
