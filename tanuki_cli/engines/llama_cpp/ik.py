"""ik_llama.cpp, a fork of llama.cpp with kernels of its own for CPUs, behind the functions of llama.h.

It left llama.cpp in 2024: functions have older names, and failures other ways. What is not used of it:

- Flash attention: numbers that are none, as damaged weights give them, end the process there.
- Its samplers: llama.cpp's choose from its logits.

Sequences share one cache. It must have no gaps when something is computed: :meth:`IkFunctions.close_gaps`.

The structures are those of the one version that was tried; see CONTRIBUTING.md.
"""

import ctypes
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.bindings import load_functions
from tanuki_cli.engines.llama_cpp.builds import Build, ContextParams
from tanuki_cli.engines.llama_cpp.facts import ModelFacts
from tanuki_cli.engines.llama_cpp.ik_package import NAME, OTHERWISE, PACKAGE, build_version
from tanuki_cli.engines.llama_cpp.log import log
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _

_ROWS_AT_ONCE: Final = 16
_INVALID: Final = -1
_NOTHING_COMPUTED: Final = -3
_UNTOUCHED: Final = 0x7FC0DEAD
"""A float that is no number, and none that computing gives."""
_CPU_COSTS: Final[Mapping[int, float]] = {1: 1.0, 2: 1.3, 3: 1.7, 5: 2.4, 8: 3.7, 16: 7.9, 32: 14.0}
"""On two cores, 8B, Q4_K_M, weights as they lie in the file; less with rearranged ones."""


@lru_cache(maxsize=1)
def load_ik() -> Build:
    """The library, its log taken over. Raises EngineError where it is missing, or not for this machine."""
    version = build_version()
    try:
        functions = IkFunctions(load_functions(PACKAGE, "_ctypes_api"))
    except (ImportError, OSError, AttributeError) as exc:
        raise EngineError(
            _("ik_llama.cpp cannot be loaded: {reason}").format(reason=exc), hint=OTHERWISE
        ) from exc
    log.take_over(functions)
    return Build(
        name=NAME,
        version=version,
        functions=functions,
        model_fields=_model_fields,
        context_fields=_context_fields,
        kv_types=("f16",),
        on_gpus=False,
        has_streams=False,
        close_gaps=functions.close_gaps,
        repacks_in_place=True,
        cpu_costs=_CPU_COSTS,
        admits=_admits,
    )


def _admits(facts: ModelFacts) -> bool:
    """It ends the process where the rows of a matrix are no multiple of those that it computes at once, and
    writes a warning to stderr for an array of nothing."""
    return facts.row_groups % _ROWS_AT_ONCE == 0 and not facts.has_empty_arrays


def _model_fields(repack: bool) -> Mapping[str, object]:
    return {"repack_tensors": repack, "use_mmap": not repack}


def _context_fields(params: ContextParams) -> Mapping[str, object]:
    assert not params.flash_attention
    # It makes room for the logits of as many positions as there are sequences.
    return {"n_seq_max": params.max_outputs, "flash_attn": False}


class _CacheView(ctypes.Structure):
    """llama_kv_cache_view."""

    _fields_ = (
        ("n_cells", ctypes.c_int32),
        ("n_seq_max", ctypes.c_int32),
        ("token_count", ctypes.c_int32),
        ("used_cells", ctypes.c_int32),
        ("max_contiguous", ctypes.c_int32),
        ("max_contiguous_idx", ctypes.c_int32),
        ("cells", ctypes.c_void_p),
        ("cells_sequences", ctypes.c_void_p),
    )


