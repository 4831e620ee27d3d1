"""Log probabilities out of logits, for every backend the same; and how far two models are apart."""

import numpy as np
import numpy.typing as npt

from tanuki_cli.engines.answers import Token

Logits = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


def log_normalizer(logits: Logits) -> float:
    """What is taken off each of ``logits`` (one per row of the vocabulary) to make it a log probability."""
    numbers = logits.astype(np.float64)
    best = numbers.max()
    return float(best + np.log(np.exp(numbers - best).sum()))


def normalized(logits: Logits | Floats) -> tuple[Floats, Floats]:
    """Log probabilities and probabilities of each row (the last axis is the vocabulary), in float64."""
    log_probs = logits.astype(np.float64)
    log_probs -= log_probs.max(axis=-1, keepdims=True)
    probs = np.exp(log_probs)
    total = probs.sum(axis=-1, keepdims=True)
    log_probs -= np.log(total)
    probs /= total
    return log_probs, probs


def divergences(log_probs: Floats, probs: Floats, others: Floats) -> Floats:
    """KL(model ‖ other) of each row in nats: what the model says, as :func:`normalized` gives it, against the
    log probabilities ``others``, whose memory is used and holds something else afterwards."""
    if np.isneginf(min(others.min(initial=0.0), log_probs.min(initial=0.0))):
        with np.errstate(invalid="ignore"):  # −∞ less −∞ where both rule an id out
            difference = np.where(probs > 0, log_probs - others, 0.0)
    else:
        difference = np.subtract(log_probs, others, out=others)
    rows: Floats = np.einsum("rv,rv->r", probs, difference)
    return rows


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
