"""llama.cpp's samplers on logits that another library computed."""

import ctypes
from typing import Any, Final

import numpy as np

from tanuki_cli.engines.llama_cpp.bindings import native
from tanuki_cli.engines.llama_cpp.llama_h import set_fields
from tanuki_cli.engines.llama_cpp.ties import as_array

_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """The tokens to choose from, one for each of ``n_vocab`` rows."""

    def __init__(self, n_vocab: int) -> None:
        assert _CANDIDATE.itemsize == ctypes.sizeof(native.llama_token_data)
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._rows = np.zeros(n_vocab, _CANDIDATE)
        self._array = native.llama_token_data_array()

    def choose(self, chain: int, logits: Any) -> int:
        """What the samplers of ``chain`` choose by the C array ``logits``."""
        rows = self._rows
        rows["id"], rows["logit"] = self._ids, as_array(logits, len(rows))
        data = rows.ctypes.data_as(ctypes.POINTER(native.llama_token_data))
        set_fields(self._array, {"data": data, "size": len(rows), "selected": -1, "sorted": False})
        native.llama_sampler_apply(chain, ctypes.byref(self._array))
        return int(self._array.data[self._array.selected].id)  # a sampler may have put others in place
