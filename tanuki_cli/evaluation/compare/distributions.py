"""The reference's distributions on disk, for models that do not fit into memory together.

One file for each passage: a header, then a record for each scored place with the target's negative log
probability and the likeliest id as they are, and the whole distribution in 2 bytes an id: 130 kB a place
with Tanuki's 65,024 ids. With x ≥ 0 the distance of an id's log probability from the largest of its row
and r the largest such distance, the code is round(65534 · √(x/r)), so that steps are small where the
probability is, and a row is normalised again when it is read. 65535 stands for −∞.

The error of that, for rows of up to 60 nats: perplexities, Δp and top-1 have none. A place's divergence is
off by chance in either direction, so that a mean over n places is off by less than 1e-8 + 1e-4 · √(mean/n):
5e-8 for a mean of 1e-3 over 5,000. A model's divergence from itself is about 1e-9 instead of 0. The file
of llama.cpp's perplexity tool, 16 bits in equal steps within 16 nats and not normalised, moved single places
by up to 5e-5 where f16 was held against f32 (practice model, 2,794 places), ten times the mean itself.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tanuki_cli.engines.probabilities import normalized
from tanuki_cli.evaluation.compare.divergence import ReferenceRows
from tanuki_cli.files import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC: Final = b"TNKD\x01\0\0\0"
_HEADER: Final = struct.Struct("<8sII")
_STEPS: Final = 65534
_NEVER: Final = 65535
_FIXED_BYTES: Final = 16


def bytes_needed(places: int, vocabulary: int) -> int:
    """How large the records of so many places are."""
    return places * (_FIXED_BYTES + 2 * vocabulary)


def write_distributions(path: Path, blocks: Iterable[ReferenceRows], *, places: int, vocabulary: int) -> None:
    """Write the rows of a passage as they come; the file appears under its name when it is whole.

    Raises OSError, and whatever ``blocks`` raises; then nothing is left of it.
    """
    record = _record(vocabulary)
    with replacing(path, durable=False) as file:
        file.write(_HEADER.pack(_MAGIC, places, vocabulary))
        for rows in blocks:
            file.write(_encoded(rows, record).tobytes())


def is_whole(path: Path, *, places: int, vocabulary: int) -> bool:
    """Whether ``path`` holds exactly so many places."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
        size = path.stat().st_size
    except OSError:
        return False
    expected = _HEADER.pack(_MAGIC, places, vocabulary)
    return head == expected and size == _HEADER.size + bytes_needed(places, vocabulary)


def read_distributions(path: Path, *, rows: int) -> Iterator[ReferenceRows]:
    """The rows of a passage, at most ``rows`` at a time. Raises OSError; the file must be whole."""
    with path.open("rb") as file:
        _magic, places, vocabulary = _HEADER.unpack(file.read(_HEADER.size))
        record = _record(vocabulary)
        for start in range(0, places, rows):
            count = min(rows, places - start)
            data = np.frombuffer(file.read(count * record.itemsize), dtype=record)
            yield _decoded(data)


def _record(vocabulary: int) -> "np.dtype[Any]":
    return np.dtype([("range", "<f4"), ("top", "<i4"), ("nll", "<f8"), ("codes", "<u2", (vocabulary,))])


def _encoded(rows: ReferenceRows, record: "np.dtype[Any]") -> "NDArray[Any]":
    distance = rows.log_probs.max(axis=-1, keepdims=True) - rows.log_probs
    finite = np.isfinite(distance)
    largest = np.where(finite, distance, 0.0).max(axis=-1, keepdims=True)
    largest = np.where(largest > 0, largest, 1.0).astype(np.float32)
    share = np.where(finite, distance, 0.0) / largest
    data = np.empty(len(distance), dtype=record)
    data["range"] = largest[:, 0]
    data["top"], data["nll"] = rows.top, rows.nll
    codes = np.minimum(np.rint(_STEPS * np.sqrt(share)), _STEPS)
    data["codes"] = np.where(finite, codes, _NEVER).astype(np.uint16)
    return data


def _decoded(data: "NDArray[Any]") -> ReferenceRows:
    codes = data["codes"]
    distance = np.square(codes / _STEPS)
    distance *= data["range"].astype(np.float64)[:, None]
    distance[codes == _NEVER] = np.inf
    log_probs, probs = normalized(np.negative(distance, out=distance))
    nll, top = data["nll"].astype(np.float64), data["top"].astype(np.int32)
    return ReferenceRows(log_probs=log_probs, probs=probs, nll=nll, top=top)
