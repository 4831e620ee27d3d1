"""What the shell and the container around this process leave of the machine."""

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")


def address_space_left() -> int:
    """Bytes that ``ulimit -v`` leaves to this process; a huge number without such a limit."""
    if resource is None:
        return sys.maxsize
    limit, _hard = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    import psutil  # for those who set the limit

    return max(0, limit - int(psutil.Process().memory_info().vms))


def own_cgroups() -> dict[str, str]:
    """The cgroup of this process by controller; the unified hierarchy (v2) is the empty name."""
    lines = (read_text(Path("/proc/self/cgroup")) or "").splitlines()
    groups: dict[str, str] = {}
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _ancestors(mount: Path, group: str) -> Iterable[Path]:
    """Folders of ``group`` and of the groups around it, whose limits hold too.

    Inside a container the path may be that of the host; then only the mount itself exists.
    """
    path = mount / group.strip("/")
    yield from (folder for folder in (path, *path.parents) if folder == mount or mount in folder.parents)


def cgroup_memory(root: Path, groups: Mapping[str, str]) -> tuple[int, int]:
    """The tightest memory limit, and what of it is taken, in bytes: by the group itself, or by others where a
    group around both has less left.

    Pages of files count as free, those that were read more than once (active) included: a model's own, from
    the start before this one.
    """
    names = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
        if "memory" in groups
        else ("memory.max", "memory.current", "inactive_file", "active_file")
    )
    mount = root / "memory" if "memory" in groups else root
    best = least_left = 1 << 62
    for folder in _ancestors(mount, groups.get("memory", groups.get("", "/"))):
        limit, usage = read_text(folder / names[0]), read_text(folder / names[1])
        if limit and limit.isdigit() and int(limit) < 1 << 62:
            cache = dict(line.split() for line in (read_text(folder / "memory.stat") or "").splitlines())
            used = max(int(usage or 0) - sum(int(cache.get(name, 0)) for name in names[2:]), 0)
            best, least_left = min(best, int(limit)), min(least_left, int(limit) - used)
    return best, best - least_left


def cgroup_cpus(root: Path, groups: Mapping[str, str]) -> int:
    """CPUs that the tightest quota pays for, rounded up; a large number without a quota."""
    best = math.inf
    if "cpu" in groups:
        for folder in _ancestors(root / "cpu", groups["cpu"]):
            quota, period = read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")
            if quota and period and int(quota) > 0:
                best = min(best, int(quota) / int(period))
    else:
        for folder in _ancestors(root, groups.get("", "/")):
            quota, _space, period = (read_text(folder / "cpu.max") or "max").partition(" ")
            if quota.isdigit() and period.isdigit():
                best = min(best, int(quota) / int(period))
    return 1 << 16 if best == math.inf else max(1, math.ceil(best))


def read_text(path: Path) -> str | None:
    """What a file of the system says; None if it is not there or no text."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
