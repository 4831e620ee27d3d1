"""How fast something comes in."""

from collections import deque
from collections.abc import Callable
from typing import Final

_WINDOW_S: Final = 15.0


class Speedometer:
    """Bytes per second over the last seconds, from a count that only grows."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def reset(self) -> None:
        """Start anew."""
        self._samples.clear()

    def add(self, count: int) -> None:
        """``count`` bytes have come by now."""
        now = self._clock()
        self._samples.append((now, count))
        while now - self._samples[0][0] > _WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()

    @property
    def speed(self) -> float | None:
        """Bytes per second; None until there is something to tell."""
        if not self._samples:
            return None
        (first, start), (last, end) = self._samples[0], self._samples[-1]
        return (end - start) / (last - first) if last > first and end > start else None
