"""The house rules that a machine can check: layers, cycles, exits, prints, heavy imports."""

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tanuki_cli"
# The rooms of the house from the top down; what stands on one line may not import one another.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("server",),
    ("terminal",),
    ("evaluation",),
    ("batch",),
    ("session",),
    ("turn",),
    ("loading",),
    ("protocol",),
    ("engines",),
    ("hub", "history"),
    ("catalog",),
    ("tokenizer",),
    ("prompt",),
    ("settings",),
    ("text",),
    ("machine",),
    ("conversation",),
    ("jsonl",),
    ("sampling", "files", "interrupts"),
    ("options",),
    ("errors",),
    ("i18n",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Rooms within a room, likewise.
INNER = {
    "terminal": (("chat", "arena"), ("document",), ("answer", "asker"), ("markdown", "first_run")),
    "engines": (("opening", "installed", "speed"), ("llama_cpp", "transformers", "remote")),
}
SCREENS = ("rich", "prompt_toolkit")
BEFORE_ALL_ELSE = "tanuki_cli.engines.llama_cpp.building"
"""Runs before anything is installed: tests/scripts/test_bootstrap.py."""
HEAVY = (
    "torch",
    "transformers",
    "llama_cpp",
    "llguidance",
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


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported(path: Path) -> tuple[str, ...]:
    """What a module imports, anywhere in it: functions, and strings that name a module, count too."""
    return tuple(_imported(path, {dotted(module) for module in modules()}))


def _imported(path: Path, known: set[str]) -> Iterator[str]:
    tree = parsed(path)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in known else str(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from _named(node.value, known)
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT and "import" in token.string:
            yield from _named(token.string, known)


def _named(text: str, known: set[str]) -> Iterator[str]:
    yield from (name for name in re.findall(r"tanuki_cli(?:\.\w+)+", text) if name in known)


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "tanuki_cli" and len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_records_are_structs(path: Path) -> None:
    """A dataclass takes fifty times as long to make, and most are made before a command begins."""
    if not dotted(path).startswith(BEFORE_ALL_ELSE):
        assert "dataclasses" not in imported(path)


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_point_down(path: Path) -> None:
    own = dotted(path)
    for name in imported(path):
        here, there = room(own), room(name)
        if here is None or there is None or here == there:
            continue
        assert there in RANK, f"{name} is in no room"
        assert RANK[here] < RANK[there], f"{own} imports {name}, which is not below it"


@pytest.mark.parametrize(("outer", "layers"), INNER.items(), ids=list(INNER))
def test_imports_within_a_room_point_down(outer: str, layers: tuple[tuple[str, ...], ...]) -> None:
    rank = {name: number for number, names in enumerate(layers) for name in names}
    for path in (PACKAGE / outer).rglob("*.py"):
        own = dotted(path)
        here = own.split(".")[2] if own.count(".") > 1 else None
        for name in imported(path):
            there = name.split(".")[2] if name.startswith(f"tanuki_cli.{outer}.") else None
            if there not in rank or here == there:
                continue
            shared = f"{own}, which {outer}'s rooms share, imports {name}"
            assert here in rank, shared
            assert rank[here] < rank[there], f"{own} imports {name}, which is not below it"


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_screens_and_the_command_line_stay_in_their_rooms(path: Path) -> None:
    own = room(dotted(path))
    for name in imported(path):
        package = name.partition(".")[0]
        assert package not in {"typer", "click"} or own == "cli", f"{dotted(path)} imports {name}"
        assert package not in SCREENS or own in {"cli", "terminal"}, f"{dotted(path)} imports {name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=dotted)
def test_no_name_of_a_package_hides_one_of_its_modules(path: Path) -> None:
    modules_in_it = {entry.stem for entry in path.parent.iterdir() if entry.suffix == ".py" or entry.is_dir()}
    names: set[str] = set()
    for statement in parsed(path).body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            names.add(statement.name)
        elif isinstance(statement, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in statement.names}
        elif isinstance(statement, ast.Assign):
            names |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
    assert not names & modules_in_it


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
    for node in ast.walk(parsed(path)):
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


@pytest.mark.parametrize("saving", [[], ["--no-save"]], ids=["saved", "not saved"])
def test_a_plain_ask_imports_only_what_it_needs(tmp_path: Path, saving: list[str]) -> None:
    """Downloads, recovery, the other engines, shapes and screens are for those who ask for them; and what
    draws is for a terminal."""
    code = (
        "import sys\nfrom tanuki_cli.cli import main\n"
        f"sys.argv = ['tanuki', 'ask', '-q', '-m', 'mame', 'あなたは誰?', *{saving!r}]\n"
        "try:\n    main()\nexcept SystemExit as exc:\n    assert not exc.code, exc.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        env=os.environ | {"TANUKI_HOME": str(tmp_path)},
    )
    seldom = (
        "hub", "history.recovery", "history.transfer", "engines.transformers", "engines.remote",
        "engines.shapes", "evaluation", "terminal.chat", "terminal.markdown", "terminal.first_run",
        "loading.offers", "engines.parallel", "engines.llama_cpp.parallel",
    )  # fmt: skip
    unwanted = {f"tanuki_cli.{room}" for room in seldom} | {*HEAVY, "rich", "wcwidth", "tomlkit", "logging"}
    if sys.platform == "linux":  # which says in files what psutil is asked elsewhere
        unwanted |= {"psutil", "socket"}
    assert not [name for name in done.stderr.split() if name in unwanted]
