"""What contributors are told is so: the rooms, the paths, the scripts, the workflow."""

import re
from pathlib import Path

import pytest

from tests.test_architecture import INNER, LAYERS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tanuki_cli"
GUIDES = [ROOT / ".github" / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")]
# Folders of the package that hold no code.
DATA = {"docs", "locale", "mame"}


def listed_rooms() -> list[str]:
    """The names in the list of rooms, those of rooms within a room after a slash."""
    text = GUIDES[0].read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- rooms -->\n```\n(.*?)```", text, re.DOTALL)
    rooms: list[str] = []
    for indent, name in re.findall(r"^( *)(\w+)(?:/|\.py)? ", block, re.MULTILINE):
        outer = next((room for room in reversed(rooms) if "/" not in room), "")
        rooms.append(f"{outer}/{name}" if indent else name)
    return rooms


def test_the_list_of_rooms_is_the_folder() -> None:
    rooms = listed_rooms()
    there = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert {room for room in rooms if "/" not in room} == (there - {"__init__"}) | DATA
    for room in rooms:
        assert (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()


def test_the_list_of_rooms_is_in_the_order_of_the_imports() -> None:
    rooms = [room for room in listed_rooms() if "/" not in room and room not in DATA]
    rank = {name: number for number, names in enumerate(LAYERS) for name in names}
    assert [rank[room] for room in rooms] == sorted(rank[room] for room in rooms)


def test_every_room_within_a_room_is_listed() -> None:
    inner = {f"{outer}/{name}" for outer, layers in INNER.items() for names in layers for name in names}
    assert {room for room in inner if (PACKAGE / room).is_dir()} <= set(listed_rooms())


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_files_that_a_guide_names_are_there(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    names = re.findall(r"`((?:\./)?[\w.*-]+(?:/[\w.*-]+)+/?)`", text)
    assert names
    for name in names:
        if name.startswith("dist") or "NAME" in name:  # made by a build, or by the reader
            continue
        pattern = name.removeprefix("./").rstrip("/")
        assert any(list(base.glob(pattern)) for base in (ROOT, PACKAGE)), name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (guide.parent / target).is_file(), target


def test_the_scripts_that_a_guide_shows_are_there() -> None:
    for guide in GUIDES:
        for module in re.findall(r"python -m (scripts\.\w+)", guide.read_text(encoding="utf-8")):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_the_hosted_workflow_runs_what_must_pass() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "run: .ci/run\n" in workflow
    assert "index-url" not in workflow


def test_the_hooks_are_the_project_s_own_tools() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    assert "http" not in hooks
