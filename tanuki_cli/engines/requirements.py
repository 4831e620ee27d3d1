"""Whether the engine of a model is installed and can be loaded: one sentence and one line if not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tanuki_cli.catalog import Quantization
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.packages import (
    LLAMA_CPP,
    QUANTIZED,
    TRANSFORMERS,
    install_extra,
    missing,
    pip_install,
    rebuild_llama_cpp,
)

_LLAMA_CPP_MODULE: Final = "llama_cpp"


@contextmanager
def importing_transformers(method: Quantization | None) -> Iterator[None]:
    """For the import of what runs safetensors, quantised by ``method``.

    Raises EngineError where a package is missing, with the line that installs all of them, or broken.
    """
    if method is None:
        if lacking := missing(TRANSFORMERS):
            raise EngineError(
                _("Models in safetensors need packages that are not installed: {packages}.").format(
                    packages=", ".join(lacking)
                ),
                hint=install_extra("transformers"),
            )
    elif lacking := missing((*TRANSFORMERS, *QUANTIZED[method])):
        raise EngineError(
            _("{method} models need packages that are not installed: {packages}.").format(
                method=method.upper(), packages=", ".join(lacking)
            ),
            hint=install_extra("quantized"),
        )
    try:
        yield
    # A library of torch's that is not there is an OSError, or an ImportError.
    except (ImportError, OSError) as exc:
        raise EngineError(
            _("torch or transformers cannot be loaded: {reason}").format(reason=exc),
            # Without what they depend on: gptqmodel needs its own versions of that.
            hint=pip_install("--force-reinstall", "--no-deps", "torch", "transformers"),
        ) from exc


@contextmanager
def importing_llama_cpp() -> Iterator[None]:
    """For the import of what runs GGUF. Raises EngineError where llama.cpp is missing or broken."""
    if missing([_LLAMA_CPP_MODULE]):
        raise EngineError(_("llama.cpp is not installed."), hint=pip_install(LLAMA_CPP))
    try:
        yield
    # What llama_cpp makes of a library that is not there, or was built for another machine.
    except (ImportError, OSError, RuntimeError, AttributeError) as exc:
        raise EngineError(
            _("llama.cpp cannot be loaded: {reason}").format(reason=exc),
            hint=rebuild_llama_cpp(""),
        ) from exc
