"""Whether an array of floats holds numbers only, without importing numpy for it."""

import ctypes
import math
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from tanuki_cli.engines.llama_cpp.bindings import native

_EXPONENT_BYTE: Final = 3 if sys.byteorder == "little" else 0
_Squares = Callable[[Any, int], float]


def are_finite(floats: Any, count: int) -> bool:
    """Whether the first ``count`` of the C array ``floats`` are neither NaN nor infinite.

    The sum of their squares, by ggml's own kernel, is a number only if all of them are: 7 µs for 65,000,
    where looking at the bytes takes 100 µs. Numbers whose squares are too large are looked at.
    """
    squares = _squares()
    return (squares is not None and math.isfinite(squares(floats, count))) or _look(floats, count)


def _look(floats: Any, count: int) -> bool:
    """The byte of a float that holds the upper part of its exponent is all ones only in NaN, infinity and
    numbers beyond 1e38."""
    exponents = ctypes.string_at(floats, 4 * count)[_EXPONENT_BYTE::4]
    return b"\x7f" not in exponents and b"\xff" not in exponents


@lru_cache(maxsize=1)
def _squares() -> _Squares | None:
    """The sum of the squares of a C array of floats; None where this build of ggml does not offer it."""
    try:
        dot = native._lib.ggml_vec_dot_f32  # not in a header: found in the builds that were tried
    except AttributeError:
        return None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    dot.argtypes = [ctypes.c_int, pointer, size, pointer, size, pointer, size, ctypes.c_int]
    dot.restype = None

    def squares(floats: Any, count: int) -> float:
        total = ctypes.c_float(math.nan)
        dot(count, ctypes.byref(total), 0, floats, 0, floats, 0, 1)
        return total.value

    return squares if squares((ctypes.c_float * 3)(1, 2, 3), 3) == 14 else None
