"""A machine as slow as a script says, by a clock of its own, on which llama.cpp's contexts compute."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from tanuki_cli.engines.llama_cpp import calibration
from tanuki_cli.engines.llama_cpp.native import Context, DecodeAborted

_ASKED: Final = 100
"""How often it is asked whether to go on, while something is computed that may be broken off."""


class SlowMachine:
    """A batch takes ``step_s`` for the first id and a third of it for each other one; from the moment
    ``busy_at`` on so many ``times`` as long. ``longest_s`` is the most that passed without asking,
    since the last of the ``deadlines`` was announced."""

    def __init__(self, *, step_s: float, busy_at: float = 0.0, times: float = 1.0) -> None:
        self.now = 0.0
        self.longest_s = 0.0
        self.deadlines: list[float] = []
        self._step_s = step_s
        self._busy_at = busy_at
        self._times = times

    def clock(self) -> float:
        """Its time, which never stands still."""
        self.now += 1e-6
        return self.now

    def announce(self, seconds: int) -> None:
        """Note by when measuring, which begins now, is to be over."""
        self.deadlines.append(self.now + seconds)
        self.longest_s = 0.0

    def pass_for(self, count: int, should_stop: Callable[[], bool] | None) -> None:
        """Let the time of a batch of ``count`` pass."""
        parts = _ASKED if should_stop else 1
        for _part in range(parts):
            if should_stop is not None and should_stop():
                raise DecodeAborted
            slower = self._times if self.now >= self._busy_at else 1.0
            seconds = slower * self._step_s * (1 + (count - 1) / 3) / parts
            self.longest_s = max(self.longest_s, seconds)
            self.now += seconds

    def compute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on what is measured is computed here."""
        machine = self

        class Slow(Context):
            def decode(
                self,
                ids: Any,
                position: int,
                *,
                should_stop: Callable[[], bool] | None = None,
                **options: Any,
            ) -> None:
                machine.pass_for(len(ids), should_stop)
                super().decode(ids, position, **options)

        monkeypatch.setattr(calibration, "Context", Slow)
