"""The house rules that a machine can check: layers, cycles, exits, prints, heavy imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tanuki_cli"
LAYERS = (
    ("cli",),
    ("terminal",),
    ("session",),
    ("engines",),
    ("hub",),
    ("history",),
    ("catalog",),
    ("tokenizer",),
    ("prompt",),
    ("settings",),
    ("text",),
    ("machine",),
    ("conversation",),
    ("sampling", "files", "interrupts"),
    ("i18n", "errors"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HEAVY = (
    "torch",
    "transformers",
    "llama_cpp",
    "huggingface_hub",
    "prompt_toolkit",
    "rich.markdown",
    "numpy",
    "httpx",
    "httpx2",
    "charset_normalizer",
    "rich.progress",
    "pydantic",
)

EXITS = ("tanuki_cli.cli", "tanuki_cli.__main__")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = {dotted(module) for module in modules()}
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in known else str(node.module)


def layer(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "tanuki_cli" and len(parts) > 1 and parts[1] != "__main__" else None


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_point_down(path: Path) -> None:
    own = layer(dotted(path))
    for name in imported(path):
        other = layer(name)
        if own is None or other is None:
            continue
        assert other in RANK, f"{name} has no layer"
        assert RANK[own] <= RANK[other], f"{dotted(path)} imports {name}, which is above it"


def test_imports_have_no_cycle() -> None:
    graph = {
        dotted(path): {name for name in imported(path) if name.startswith("tanuki_cli.")}
        for path in modules()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done:
            return
        for other in graph.get(name, set()):
            if other != name:
                visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())
    assert done


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_only_main_exits_and_only_the_console_prints(path: Path) -> None:
    name = dotted(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{name}:{node.lineno} prints"
        if isinstance(node, ast.Attribute) and node.attr in {"exit", "_exit"}:
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            assert owner not in {"sys", "os"} or name in EXITS, f"{name}:{node.lineno} exits"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["models"], ["config", "list"]])
def test_start_up_is_light(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom tanuki_cli.cli import main\n"
        f"sys.argv = ['tanuki', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as exc:\n    assert not exc.code, exc.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert result.stdout
    assert result.stderr.strip() == "[]"
