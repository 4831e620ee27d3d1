"""Which process is writing an answer, and whether it still lives.

An unfinished answer belongs to its writer. One whose writer is gone was interrupted; that is said
when it is read, and never written into the row: nobody touches the row of another process.
"""

import os
from functools import lru_cache
from typing import Final

import psutil

# A process's start time is computed from the clock, which may have been set since.
_CLOCK_TOLERANCE_S: Final = 60


@lru_cache(maxsize=1)
def _identity(pid: int) -> str:
    return f"{pid}@{psutil.Process(pid).create_time():.0f}"


def this_writer() -> str:
    """The name of this process: its number and when it began."""
    return _identity(os.getpid())


def is_alive(writer: str) -> bool:
    """Whether the process called ``writer`` still runs on this machine."""
    pid, _separator, began = writer.partition("@")
    try:
        process = psutil.Process(int(pid))
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - float(began)) <= _CLOCK_TOLERANCE_S
        )
    except (psutil.Error, ValueError):
        return False
