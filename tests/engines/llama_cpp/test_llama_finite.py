"""NaN and infinity are found wherever they stand, by ggml's kernel and without it."""

import ctypes
import math

import pytest

from tanuki_cli.engines.llama_cpp import finite

COUNT = 1000
PLACES = [0, 1, 7, 8, 31, 32, 511, COUNT - 9, COUNT - 1]
SPOILT = [math.nan, -math.nan, math.inf, -math.inf]


def array(**values: float) -> "ctypes.Array[ctypes.c_float]":
    floats = (ctypes.c_float * COUNT)(*(math.sin(index) * 20 for index in range(COUNT)))
    for place, value in values.items():
        floats[int(place.removeprefix("at"))] = value
    return floats


@pytest.fixture(params=["kernel", "bytes"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "bytes":
        monkeypatch.setattr(finite, "_squares", lambda: None)
    else:
        assert finite._squares() is not None, "the kernel is gone: every token costs 0.1 ms more"


@pytest.mark.parametrize("value", SPOILT)
def test_one_that_is_no_number_is_found_everywhere(value: float) -> None:
    assert [place for place in PLACES if finite.are_finite(array(**{f"at{place}": value}), COUNT)] == []


def test_infinities_of_both_signs_do_not_cancel() -> None:
    assert not finite.are_finite(array(at3=math.inf, at4=-math.inf), COUNT)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-44, 3.4, -1e19, 1e25, -1e37])
def test_numbers_are_numbers_however_large(value: float) -> None:
    assert finite.are_finite(array(at5=value, at6=-value), COUNT)


def test_what_comes_behind_the_count_is_not_looked_at() -> None:
    assert finite.are_finite(array(at10=math.nan), 10)
