"""llama.cpp's C functions, without the rest of the package that brings them.

``import llama_cpp`` also loads numpy, jinja2 and a class that is not used here, which takes longer than
loading an 8B model. Only the module with the table of C functions is wanted; an ordinary
``import llama_cpp`` later, by anybody, gets the whole package as always.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.llama_h import LlamaLibrary, missing_names
from tanuki_cli.machine.packages import installed_version

_PACKAGE: Final = "llama_cpp"


def load_functions(name: str, module: str) -> Any:
    """The ``module`` with the table of C functions of the package ``name``. Raises ImportError, OSError."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return importlib.import_module(f"{name}.{module}")
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    # Stands in for the package while its submodules import one another.
    package = ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package
    try:
        return importlib.import_module(f"{name}.{module}")
    finally:
        for part in [part for part in sys.modules if part.partition(".")[0] == name]:
            del sys.modules[part]


def _checked(library: Any) -> LlamaLibrary:
    """``library``, if it has all that is used of it. Raises AttributeError for a version that has not."""
    if missing := missing_names(library):
        raise AttributeError(f"llama-cpp-python {VERSION} has no {', '.join(missing)}")
    functions: LlamaLibrary = library
    return functions


VERSION: Final = installed_version(_PACKAGE, "llama_cpp_python")

native: Final = _checked(load_functions(_PACKAGE, _PACKAGE))
"""The module ``llama_cpp.llama_cpp``: llama.h as ctypes functions and structures."""
