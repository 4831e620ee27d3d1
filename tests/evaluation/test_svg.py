"""Pictures: well-formed, the marks where the figures are, the same bytes for the same figures."""

import math
from xml.etree import ElementTree

import pytest

from tanuki_cli.evaluation.svg import Bar, Interval, Point, Series, bar_chart, interval_plot, radar, scatter

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>x</script> & \"'\x00\x1b[31m\ud800 たぬき"


def picture(kind: str, label: str, value: float) -> str:
    pictures = {
        "bars": lambda: bar_chart(label, [Bar(label=label, value=value, error=value)], axis=label),
        "intervals": lambda: interval_plot(
            label, [Interval(label=label, value=value, low=value, high=value)], axis=label, reference=1.0
        ),
        "scatter": lambda: scatter(
            label, [Point(label=label, x=value, y=value, y_error=value)], x_axis=label, y_axis=label
        ),
        "log scatter": lambda: scatter(
            label, [Point(label=label, x=1, y=value)], x_axis=label, y_axis=label, log_y=True
        ),
        "radar": lambda: radar(label, [label] * 3, [Series(label=label, values=(value,) * 3)], maximum=10),
        "empty bars": lambda: bar_chart(label, []),
    }
    return pictures[kind]()


@pytest.mark.parametrize("kind", ["bars", "intervals", "scatter", "log scatter", "radar", "empty bars"])
@pytest.mark.parametrize("value", [0.0, 1e-12, -3.5, 7e11, math.inf, -math.inf, math.nan])
def test_any_text_and_any_figure_give_a_picture(kind: str, value: float) -> None:
    text = picture(kind, HOSTILE, value)
    root = ElementTree.fromstring(text)
    assert not root.findall(f".//{SVG}script")
    assert root.findall(f".//{SVG}text")[0].text == HOSTILE.translate({0: "�", 0x1B: "�", 0xD800: "�"})
    assert text == picture(kind, HOSTILE, value)
    for element in root.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            assert math.isfinite(float(element.get(name, "0"))), ElementTree.tostring(element)


def test_bars_are_as_long_as_their_values() -> None:
    root = ElementTree.fromstring(
        bar_chart("t", [Bar(label="a", value=2.0, error=0.5), Bar(label="b", value=4.0)])
    )
    _paper, first, second = root.findall(f"{SVG}rect")
    assert float(second.get("width", "")) == pytest.approx(2 * float(first.get("width", "")), abs=0.2)
    ends = [
        float(line.get("x2", "")) for line in root.findall(f"{SVG}line") if line.get("stroke") == "#222222"
    ]
    unit = float(first.get("width", "")) / 2
    assert max(ends) - min(ends) == pytest.approx(unit, abs=0.2)  # twice the error of a half


def test_a_logarithmic_axis_spaces_powers_evenly() -> None:
    points = [Point(label=str(power), x=1, y=10.0**power) for power in (-3, -2, -1)]
    root = ElementTree.fromstring(scatter("t", points, x_axis="x", y_axis="y", log_y=True))
    low, middle, high = (float(dot.get("cy", "")) for dot in root.findall(f"{SVG}circle"))
    assert low - middle == pytest.approx(middle - high, abs=0.2)
    assert low > middle > high


def test_a_radar_begins_at_the_top_and_goes_clockwise() -> None:
    root = ElementTree.fromstring(
        radar("t", ["a", "b", "c", "d"], [Series(label="s", values=(10, 5, 10, 0))], maximum=10)
    )
    polygon = root.findall(f"{SVG}polygon")[-1].get("points", "")
    top, right, bottom, left = (tuple(map(float, corner.split(","))) for corner in polygon.split())
    centre = left
    assert top[1] < centre[1] < bottom[1]
    assert right[0] - centre[0] == pytest.approx((centre[1] - top[1]) / 2)
