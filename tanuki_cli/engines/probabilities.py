"""Log probabilities out of logits, for every backend the same."""

import numpy as np
import numpy.typing as npt

from tanuki_cli.engines.answers import Token

Logits = npt.NDArray[np.float32]


def log_normalizer(logits: Logits) -> float:
    """What is taken off each of ``logits`` (one per row of the vocabulary) to make it a log probability."""
    numbers = logits.astype(np.float64)
    best = numbers.max()
    return float(best + np.log(np.exp(numbers - best).sum()))


class Probabilities:
    """What the model thinks of the next token: ``logits``, one per row of the vocabulary, not copied.

    The ``count`` likeliest ids are found at once, so that what a mask forbids later still shows.
    """

    def __init__(self, logits: Logits, count: int) -> None:
        self._logits = logits
        self._normalizer = log_normalizer(logits)
        count = min(count, len(logits))
        likeliest = np.argpartition(logits, -count)[-count:] if count else ()
        # Equal ones by id, so that the order never depends on the machine.
        ordered = sorted((-float(logits[id_]), int(id_)) for id_ in likeliest)
        self._alternatives = tuple((id_, -negative - self._normalizer) for negative, id_ in ordered)

    def token(self, id_: int) -> Token:
        """``id_`` with its log probability, and the alternatives."""
        return Token(id_, float(self._logits[id_]) - self._normalizer, self._alternatives)
