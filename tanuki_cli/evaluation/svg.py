"""Pictures for reports: bars, points, intervals and radars as SVG, without a library.

The same figures give the same bytes. A figure that is not finite has no mark, only a label.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.canvas import INK, MARGIN, PALE, WIDTH, Canvas, figure, text_width
from tanuki_cli.files import os_reason, write_atomically
from tanuki_cli.i18n import _

_ROW: Final = 28.0
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
"""Told apart by colour-blind people, too (Okabe and Ito)."""
_HEIGHT: Final = re.compile(r'height="(\d+)"')


class Bar(Struct, frozen=True, kw_only=True):
    """A value from zero on, with its standard error."""

    label: str
    value: float
    error: float | None = None


class Point(Struct, frozen=True, kw_only=True):
    """A point of a scatter plot; ``y_error`` is a standard error."""

    label: str
    x: float
    y: float
    y_error: float | None = None


class Interval(Struct, frozen=True, kw_only=True):
    """An estimate between its bounds."""

    label: str
    value: float
    low: float
    high: float


class Series(Struct, frozen=True, kw_only=True):
    """One polygon of a radar, a value for every axis."""

    label: str
    values: tuple[float, ...]


def bar_chart(title: str, bars: Sequence[Bar], *, axis: str = "") -> str:
    """Horizontal bars, one a row, each with its error mark. ``axis`` says what is measured."""
    ends = [bar.value + (bar.error or 0) for bar in bars]
    scale = _Scale.linear([0.0, *ends])
    canvas, plot = _rows(title, [bar.label for bar in bars], scale, axis)
    for index, bar in enumerate(bars):
        y = plot.row(index)
        if math.isfinite(bar.value):
            start, end = sorted((plot.x(0.0), plot.x(bar.value)))
            canvas.rectangle(start, y - 8, end - start, 16, _COLOURS[0])
            if bar.error is not None and math.isfinite(bar.error):
                canvas.whisker(plot.x(bar.value - bar.error), plot.x(bar.value + bar.error), y, INK)
        canvas.text(plot.right + 8, y + 4, figure(bar.value))
    return canvas.finished()


def interval_plot(
    title: str, intervals: Sequence[Interval], *, axis: str = "", reference: float | None = None
) -> str:
    """Estimates with their intervals, one a row; ``reference`` is a value to mark by a line."""
    values = [value for one in intervals for value in (one.low, one.value, one.high)]
    scale = _Scale.linear([*values, *([] if reference is None else [reference])])
    canvas, plot = _rows(title, [one.label for one in intervals], scale, axis)
    if reference is not None:
        canvas.line(plot.x(reference), plot.top, plot.x(reference), plot.bottom, INK, dashed=True)
    for index, one in enumerate(intervals):
        y = plot.row(index)
        if math.isfinite(one.low) and math.isfinite(one.high):
            canvas.whisker(plot.x(one.low), plot.x(one.high), y, _COLOURS[0])
        if math.isfinite(one.value):
            canvas.dot(plot.x(one.value), y, _COLOURS[0])
        canvas.text(plot.right + 8, y + 4, figure(one.value))
    return canvas.finished()


def scatter(title: str, points: Sequence[Point], *, x_axis: str, y_axis: str, log_y: bool = False) -> str:
    """Named points; with ``log_y`` those of no positive height stand at the bottom."""
    height = 420.0
    heights = [point.y + (point.y_error or 0) for point in points] + [point.y for point in points]
    across = _Scale.linear([0.0, *(point.x for point in points)])
    up = _Scale.logarithmic(heights) if log_y else _Scale.linear([0.0, *heights])
    canvas = Canvas(title, height)
    left, right, top, bottom = MARGIN + 64, WIDTH - MARGIN - 90, 64.0, height - 56

    def place_x(value: float) -> float:
        return left + across.share(value) * (right - left)

    def place_y(value: float) -> float:
        return bottom - up.share(value) * (bottom - top)

    for tick in across.ticks:
        canvas.line(place_x(tick), top, place_x(tick), bottom, PALE)
        canvas.text(place_x(tick), bottom + 18, figure(tick), anchor="middle")
    for tick in up.ticks:
        canvas.line(left, place_y(tick), right, place_y(tick), PALE)
        canvas.text(left - 8, place_y(tick) + 4, figure(tick), anchor="end")
    canvas.text((left + right) / 2, bottom + 40, x_axis, anchor="middle")
    canvas.text(MARGIN, top - 14, y_axis)
    for index, point in enumerate(points):
        colour = _COLOURS[index % len(_COLOURS)]
        if not (math.isfinite(point.x) and math.isfinite(point.y)):
            continue
        x, y = place_x(point.x), place_y(point.y)
        if point.y_error is not None and math.isfinite(point.y_error):
            low, high = place_y(point.y - point.y_error), place_y(point.y + point.y_error)
            canvas.line(x, low, x, high, colour)
        canvas.dot(x, y, colour)
        canvas.text(x + 8, y - 6, point.label)
    return canvas.finished()


def radar(title: str, axes: Sequence[str], series: Sequence[Series], *, maximum: float) -> str:
    """Polygons around a centre of 0, the axes clockwise from the top; a missing value counts as 0."""
    height = 470.0 + 20 * len(series)
    canvas = Canvas(title, height)
    centre_x, centre_y, radius = WIDTH / 2, 250.0, 160.0
    angles = [2 * math.pi * index / max(len(axes), 1) for index in range(len(axes))]

    def place(angle: float, value: float) -> tuple[float, float]:
        share = min(max(value, 0.0), maximum) / maximum if math.isfinite(value) and maximum > 0 else 0.0
        return centre_x + radius * share * math.sin(angle), centre_y - radius * share * math.cos(angle)

    for tick in _Scale.linear([0.0, maximum]).ticks:
        if 0 < tick <= maximum:
            canvas.polygon([place(angle, tick) for angle in angles], PALE)
            canvas.text(centre_x + 4, centre_y - radius * tick / maximum + 12, figure(tick))
    for angle, axis in zip(angles, axes, strict=True):
        canvas.line(centre_x, centre_y, *place(angle, maximum), PALE)
        side = math.sin(angle)
        anchor = "middle" if abs(side) < 0.1 else ("start" if side > 0 else "end")
        x, y = centre_x + (radius + 14) * side, centre_y - (radius + 18) * math.cos(angle) + 4
        canvas.text(x, y, axis, anchor=anchor)
    for index, one in enumerate(series):
        colour = _COLOURS[index % len(_COLOURS)]
        corners = [place(angle, value) for angle, value in zip(angles, one.values, strict=True)]
        canvas.polygon(corners, colour, filled=True)
        y = 466.0 + 20 * index
        canvas.rectangle(MARGIN, y - 9, 12, 12, colour)
        canvas.text(MARGIN + 20, y + 1, one.label)
    return canvas.finished()


def stacked(pictures: Sequence[str]) -> str:
    """Pictures of this module below each other, as one."""
    placed, y = [], 0.0
    for picture in pictures:
        placed.append(picture.replace("<svg ", f'<svg y="{y:.0f}" ', 1))
        y += float(_HEIGHT.search(picture)[1])  # type: ignore[index]  # all of ours have one
    size = f'width="{WIDTH:.0f}" height="{y:.0f}" viewBox="0 0 {WIDTH:.0f} {y:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{"".join(placed)}</svg>\n'


class _Scale(Struct, frozen=True, kw_only=True):
    """Maps values to 0…1 and knows where the grid lines go."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    @classmethod
    def linear(cls, values: Iterable[float]) -> "_Scale":
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        if high <= low:
            low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
        raw = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(round(index * step, 12) for index in range(first, last + 1))
        return cls(low=ticks[0], high=ticks[-1], ticks=ticks)

    @classmethod
    def logarithmic(cls, values: Iterable[float]) -> "_Scale":
        positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
        first = math.floor(math.log10(min(positive)) + 1e-9)
        last = max(math.ceil(math.log10(max(positive)) - 1e-9), first + 1)
        ticks = tuple(10.0**power for power in range(first, last + 1))
        return cls(low=float(first), high=float(last), ticks=ticks, log=True)

    def share(self, value: float) -> float:
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


