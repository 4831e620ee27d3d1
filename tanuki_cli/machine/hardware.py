"""The machine: memory, cores, disk.

psutil is imported where the files of Linux do not say it: that takes longer than all else here.
"""

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.machine.gpus import Gpu, apple_gpu, nvidia_gpus
from tanuki_cli.machine.limits import (
    CGROUP_ROOT,
    address_space_left,
    cgroup_cpus,
    cgroup_memory,
    own_cgroups,
    read_text,
)

_CPU_ROOT: Final = Path("/sys/devices/system/cpu")


class Machine(Struct, frozen=True, kw_only=True):
    """What this process may use: container limits and CPU affinity are already applied."""

    ram_bytes: int
    available_ram_bytes: int
    physical_cores: int
    gpus: tuple[Gpu, ...] = ()

    @property
    def free_vram_bytes(self) -> int:
        """Free memory of all GPUs together."""
        return sum(gpu.free_bytes for gpu in self.gpus)


def inspect_machine(environ: Mapping[str, str]) -> Machine:
    """Look at this machine. A GPU whose driver does not answer counts as none."""
    ram, available = _main_memory()
    limit, used = cgroup_memory(CGROUP_ROOT, own_cgroups())
    if limit < ram:
        ram, available = limit, min(available, max(limit - used, 0))
    available = min(available, address_space_left())
    gpus = tuple(nvidia_gpus(environ)) or tuple(apple_gpu(ram, available))
    return Machine(
        ram_bytes=ram, available_ram_bytes=available, physical_cores=usable_physical_cores(), gpus=gpus
    )


def _main_memory() -> tuple[int, int]:
    """Bytes of the machine's memory, and how many of them are available."""
    lines = (line.split() for line in (read_text(Path("/proc/meminfo")) or "").splitlines())
    kibibytes = {line[0]: int(line[1]) for line in lines if len(line) == 3 and line[1].isdigit()}
    total, available = kibibytes.get("MemTotal:"), kibibytes.get("MemAvailable:")
    if total is not None and available is not None:
        return total * 1024, available * 1024
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def free_disk_bytes(path: Path) -> int:
    """Free bytes on the disk that holds ``path``, or will: the nearest folder that exists is asked.

    Raises OSError if not even the root can be asked.
    """
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def peak_memory_bytes() -> int:
    """The most memory this process has taken so far; what it takes now where the system keeps no peak."""
    status = read_text(Path("/proc/self/status")) or ""
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(peak) * 1024 if peak else used_memory_bytes()


def used_memory_bytes() -> int:
    """The memory this process takes now, mapped files that were read included."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def format_bytes(count: float) -> str:
    """Decimal units with two or three significant digits, as the hub shows them: ``4.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def usable_physical_cores() -> int:
    """Physical cores this process may run on, by affinity and container quota; at least 1."""
    cpus = _allowed_cpus()
    cores = {core for cpu in cpus if (core := _core_of(cpu)) is not None}
    count = len(cores) or min(_physical_cores(), len(cpus))
    return max(1, min(count, cgroup_cpus(CGROUP_ROOT, own_cgroups())))


def _physical_cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or 1


def usable_cpus() -> int:
    """Logical processors this process may run on, likewise."""
    return max(1, min(len(_allowed_cpus()), cgroup_cpus(CGROUP_ROOT, own_cgroups())))


def cpu_name() -> str:
    """The processor's name, as its maker writes it where that can be read."""
    lines = (read_text(Path("/proc/cpuinfo")) or "").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _allowed_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _core_of(cpu: int) -> str | None:
    """What names the core of ``cpu``: the processors in it. Numbers of cores are not unique on ARM, where
    every cluster counts its own from 0."""
    topology = _CPU_ROOT / f"cpu{cpu}" / "topology"
    return read_text(topology / "core_cpus_list") or read_text(topology / "thread_siblings_list")
