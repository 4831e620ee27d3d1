"""What a checkpoint's directory says about itself, read without loading it and without torch."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.catalog import Quantization
from tanuki_cli.engines.transformers.weights import WeightFiles, find_weights, read_json
from tanuki_cli.errors import DamagedModelError, EngineError, brief
from tanuki_cli.files import os_reason
from tanuki_cli.hub.code import code_files
from tanuki_cli.i18n import _

SUPPORTED_ARCHITECTURE: Final = "LlamaForCausalLM"
_MAX_NUMBER: Final = 1 << 24
_AUTO_CLASS: Final = "AutoModelForCausalLM"


class _Layouts(Struct, frozen=True):
    """What of one method gptqmodel's kernels for plain PyTorch can run (the faster ones take less)."""

    bits: tuple[int, ...]
    group_sizes: tuple[int, ...]
    layout_key: str
    layouts: tuple[str, ...]


_SUPPORTED: Final[Mapping[Quantization, _Layouts]] = {
    "awq": _Layouts((4,), (-1, 16, 32, 64, 128), "version", ("gemm",)),
    "gptq": _Layouts((4, 8), (-1, 16, 32, 64, 128, 256, 512, 1024), "checkpoint_format", ("gptq", "gptq_v2")),
}


class QuantizationInfo(Struct, frozen=True, kw_only=True):
    """How the linear layers are quantised; ``group_size`` -1 is one group for each column."""

    method: Quantization
    bits: int
    group_size: int
    desc_act: bool


