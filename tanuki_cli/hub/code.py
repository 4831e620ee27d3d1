"""The Python files that a checkpoint brings along. They are named and read here, never run.

A model of an architecture that transformers does not know is code from its repository: the modules
that ``auto_map`` in config.json names, and what these import from beside them.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

CONFIG: Final = "config.json"
MAX_CODE_BYTES: Final = 10_000_000
"""Larger files are taken for neither a config.json nor code."""

_CLASSES: Final = ("AutoConfig", "AutoModelForCausalLM")
_REFERENCE: Final = re.compile(r"([A-Za-z_]\w*)\.[A-Za-z_]\w*", re.ASCII)
# transformers' own rule: these, and no others, it takes along and runs.
_RELATIVE_IMPORTS: Final = re.compile(
    r"^\s*(?:import\s+\.([A-Za-z_]\w*)\s*$|from\s+\.([A-Za-z_]\w*)\s+import)", re.ASCII | re.MULTILINE
)


def code_names(read: Callable[[str], str | None]) -> tuple[str, ...]:
    """Names of the code files of a checkpoint, e.g. ``modeling_tanuki.py``; none for most models.

    ``read`` gives the text of a file of the checkpoint, None for one that is not there; a file that is
    named but not there is among the names.
    """
    names: list[str] = []
    wanted = [*_named_by_config(read(CONFIG) or "")]
    while wanted:
        name = wanted.pop(0)
        if name not in names:
            names.append(name)
            wanted += _imported_by(read(name) or "")
    return tuple(names)


def code_files(folder: Path) -> tuple[Path, ...]:
    """The code files of the checkpoint in ``folder``, there or not."""
    return tuple(folder / name for name in code_names(lambda name: _read(folder / name)))


def has_all_code(folder: Path) -> bool:
    """Whether the checkpoint in ``folder`` lacks no code file."""
    return all(path.is_file() for path in code_files(folder))


def missing_packages(files: Iterable[Path]) -> list[str]:
    """Packages that ``files`` import unconditionally and this Python lacks, as pip spells them."""
    wanted = {name for path in files for name in _packages(_read(path) or "")}
    return sorted(name.replace("_", "-") for name in wanted if find_spec(name) is None)


def _packages(source: str) -> Iterator[str]:
    """What stands at the top level; what is inside a ``try`` or an ``if`` the code can do without."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # what is wrong with it is told when it is run
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.level == 0 and statement.module:
            yield statement.module.partition(".")[0]


def _read(path: Path) -> str | None:
    try:
        if path.stat().st_size > MAX_CODE_BYTES:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _named_by_config(text: str) -> Iterable[str]:
    """Modules in ``auto_map``; not those of other repositories (``owner/repo--module.Class``)."""
    try:
        auto_map = json.loads(text)["auto_map"]
        references = [auto_map[name] for name in _CLASSES if name in auto_map]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    for reference in references:
        if isinstance(reference, str) and (match := _REFERENCE.fullmatch(reference)):
            yield f"{match[1]}.py"


def _imported_by(source: str) -> list[str]:
    return [f"{match[1] or match[2]}.py" for match in _RELATIVE_IMPORTS.finditer(source)]
