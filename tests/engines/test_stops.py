"""Stop texts are found however the stream is cut, and nothing of them is ever shown."""

from hypothesis import given
from hypothesis import strategies as st

from tanuki_cli.engines.stops import OWN_STOP, StopMatcher

TEXT = st.text(alphabet="ab\n# 指示:", max_size=60)


def run(stops: list[str], parts: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(part) for part in parts)
    return shown + matcher.flush(), matcher.stopped


@given(
    text=TEXT, stops=st.lists(st.text(alphabet="ab\n#", min_size=1, max_size=4), max_size=3), data=st.data()
)
def test_the_cut_of_the_stream_does_not_matter(text: str, stops: list[str], data: st.DataObject) -> None:
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    expected = text[: min(found)] if found else text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown, stopped = run(stops, parts)
    if len(stops) <= 1:
        assert (shown, stopped) == (expected, bool(found))
    # With several stop texts a shorter one may complete before a longer one that began earlier.
    assert stopped == bool(found)
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)


def test_text_that_cannot_become_a_stop_is_shown_at_once() -> None:
    matcher = StopMatcher([OWN_STOP])
    assert matcher.feed("こんにちは") == "こんにちは"
    assert matcher.feed("。\n\n### ") == "。"
    assert matcher.feed("見出し") == "\n\n### 見出し"


def test_own_turn_ends_the_answer() -> None:
    assert run([OWN_STOP], ["はい。", "\n\n", "### 指", "示:\n次は"]) == ("はい。", True)


def test_empty_stops_never_match() -> None:
    assert run([""], ["abc"]) == ("abc", False)
