"""Halves of characters that come one after the other."""

from hypothesis import given
from hypothesis import strategies as st

from tanuki_cli.text.surrogates import SurrogateJoiner


@given(st.text(alphabet="aあ👍🏽𠮷"), st.data())
def test_text_cut_between_its_utf_16_units_is_whole_again(text: str, data: st.DataObject) -> None:
    units = text.encode("utf-16-be")
    halves = [
        units[index : index + 2].decode("utf-16-be", "surrogatepass") for index in range(0, len(units), 2)
    ]
    joiner = SurrogateJoiner()
    joined = ""
    while halves:
        size = data.draw(st.integers(1, len(halves)))
        joined += joiner.feed("".join(halves[:size]))
        halves = halves[size:]
    assert joined + joiner.finish() == text


def test_a_half_that_stays_alone_is_replaced() -> None:
    joiner = SurrogateJoiner()
    assert joiner.feed("a\ud83d") == "a"
    assert joiner.feed("b\udc4d") == "\ufffdb\ufffd"
    assert joiner.feed("c\ud83d") == "c"
    assert joiner.finish() == "\ufffd"
    assert joiner.finish() == ""
