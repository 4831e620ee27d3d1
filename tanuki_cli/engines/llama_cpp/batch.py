"""What one decode computes: ids, with their places in the sequences they belong to."""

import ctypes
from collections.abc import Sequence
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.llama_h import Kernels

_MOST: Final = 1 << 20
"""Longer than any batch: C arrays of so many entries are only looked at, never made."""


class Batch:
    """Room for ``size`` ids. Filled anew for every decode: :meth:`clear`, then :meth:`add`."""

    def __init__(self, size: int, functions: Kernels) -> None:
        self._functions = functions
        self.native = functions.llama_batch_init(size, 0, 1)
        # Looked up once: each use of a field of the structure makes a new object.
        self._tokens = _array(self.native.token, ctypes.c_int32)
        self._positions = _array(self.native.pos, ctypes.c_int32)
        self._outputs = _array(self.native.logits, ctypes.c_int8)
        self._sequences = [self.native.seq_id[index] for index in range(size)]
        for index in range(size):
            self.native.n_seq_id[index] = 1

    @property
    def size(self) -> int:
        """How many ids are in it."""
        return int(self.native.n_tokens)

    def clear(self) -> None:
        """Take everything out."""
        self.native.n_tokens = 0

    def add(self, ids: Sequence[int], position: int, *, sequence: int = 0, outputs: int = 1) -> int:
        """Add ``ids`` of ``sequence`` from ``position`` on; the last ``outputs`` keep their logits.

        Returns the index of the first of them in the batch, which is what its logits are asked for by.
        """
        first, count = int(self.native.n_tokens), len(ids)
        if count == 1:  # an answer's newest id: the most common by far
            self._tokens[first] = ids[0]
            self._positions[first] = position
            self._outputs[first] = outputs
            self._sequences[first][0] = sequence
        else:
            end = first + count
            self._tokens[first:end] = ids
            self._positions[first:end] = range(position, position + count)
            self._outputs[first:end] = [0] * (count - outputs) + [1] * outputs
            for place in self._sequences[first:end]:
                place[0] = sequence
        self.native.n_tokens = first + count
        return first

    def close(self) -> None:
        """Free it."""
        self._functions.llama_batch_free(self.native)


def _array(pointer: Any, kind: Any) -> Any:
    """The C array at ``pointer``, as one that takes slices."""
    return ctypes.cast(pointer, ctypes.POINTER(kind * _MOST)).contents
