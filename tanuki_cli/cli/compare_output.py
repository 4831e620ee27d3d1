"""How a comparison is shown to people: a table, a list where the window is narrow, answers side by side."""

import math
from typing import Final

import rich.text

from tanuki_cli.evaluation.compare.answers import AnswerRow, Difference
from tanuki_cli.evaluation.compare.divergence import Divergence, Estimate
from tanuki_cli.evaluation.compare.request import Record
from tanuki_cli.evaluation.compare.results import ALL, Comparison, ModelFigures
from tanuki_cli.i18n import N_, _
from tanuki_cli.machine.hardware import format_bytes
from tanuki_cli.terminal.console import Console
from tanuki_cli.text.japanese import wrap_text
from tanuki_cli.text.sanitize import sanitize_line
from tanuki_cli.text.width import cell_width, graphemes, pad_cells

_CATEGORIES: Final = {
    "prose": N_("Japanese prose"),
    "dialogue": N_("conversations"),
    "code": N_("code"),
    "english": N_("English"),
    "history": N_("your history"),
    ALL: N_("all"),
}
_LEFT_OUT: Final = ((), (2,), (2, 4), (2, 3, 4))
"""Columns that may go where a table is too wide: none, the median, then the largest, then the 99 %."""
_BEFORE: Final = 16
_AFTER: Final = 48
"""Graphemes of an answer that are shown before and after the place where it parts."""


def print_figures(console: Console, result: Comparison) -> None:
    """The reference, then every candidate with a row for each category."""
    out, reference = console.out, result.reference
    _say(console, _("Reference: {figures}").format(figures=_figures(reference.figures)))
    if result.places:
        categories = [f"{_category(name)} {count:,}" for name, count in result.places.items() if name != ALL]
        scored = _("{count} tokens scored ({categories}), each with up to {context} before it").format(
            count=f"{result.places[ALL]:,}",
            categories=", ".join(categories),
            context=f"{result.context_length:,}",
        )
        _say(console, f"  {scored}")
        value = _with_error(reference.perplexity[ALL])
        _say(console, "  " + _("perplexity {value}").format(value=value))
    for candidate in result.candidates:
        out.print()
        _say(console, _figures(candidate.figures), style="bold")
        if candidate.divergence:
            _print_rows(console, [(name, value) for name, value in candidate.divergence.items()])
    if result.places and result.places[ALL] < 2000:
        console.note(_("Few tokens: the largest and the 99 % divergence say little below some thousands."))


def _say(console: Console, text: str, *, style: str = "none") -> None:
    """A line of stdout, broken between words where it is a terminal."""
    rows = wrap_text(text, console.out.width) if console.out_is_terminal else [text]
    for row in rows:
        console.out.print(row, style=style, soft_wrap=True)


def _figures(figures: ModelFigures) -> str:
    parts = [sanitize_line(figures.source.reference)]
    if figures.source.file_bytes is not None:
        parts.append(format_bytes(figures.source.file_bytes))
    if figures.memory_bytes is not None:
        parts.append(_("memory {size}").format(size=format_bytes(figures.memory_bytes)))
    if figures.tokens_per_s is not None:
        parts.append(_("reads {speed:.0f} tokens/s").format(speed=figures.tokens_per_s))
    if figures.answer_tokens_per_s is not None:
        parts.append(_("answers {speed:.1f} tokens/s").format(speed=figures.answer_tokens_per_s))
    return " · ".join(parts)


def _category(name: str) -> str:
    return _(_CATEGORIES[name]) if name in _CATEGORIES else sanitize_line(name)


def _print_rows(console: Console, rows: list[tuple[str, Divergence]]) -> None:
    heads = (
        _("texts"),
        _("mean KL"),
        _("median"),
        _("99 %"),
        _("largest"),
        _("same top"),
        _("RMS Δp"),
        _("PPL ratio"),
    )
    cells = [heads, *(_cells(name, value) for name, value in rows)]
    room = console.out.width if console.out_is_terminal else None
    for left_out in _LEFT_OUT:
        columns = [column for column in range(len(heads)) if column not in left_out]
        widths = {column: max(cell_width(row[column]) for row in cells) for column in columns}
        if room is None or sum(widths.values()) + 2 * len(widths) <= room:
            for row in cells:
                padded = [pad_cells(row[column], widths[column]) for column in columns]
                console.out.print("  " + "  ".join(padded).rstrip(), soft_wrap=True)
            return
    for row in cells[1:]:
        console.out.print(f"  {row[0]}", soft_wrap=True)
        for head, cell in zip(heads[1:], row[1:], strict=True):
            console.out.print(f"    {head}: {cell}", soft_wrap=True)


