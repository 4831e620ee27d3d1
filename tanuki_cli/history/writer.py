"""Which process is writing an answer, and whether it still lives.

An unfinished answer belongs to its writer. One whose writer is gone was interrupted; that is said
when it is read, and never written into the row: nobody touches the row of another process.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

from tanuki_cli.machine.limits import read_text

# A process's start time is computed from the clock, which may have been set since.
_CLOCK_TOLERANCE_S: Final = 60
_START_TIME: Final = 19
"""Which word of /proc/PID/stat after the program's name is the time of its start, in ticks after the boot."""


@lru_cache(maxsize=1)
def _identity(pid: int) -> str:
    return f"{pid}@{_began(pid):.0f}"


def _began(pid: int) -> float:
    """When the process began, in seconds since 1970, as psutil reckons it, which is imported only where
    Linux does not say it: every short command would wait for that."""
    after_name = (read_text(Path(f"/proc/{pid}/stat")) or "").rpartition(")")[2].split()
    clock = (line.split() for line in (read_text(Path("/proc/stat")) or "").splitlines())
    boot = next((int(line[1]) for line in clock if line[0] == "btime"), None)
    if after_name and boot is not None:
        return boot + int(after_name[_START_TIME]) / os.sysconf("SC_CLK_TCK")
    import psutil

    return psutil.Process(pid).create_time()


def this_writer() -> str:
    """The name of this process: its number and when it began."""
    return _identity(os.getpid())


def is_alive(writer: str) -> bool:
    """Whether the process called ``writer`` still runs on this machine."""
    import psutil  # most answers that are read are finished

    pid, _separator, began = writer.partition("@")
    try:
        process = psutil.Process(int(pid))
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - float(began)) <= _CLOCK_TOLERANCE_S
        )
    except (psutil.Error, ValueError):
        return False
