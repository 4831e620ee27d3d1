"""llama.cpp's C functions, without the rest of the package that brings them.

``import llama_cpp`` also loads numpy, jinja2 and a class that is not used here, which takes longer than
loading an 8B model. Only the module with the table of C functions is wanted; an ordinary
``import llama_cpp`` later, by anybody, gets the whole package as always.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.llama_h import LlamaLibrary, missing_names

_PACKAGE: Final = "llama_cpp"


def _load_functions() -> Any:
    loaded = sys.modules.get(_PACKAGE)
    if loaded is not None:
        return importlib.import_module(f"{_PACKAGE}.{_PACKAGE}")
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
    # Stands in for the package while its submodules import one another.
    package = ModuleType(_PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = package
    try:
        return importlib.import_module(f"{_PACKAGE}.{_PACKAGE}")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]


def _checked(library: Any) -> LlamaLibrary:
    """``library``, if it has all that is used of it. Raises AttributeError for a version that has not."""
    if missing := missing_names(library):
        raise AttributeError(f"llama-cpp-python {VERSION} has no {', '.join(missing)}")
    functions: LlamaLibrary = library
    return functions


def _version() -> str:
    """What is installed, by the name of its folder: importlib.metadata takes longer to import than all else
    here, so it is asked only where there is not exactly one."""
    spec = importlib.util.find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = [name for place in places for name in Path(place).parent.glob("llama_cpp_python-*.dist-info")]
    if len(found) == 1:
        return found[0].name.removeprefix("llama_cpp_python-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version("llama-cpp-python")


VERSION: Final = _version()

native: Final = _checked(_load_functions())
"""The module ``llama_cpp.llama_cpp``: llama.h as ctypes functions and structures."""