def _cells(name: str, value: Divergence) -> tuple[str, ...]:
    return (
        _category(name),
        _with_error(value.kl),
        f"{value.kl_at(0.5):.2g}",
        f"{value.kl_at(0.99):.3g}",
        f"{value.kl_at(1.0):.3g}",
        _percent(value.same_top),
        _percent(value.delta_p_rms),
        _with_error(value.ratio),
    )


def _with_error(estimate: Estimate) -> str:
    """The value as far as its error tells: ``0.00144 ± 0.00004``."""
    value, error = estimate.value, estimate.error
    if math.isnan(error) or not math.isfinite(value):
        return f"{value:.4g}"
    if error == 0 or abs(value) >= 1e5 or error < 1e-7:
        return f"{value:.4g} ± {error:.1g}"
    places = max(-math.floor(math.log10(error)), 0)
    return f"{value:.{places}f} ± {error:.{places}f}"


def _percent(estimate: Estimate) -> str:
    return f"{_with_error(Estimate(100 * estimate.value, 100 * estimate.error))} %"


def print_answers(console: Console, result: Comparison) -> None:
    """Every question with the answers, each from where it leaves the reference's."""
    names = [result.reference.figures.source.reference]
    names += [candidate.figures.source.reference for candidate in result.candidates]
    for number, row in enumerate(result.answers, start=1):
        console.out.print()
        _say(console, f"{number}. {sanitize_line(row.question)}", style="bold")
        _print_answer(console, names, row)
    if result.answers:
        console.out.print()
        for place, name in enumerate(names[1:]):
            same = sum(row.differences[place].kind == "same" for row in result.answers)
            sentence = _("{model}: {same} of {count} answers are the same as the reference's.")
            _say(console, sentence.format(model=sanitize_line(name), same=same, count=len(result.answers)))


def _print_answer(console: Console, names: list[str], row: AnswerRow) -> None:
    reference = row.answers[0].text
    _say(console, f"   {sanitize_line(names[0])}: {_shown(reference)}")
    for name, answer, difference in zip(names[1:], row.answers[1:], row.differences, strict=True):
        head = rich.text.Text(f"   {sanitize_line(name)}: ")
        if difference.kind == "same":
            head.append(_("the same"), style="success")
            console.out.print(head, soft_wrap=True)
            continue
        head.append(_how(difference), style="warning")
        console.out.print(head, soft_wrap=True)
        before = list(graphemes(answer.text))[max(difference.shared - _BEFORE, 0) : difference.shared]
        for sign, text, style in (("−", reference, "error"), ("+", answer.text, "success")):
            line = rich.text.Text(f"     {sign} ")
            line.append(_line("".join(before)), style="note")
            rest = list(graphemes(text))[difference.shared :]
            line.append(_line("".join(rest[:_AFTER])) or _("(end)"), style=style)
            line.append("…" if len(rest) > _AFTER else "")
            console.out.print(line, soft_wrap=True)


def _how(difference: Difference) -> str:
    sentences = {
        "differs": _("differs from character {place} on"),
        "shorter": _("ends at character {place}, where the reference goes on"),
        "longer": _("goes on after character {place}, where the reference ends"),
    }
    place = difference.shared + (difference.kind == "differs")
    return sentences[difference.kind].format(place=place)


def _shown(text: str) -> str:
    parts = list(graphemes(text))
    return _line("".join(parts[: 2 * _AFTER])) + ("…" if len(parts) > 2 * _AFTER else "")


def _line(text: str) -> str:
    """``text`` on one line, with its line ends to be seen."""
    return sanitize_line(text.replace("\n", "⏎"))


def tell_changes(console: Console, earlier: Record, result: Comparison) -> None:
    """After ``--again``: what is not as it was then, and what the main figure was."""
    then, now = earlier.provenance, result.provenance
    for old, new in zip(then.models, now.models, strict=True):
        if old.sha256 != new.sha256:
            console.warn(_("{model} is not the same file as then.").format(model=new.reference))
    for name, version in now.packages.items():
        before = then.packages.get(name, version)
        if before != version:
            console.note(f"{name}: {before} → {version}")
    if earlier.texts_sha256 != result.texts_sha256:
        console.warn(_("The texts are not the same as then."))
    for was, candidate in zip(earlier.mean_kl, result.candidates, strict=False):
        if was is not None and ALL in candidate.divergence:
            sentence = _("{model}: mean divergence {now:.6g}, then {was:.6g}.")
            name, figure = candidate.figures.source.reference, candidate.divergence[ALL].kl.value
            console.note(sentence.format(model=name, now=figure, was=was))
