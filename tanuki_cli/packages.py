"""The command that adds a package to the environment this program runs in."""

import shlex
import sys
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent


def pip_install(*packages: str) -> str:
    """What to paste into a shell to install ``packages`` for this very Python."""
    return shlex.join((sys.executable, "-m", "pip", "install", *packages))


def install_extra(extra: str) -> str:
    """What installs an extra of this program: from its checkout where it runs in one."""
    if (_ROOT / "pyproject.toml").is_file():
        return pip_install("-e", f"{_ROOT}[{extra}]")
    return pip_install(f"tanuki-cli[{extra}]")
