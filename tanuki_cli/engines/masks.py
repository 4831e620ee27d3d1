"""What a local backend asks while an answer must keep a shape: which ids may come next."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # numpy is wanted only where there is a mask
    import numpy as np
    import numpy.typing as npt


class LogitsMask(Protocol):
    """The shape of one answer. It goes on with the answer: ids are only ever added.

    The end of the answer (``</s>``) is an id like the others, allowed where the shape is complete.
    Every method raises EngineError for ids that were not allowed.
    """

    def allowed(self, ids: Sequence[int]) -> "npt.NDArray[np.bool_]":
        """Which ids may follow ``ids``, the answer so far: one flag for each row of the vocabulary.

        At least one is set. Valid until the next call.
        """

    def forced(self, ids: Sequence[int]) -> Sequence[int]:
        """The ids that must follow ``ids``, the answer so far; empty where there is a choice."""

    def agreed(self, ids: Sequence[int], draft: Sequence[int]) -> int:
        """How many of ``draft`` may follow ``ids``, one after another."""
