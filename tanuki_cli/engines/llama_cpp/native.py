"""llama.cpp's C interface, as far as one model and one context need it.

Nothing here knows prompts, sampling or users. Everything native is freed by ``close()``.
"""

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.batch import Batch
from tanuki_cli.engines.llama_cpp.bindings import VERSION, native
from tanuki_cli.engines.llama_cpp.builds import KV_KINDS, LLAMA_CPP, Build, ContextParams
from tanuki_cli.engines.llama_cpp.finite import are_finite
from tanuki_cli.engines.llama_cpp.llama_h import Kernels, set_fields
from tanuki_cli.engines.llama_cpp.log import log, start
from tanuki_cli.machine.gpus import Gpu

__all__ = [
    "KV_KINDS",
    "VERSION",
    "Context",
    "ContextParams",
    "DecodeAborted",
    "Model",
    "NativeError",
    "gpus",
    "start",
]

_ABORTED: Final = 2
_GPU_TYPES: Final = (1, 2)
"""ggml's device types: a GPU with its own memory, and one that shares the host's."""


class NativeError(Exception):
    """llama.cpp failed; the text is its own explanation, in English, possibly empty."""


class DecodeAborted(Exception):
    """The stop callback asked for it; what the batch was to compute is not whole."""


def gpus() -> list[Gpu]:
    """The GPUs this build can use; none for a build without GPU support."""
    if not native.llama_supports_gpu_offload():
        return []
    lib = native._lib
    lib.ggml_backend_dev_count.restype = ctypes.c_size_t
    lib.ggml_backend_dev_get.restype = ctypes.c_void_p
    lib.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    lib.ggml_backend_dev_description.restype = ctypes.c_char_p
    lib.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
    lib.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    lib.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    lib.ggml_backend_dev_memory.restype = None
    found = []
    for index in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(index)
        if lib.ggml_backend_dev_type(device) not in _GPU_TYPES:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        lib.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = lib.ggml_backend_dev_description(device).decode("utf-8", errors="replace")
        found.append(Gpu(name=name, free_bytes=free.value, total_bytes=total.value))
    return found


class Model:
    """The weights. Raises NativeError if llama.cpp does not load them.

    ``metadata`` is read instead of what the file says under the same keys. ``should_stop`` is asked while
    it loads; when it says yes, that fails. ``build`` computes with them.
    """

    def __init__(
        self,
        path: Path,
        *,
        gpu_layers: int,
        repack: bool,
        metadata: Mapping[str, int | str] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        build: Build = LLAMA_CPP,
    ) -> None:
        self.build = build
        functions = build.functions
        params = functions.llama_model_default_params()
        progress = functions.llama_progress_callback(lambda _progress, _data: log.goes_on(should_stop))
        overrides = _overrides(functions, metadata or {})
        set_fields(
            params,
            {
                "n_gpu_layers": gpu_layers,
                "progress_callback": progress,
                "kv_overrides": overrides,
                **build.model_fields(repack),
            },
        )
        log.errors.clear()
        self.handle = functions.llama_model_load_from_file(os.fsencode(path), params) or 0
        _raise_interrupt(self)
        if not self.handle:
            raise NativeError(_explanation())

    def close(self) -> None:
        """Free the weights; contexts first."""
        if self.handle:
            self.build.functions.llama_model_free(self.handle)
            self.handle = 0


def _overrides(functions: Kernels, metadata: Mapping[str, int | str]) -> Any:
    """A C array of overrides, ended by one without a key."""
    array = (functions.llama_model_kv_override * (len(metadata) + 1))()
    for override, (key, value) in zip(array, metadata.items(), strict=False):
        override.key = key.encode()
        if isinstance(value, str):
            override.tag, override.value.val_str = functions.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()
        else:
            override.tag, override.value.val_i64 = functions.LLAMA_KV_OVERRIDE_TYPE_INT, value
    return array