class _Plot(Struct, frozen=True, kw_only=True):
    """Where the rows of a plot lie."""

    scale: _Scale
    left: float
    right: float
    top: float
    bottom: float

    def x(self, value: float) -> float:
        return self.left + self.scale.share(value) * (self.right - self.left)

    def row(self, index: int) -> float:
        return self.top + (index + 0.5) * _ROW


def _rows(title: str, labels: Sequence[str], scale: _Scale, axis: str) -> tuple[Canvas, _Plot]:
    """A canvas with a grid, and a labelled row for each of ``labels``."""
    top = 48.0
    bottom = top + _ROW * len(labels)
    canvas = Canvas(title, bottom + (64 if axis else 40))
    widest = max([text_width(label) for label in labels], default=0.0)
    left = MARGIN + min(widest, WIDTH / 2) + 10
    plot = _Plot(scale=scale, left=left, right=WIDTH - MARGIN - 70, top=top, bottom=bottom)
    for tick in scale.ticks:
        canvas.line(plot.x(tick), top, plot.x(tick), bottom, PALE)
        canvas.text(plot.x(tick), bottom + 18, figure(tick), anchor="middle")
    if axis:
        canvas.text((plot.left + plot.right) / 2, bottom + 42, axis, anchor="middle")
    for index, label in enumerate(labels):
        canvas.text(left - 10, plot.row(index) + 4, label, anchor="end")
    return canvas, plot


def write_picture(path: Path, picture: str) -> None:
    """Put ``picture`` into a file. Raises InputError if ``path`` cannot be written."""
    try:
        write_atomically(path, picture)
    except OSError as exc:
        raise InputError(
            _("{path} cannot be written: {reason}").format(path=path, reason=os_reason(exc)),
            hint=_("Check the permissions and the free space of {path}.").format(path=path.parent),
        ) from exc