class CheckpointInfo(Struct, frozen=True, kw_only=True):
    """A checkpoint that can be loaded.

    ``vocab_size`` is the number of rows of the embedding. ``custom_code`` names the class in the
    repository's own Python code that the model needs, None for a model that transformers knows;
    ``code_files`` are the files of that code.
    """

    path: Path
    architecture: str
    custom_code: str | None
    code_files: tuple[Path, ...]
    weights: WeightFiles
    quantization: QuantizationInfo | None
    bos_id: int
    eos_id: int
    other_eos_ids: tuple[int, ...]
    vocab_size: int
    max_position_embeddings: int
    num_layers: int
    num_kv_heads: int
    head_dim: int

    def kv_bytes(self, tokens: int, *, bytes_per_value: int) -> int:
        """Size of the KV cache for ``tokens`` tokens."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value * tokens


def read_checkpoint(path: Path) -> CheckpointInfo:
    """Read the directory ``path``: config.json, generation_config.json and the headers of the weights.

    Raises EngineError if it is no checkpoint, has only pickles, is incomplete, has an architecture or
    a quantisation that cannot run here, or wants code from another repository.
    """
    config = _read_json(path / "config.json")
    if config is None:
        raise EngineError(
            _("{path} is not a model: it has no config.json.").format(path=path),
            hint=_("Name the folder that holds config.json and the .safetensors files."),
        )
    generation = _read_json(path / "generation_config.json") or {}
    heads = _integer(path, config, "num_attention_heads")
    custom_code = _custom_code(path, config)
    info = CheckpointInfo(
        path=path,
        architecture=_architecture(path, config, custom_code),
        custom_code=custom_code,
        code_files=_code_files(path) if custom_code is not None else (),
        weights=find_weights(path),
        quantization=_quantization(path, config),
        bos_id=_token_id(path, "bos_token_id", generation, config),
        eos_id=_token_id(path, "eos_token_id", generation, config),
        other_eos_ids=_all_token_ids("eos_token_id", generation, config),
        vocab_size=_integer(path, config, "vocab_size"),
        max_position_embeddings=_integer(path, config, "max_position_embeddings"),
        num_layers=_integer(path, config, "num_hidden_layers"),
        num_kv_heads=_integer(path, config, "num_key_value_heads", default=heads),
        head_dim=_integer(
            path, config, "head_dim", default=_integer(path, config, "hidden_size") // max(heads, 1)
        ),
    )
    if custom_code is None:
        _integer(path, config, "intermediate_size")
        if info.num_layers > info.weights.layers:
            raise _bad_config(
                path / "config.json",
                _("{key} is {value!r}").format(key="num_hidden_layers", value=info.num_layers),
            )
    if max(info.bos_id, info.eos_id, *info.other_eos_ids) >= info.vocab_size:
        raise _bad_config(
            path / "config.json", _("{key} is {value!r}").format(key="vocab_size", value=info.vocab_size)
        )
    return info


def _read_json(path: Path) -> dict[str, object] | None:
    """The object in ``path``, None if there is no such file. Raises EngineError for anything else."""
    try:
        content = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as exc:
        raise _bad_config(path, os_reason(exc) if isinstance(exc, OSError) else exc) from exc
    if not isinstance(content, dict):
        raise _bad_config(path, _("it is not a JSON object"))
    return content


def _integer(path: Path, config: Mapping[str, object], key: str, *, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MAX_NUMBER:
        raise _bad_config(path / "config.json", _("{key} is {value!r}").format(key=key, value=brief(value)))
    return value


def _token_id(path: Path, key: str, *configs: Mapping[str, object]) -> int:
    """The first id that ``configs`` give for ``key``; where a list is allowed, an id that all agree on."""
    values = [config[key] for config in configs if config.get(key) is not None]
    candidates = [value if isinstance(value, list) else [value] for value in values]
    shared = [id_ for id_ in (candidates[0] if candidates else []) if all(id_ in ids for ids in candidates)]
    for id_ in [*shared, *(id_ for ids in candidates for id_ in ids)]:
        if isinstance(id_, int) and not isinstance(id_, bool) and id_ >= 0:
            return id_
    raise _bad_config(path / "config.json", _("{key} is {value!r}").format(key=key, value=None))


def _all_token_ids(key: str, *configs: Mapping[str, object]) -> tuple[int, ...]:
    """Every id that ``configs`` give for ``key``."""
    values = (config.get(key) for config in configs)
    ids = chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
    return tuple({id_ for id_ in ids if isinstance(id_, int) and not isinstance(id_, bool) and id_ >= 0})


def _custom_code(path: Path, config: Mapping[str, object]) -> str | None:
    auto_map = config.get("auto_map")
    if auto_map is None:
        return None
    reference = auto_map.get(_AUTO_CLASS) if isinstance(auto_map, dict) else None
    if not isinstance(auto_map, dict) or not isinstance(reference, str):
        raise _bad_config(
            path / "config.json", _("{key} is {value!r}").format(key="auto_map", value=brief(auto_map))
        )
    # "owner/repo--module.Class" would run code that no pinned revision and no consent covers.
    if any(isinstance(value, str) and "--" in value for value in auto_map.values()):
        raise EngineError(
            _("{path} wants to run code from another repository: {reference}").format(
                path=path, reference=brief(reference)
            ),
            hint=_("Use a model that brings its own code, or serve it elsewhere: -m http://host:8000/v1"),
        )
    return reference


def _code_files(path: Path) -> tuple[Path, ...]:
    files = code_files(path)
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None or not files:
        raise DamagedModelError(
            _("{path} needs Python code of its own that is missing: {name}").format(
                path=path, name=brief(missing.name if missing else "*.py")
            )
        )
    return files


def _architecture(path: Path, config: Mapping[str, object], custom_code: str | None) -> str:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if custom_code is not None:
        return custom_code.rpartition(".")[2]
    if name != SUPPORTED_ARCHITECTURE:
        raise EngineError(
            _("{path} is a {architecture}, not a model of Tanuki's kind ({supported}).").format(
                path=path, architecture=brief(name), supported=SUPPORTED_ARCHITECTURE
            ),
            hint="tanuki models",
        )
    return SUPPORTED_ARCHITECTURE


def _quantization(path: Path, config: Mapping[str, object]) -> QuantizationInfo | None:
    settings = config.get("quantization_config")
    if settings is None:
        return None
    if not isinstance(settings, dict):
        raise _bad_config(path / "config.json", "quantization_config")
    bits, group_size = settings.get("bits"), settings.get("group_size")
    method: Quantization | None = next(
        (name for name in _SUPPORTED if name == settings.get("quant_method")), None
    )
    supported = None if method is None else _SUPPORTED[method]
    layout = settings.get(supported.layout_key) or supported.layouts[0] if supported else None
    if (
        method is None
        or supported is None
        or bits not in supported.bits
        or group_size not in supported.group_sizes
        or str(layout).lower() not in supported.layouts
    ):
        raise EngineError(
            _(
                "{path} is quantised in a way that cannot be run: {method}, {bits} bits, group size "
                "{group_size}, layout {layout}."
            ).format(
                path=path,
                method=brief(settings.get("quant_method")),
                bits=brief(bits),
                group_size=brief(group_size),
                layout=brief(layout),
            ),
            hint=_("Supported are AWQ (4 bits, gemm) and GPTQ (4 or 8 bits), usually in groups of 128."),
        )
    return QuantizationInfo(
        method=method, bits=bits, group_size=group_size, desc_act=bool(settings.get("desc_act", False))
    )


def _bad_config(path: Path, reason: object) -> DamagedModelError:
    return DamagedModelError(_("{path} cannot be used: {reason}").format(path=path, reason=brief(reason)))