class Context:
    """A KV cache, and the computation over it. Sequences have numbers from 0. Raises NativeError."""

    def __init__(self, model: Model, params: ContextParams) -> None:
        self.build = model.build
        self._functions = functions = model.build.functions
        settings = functions.llama_context_default_params()
        set_fields(
            settings,
            {
                "n_ctx": params.n_ctx,
                "n_batch": params.n_batch,
                "n_ubatch": params.n_batch,
                "n_threads": params.n_threads,
                "n_threads_batch": params.n_threads_batch,
                "type_k": KV_KINDS[params.kv_type],
                "type_v": KV_KINDS[params.kv_type],
                **model.build.context_fields(params),
            },
        )
        log.errors.clear()
        self._batch = Batch(params.n_batch, functions)
        self.handle = handle = functions.llama_init_from_model(model.handle, settings) or 0
        _raise_interrupt(self)
        if not handle:
            self._batch.close()
            raise NativeError(_explanation())
        self.length = int(functions.llama_n_ctx(handle))
        self.n_batch = params.n_batch
        self.max_outputs = params.max_outputs
        self.n_sequences = params.n_sequences
        self._memory = functions.llama_get_memory(handle)
        self._has_gaps = False
        self._no_abort = functions.ggml_abort_callback()

    def decode(
        self,
        ids: Sequence[int],
        position: int,
        *,
        sequence: int = 0,
        outputs: int = 1,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Compute ``ids`` (at most ``n_batch``) of ``sequence`` from ``position`` on; keep the last
        ``outputs`` logits. ``should_stop`` as in :meth:`decode_batch`.
        """
        self._batch.clear()
        self._batch.add(ids, position, sequence=sequence, outputs=outputs)
        self.decode_batch(self._batch, should_stop=should_stop)

    def decode_batch(self, batch: Batch, *, should_stop: Callable[[], bool] | None = None) -> None:
        """Compute what is in ``batch``, at most ``n_batch`` ids with ``max_outputs`` outputs.

        ``should_stop`` is asked between the steps of the computation, hundreds of times for each
        batch; when it says yes, DecodeAborted is raised. Works on the CPU; a GPU finishes the batch.
        """
        if self._has_gaps:
            if not self.build.close_gaps(self.handle):
                raise NativeError(_explanation())
            self._has_gaps = False
        if should_stop is None:
            status = self._functions.llama_decode(self.handle, batch.native)
        else:
            status = self._decode_with_stop(batch, should_stop)
        log.raise_interrupt()
        if status == _ABORTED:
            raise DecodeAborted
        if status != 0:
            raise NativeError(_explanation() or f"llama_decode: {status}")

    def _decode_with_stop(self, batch: Batch, should_stop: Callable[[], bool]) -> int:
        interrupted: list[BaseException] = []
        stopped = False

        def ask(_data: int) -> bool:
            nonlocal stopped
            # An exception cannot pass through native code: ctypes would print and forget it.
            try:
                stopped = stopped or should_stop()
            except KeyboardInterrupt as exc:
                interrupted.append(exc)
                stopped = True
            return stopped

        callback = self._functions.ggml_abort_callback(ask)
        self._functions.llama_set_abort_callback(self.handle, callback, None)
        try:
            status = self._functions.llama_decode(self.handle, batch.native)
        finally:
            self._functions.llama_set_abort_callback(self.handle, self._no_abort, None)
        if interrupted:
            raise interrupted[0]
        return _ABORTED if stopped else int(status)

    def set_threads(self, threads: int) -> None:
        """Compute with ``threads`` from now on, single ids and batches alike."""
        self._functions.llama_set_n_threads(self.handle, threads, threads)

    def logits(self, index: int) -> Any:
        """A C pointer to the logits, one per token of the vocabulary, of output ``index`` of the newest
        decode (-1: the last). Valid until the next decode."""
        return self._functions.llama_get_logits_ith(self.handle, index)

    def has_finite_logits(self, index: int, count: int) -> bool:
        """Whether the ``count`` logits of output ``index`` are numbers.

        Damaged weights give NaN, and llama.cpp's sampler sorts: with NaN among numbers that may run out
        of the array.
        """
        return are_finite(self._functions.llama_get_logits_ith(self.handle, index), count)

    def trim(self, length: int, *, sequence: int = 0) -> bool:
        """Forget every position of ``sequence`` from ``length`` on. False if all of it had to go."""
        if self._remove(sequence, length):
            return True
        self.forget(sequence)
        return False

    def copy(self, source: int, target: int) -> None:
        """Make ``target`` hold what ``source`` does."""
        self._functions.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def clear(self) -> None:
        """Forget every sequence, and overwrite what they held."""
        self._functions.llama_memory_clear(self._memory, True)

    def state_bytes(self, ids: Sequence[int], *, sequence: int = 0) -> int:
        """At most so much is written by :meth:`save_state`."""
        return 4 * (3 + len(ids)) + int(self._functions.llama_state_seq_get_size(self.handle, sequence))

    def save_state(self, path: Path, ids: Sequence[int], *, sequence: int = 0) -> int:
        """Write the cache of ``sequence``, which holds ``ids``, to ``path``; the bytes written, 0 if that
        failed."""
        tokens = (self._functions.llama_token * len(ids))(*ids)
        return int(
            self._functions.llama_state_seq_save_file(
                self.handle, os.fsencode(path), sequence, tokens, len(ids)
            )
        )

    def load_state(self, path: Path, *, max_ids: int, sequence: int = 0) -> list[int]:
        """Replace the cache of ``sequence`` by the one in ``path``; its ids, or none, and an empty cache,
        if it does not fit."""
        tokens = (self._functions.llama_token * max_ids)()
        count = ctypes.c_size_t(0)
        loaded = self._functions.llama_state_seq_load_file(
            self.handle, os.fsencode(path), sequence, tokens, max_ids, ctypes.byref(count)
        )
        length = self._functions.llama_memory_seq_pos_max(self._memory, sequence) + 1
        if not loaded or length != count.value:
            self.forget(sequence)
            return []
        return list(tokens[: count.value])

    def forget(self, sequence: int) -> None:
        """Forget all of ``sequence``. Alone in the cache it is overwritten too: a place that is free may
        not hold NaN, which would spread from there."""
        if self.n_sequences == 1 or not self._remove(sequence, 0):
            self.clear()

    def _remove(self, sequence: int, start: int) -> bool:
        self._has_gaps = self.n_sequences > 1
        return self._functions.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def close(self) -> None:
        """Free the cache."""
        if self.handle:
            self._batch.close()
            self._functions.llama_free(self.handle)
            self.handle = 0


def _raise_interrupt(made: Model | Context) -> None:
    """Raise the Ctrl-C that came while ``made`` was made, and free it."""
    try:
        log.raise_interrupt()
    except KeyboardInterrupt:
        made.close()
        raise


def _explanation() -> str:
    return log.errors[0] if log.errors else ""
