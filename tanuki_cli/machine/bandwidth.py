"""How fast this machine reads its memory, which is what the speed of a model on a CPU depends on."""

import threading
import time
from functools import cache
from typing import Final

_SECONDS: Final = 0.1
_ARRAY_BYTES: Final = 32 << 20
"""More than fits the caches, with its copy."""
_MOST_THREADS: Final = 4
"""A few cores use all there is."""


@cache
def memory_bandwidth(cores: int) -> float:
    """Bytes per second that ``cores`` move while they copy, measured once, in a fraction of a second."""
    count = max(1, min(cores, _MOST_THREADS))
    copied = [0.0] * count
    ready = threading.Barrier(count)
    threads = [threading.Thread(target=_copy, args=(ready, copied, index)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 2 * sum(copied)  # what is read, and what is written


def _copy(ready: threading.Barrier, copied: list[float], index: int) -> None:
    import numpy as np  # what measures nothing does without it

    source = np.ones(_ARRAY_BYTES // 8, dtype=np.int64)
    target = source.copy()
    ready.wait()
    start, rounds = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < _SECONDS:
        np.copyto(target, source)
        rounds += 1
    copied[index] = rounds * _ARRAY_BYTES / passed
