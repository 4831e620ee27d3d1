"""Imports of what takes seconds, made when something of it is first used.

    with lazy_imports():
        import torch
        from tanuki_cli.engines.transformers.loader import load_transformers

Collecting the tests must not wait for torch, and needs none. A name that was imported so can be called
and asked for its attributes; it is no class, so ``isinstance`` takes the attribute of a module instead,
and ``monkeypatch`` the dotted name.
"""

import builtins
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


class Lazy:
    """Stands for what ``load`` gives, and loads it when it is used."""

    __slots__ = ("_load",)

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_mock_name":  # pytest asks everything in a file for these
            raise AttributeError(name)
        return getattr(self._load(), name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._load()(*arguments, **options)


class _Names:
    """What ``from module import …`` takes its names out of."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Lazy:
        def load() -> Any:
            module = importlib.import_module(self._module)
            if hasattr(module, name):
                return getattr(module, name)
            return importlib.import_module(f"{self._module}.{name}")

        return Lazy(load)


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Within it every import statement gives a :class:`Lazy`."""

    def lazily(
        name: str,
        _globals: Mapping[str, object] | None = None,
        _locals: Mapping[str, object] | None = None,
        names: Sequence[str] | None = (),
        _level: int = 0,
    ) -> Any:
        if names:
            return _Names(name)

        def load() -> Any:
            importlib.import_module(name)
            return importlib.import_module(name.partition(".")[0])

        return Lazy(load)

    eagerly = builtins.__import__
    builtins.__import__ = lazily  # type: ignore[assignment]  # its names are private
    try:
        yield
    finally:
        builtins.__import__ = eagerly