class IkFunctions:
    """Implements :class:`~tanuki_cli.engines.llama_cpp.llama_h.Kernels` on ``api``, the package's own
    module of C functions, and on those of the library that it leaves out."""

    LLAMA_KV_OVERRIDE_TYPE_INT = 0
    LLAMA_KV_OVERRIDE_TYPE_STR = 3
    llama_token = ctypes.c_int32

    def __init__(self, api: Any) -> None:
        pointer, number, place = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32

        def function(name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(api._lib, name)
            found.restype, found.argtypes = result, list(arguments)
            return found

        self.llama_model_kv_override = api.llama_model_kv_override
        self.llama_log_callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)
        self.llama_progress_callback = api.llama_progress_callback
        self.ggml_abort_callback = api.ggml_abort_callback
        self.llama_backend_init = api.llama_backend_init
        self.llama_log_set = function("llama_log_set", None, self.llama_log_callback, pointer)
        self.llama_model_default_params = api.llama_model_default_params
        self.llama_model_load_from_file = api.llama_model_load_from_file
        self.llama_model_free = api.llama_free_model
        self.llama_context_default_params = api.llama_context_default_params
        self.llama_init_from_model = api.llama_init_from_model
        self.llama_free = api.llama_free
        self.llama_n_ctx = function("llama_n_ctx", ctypes.c_uint32, pointer)
        self.llama_set_n_threads = function(
            "llama_set_n_threads", None, pointer, ctypes.c_uint32, ctypes.c_uint32
        )
        self.llama_set_abort_callback = function(
            "llama_set_abort_callback", None, pointer, self.ggml_abort_callback, pointer
        )
        self.llama_batch_init = api.llama_batch_init
        self.llama_batch_free = api.llama_batch_free
        self.llama_get_logits_ith = api.llama_get_logits_ith
        self.llama_memory_seq_rm = function(
            "llama_kv_cache_seq_rm", ctypes.c_bool, pointer, place, place, place
        )
        self.llama_memory_seq_pos_max = function("llama_kv_cache_seq_pos_max", place, pointer, place)
        self.llama_memory_seq_cp = function(
            "llama_kv_cache_seq_cp", None, pointer, place, place, place, place
        )
        self.llama_state_seq_save_file = function(
            "llama_state_seq_save_file", number, pointer, ctypes.c_char_p, place, pointer, number
        )
        self.llama_state_seq_load_file = function(
            "llama_state_seq_load_file",
            number,
            pointer,
            ctypes.c_char_p,
            place,
            pointer,
            number,
            ctypes.POINTER(number),
        )
        self._state_size = function("llama_state_seq_get_size", number, pointer, place, ctypes.c_uint32)
        self._clear = api.llama_kv_cache_clear
        self._defragment = function("llama_kv_cache_defrag", None, pointer)
        self._update = function("llama_kv_cache_update", place, pointer)
        view = ctypes.POINTER(_CacheView)
        self._view = function("llama_kv_cache_view_init", _CacheView, pointer, place)
        self._look = function("llama_kv_cache_view_update", None, pointer, view)
        self._forget_view = function("llama_kv_cache_view_free", None, view)
        self._model = function("llama_get_model", pointer, pointer)
        self._n_vocab = function("llama_n_vocab", place, pointer)
        self._decode = api.llama_decode
        self._logits = function("llama_get_logits", ctypes.POINTER(ctypes.c_uint32), pointer)

    def llama_get_memory(self, ctx: int) -> int | None:
        """The cache is part of the context."""
        return ctx

    def llama_memory_clear(self, mem: int | None, data: bool) -> None:
        """It always overwrites what was in it."""
        assert data
        self._clear(mem)

    def close_gaps(self, ctx: int) -> bool:
        """Move what is in the cache together. Computations look at the places up to the last one taken, and
        to find that the library tries every 32nd only: beyond a gap it may see nothing. Not to be stopped:
        what was not moved then would be taken for moved."""
        view = self._view(ctx, 1)
        try:
            # A call moves what some hundred steps do, and at least something.
            for _call in range(self.llama_n_ctx(ctx)):
                self._look(ctx, ctypes.byref(view))
                if view.max_contiguous == view.n_cells - view.used_cells:
                    return True
                self._defragment(ctx)
                if self._update(ctx):
                    break
            return False
        finally:
            self._forget_view(ctypes.byref(view))

    def llama_state_seq_get_size(self, ctx: int, seq_id: int) -> int:
        """All of the state."""
        return int(self._state_size(ctx, seq_id, 0))

    def llama_decode(self, ctx: int, batch: Any) -> int:
        """As llama.cpp's. The library's own takes any number for an id, and reads from there. Of a
        computation that failed or was stopped it says nothing, and leaves the logits of an earlier one: so
        there is always an output, which is seen to be written."""
        count = batch.n_tokens
        ids = batch.token[:count]
        if not 0 <= min(ids) <= max(ids) < self._n_vocab(self._model(ctx)):
            return _INVALID
        if not any(batch.logits[:count]):
            batch.logits[count - 1] = 1
        logits = self._logits(ctx)
        logits[0] = _UNTOUCHED
        status = int(self._decode(ctx, batch))
        return status or (_NOTHING_COMPUTED if self._logits(ctx)[0] == _UNTOUCHED else 0)
