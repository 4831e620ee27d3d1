"""Whether ik_llama.cpp is here and may be loaded, told without loading it."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tanuki_cli.engines.checking import Check, Status, probe
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.machine.packages import IK, install_extra, installed_version, missing

PACKAGE: Final = "ik_llama_cpp"
NAME: Final = "ik_llama.cpp"
OTHERWISE: Final = "--engine llama.cpp"
_TRIED: Final = IK.rpartition("=")[2]
_NEEDED: Final = frozenset(("avx2", "f16c", "fma"))
"""What the published library is compiled for; it does not look, and an unknown instruction ends it."""
_CPU: Final = Path("/proc/cpuinfo")
_PROBE: Final = f"import json, {PACKAGE}; print(json.dumps(1))"


def require_ik() -> str:
    """Its version. Raises EngineError where it is missing, of a version that was never tried, or not for
    this processor."""
    if missing([PACKAGE]):
        raise EngineError(_("ik_llama.cpp is not installed."), hint=install_extra("ik"))
    version = installed_version(PACKAGE, "ik_llama_cpp_python")
    if version != _TRIED:
        raise EngineError(
            _("ik_llama.cpp {version} was never tried; {tried} was.").format(version=version, tried=_TRIED),
            hint=install_extra("ik"),
        )
    if lacking := _NEEDED - _cpu_flags():
        raise EngineError(
            _("ik_llama.cpp needs a processor with {names}, on Linux.").format(
                names=", ".join(sorted(lacking)).upper()
            ),
            hint=OTHERWISE,
        )
    return version


def build_version() -> str:
    """What its build is called in the names of what is kept for it. Raises what :func:`require_ik` does."""
    return f"ik {require_ik()}"


def package_folder() -> Path:
    """Where it lies. Raises EngineError where it is missing."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EngineError(_("ik_llama.cpp is not installed."), hint=install_extra("ik"))
    return Path(spec.origin).parent


def check_ik(*, chosen: bool) -> Iterator[Check]:
    """One check where it is installed or ``chosen`` in the settings: whether it can be used."""
    if not chosen and missing([PACKAGE]):
        return
    fault: Status = "fail" if chosen else "warn"
    try:
        version = require_ik()
    except EngineError as exc:
        yield Check(name=NAME, status=fault, detail=exc.message, fix=exc.hint)
        return
    found = probe(_PROBE)
    if isinstance(found, str):
        detail = _("It cannot be loaded: {reason}").format(reason=found)
        yield Check(name=NAME, status=fault, detail=detail, fix=OTHERWISE)
    else:
        yield Check(name=NAME, status="ok", detail=version)


def _cpu_flags() -> frozenset[str]:
    """What the processor knows, by Linux's names; nothing elsewhere, where it was never tried."""
    try:
        lines = _CPU.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(flags.split())
