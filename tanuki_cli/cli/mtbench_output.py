"""What ``tanuki mtbench`` prints for people: notes on stderr, tables on stdout."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tanuki_cli.evaluation.mtbench.judging import JudgeProgress, JudgeRun, Match
from tanuki_cli.evaluation.mtbench.questions import CATEGORIES
from tanuki_cli.evaluation.mtbench.report import CARD_AVERAGES, CARD_JUDGE, NORMAL_95, ModelReport, Scores
from tanuki_cli.evaluation.mtbench.results import Results
from tanuki_cli.evaluation.mtbench.setup import Bench
from tanuki_cli.evaluation.mtbench.wordings import QUESTION_COUNT
from tanuki_cli.evaluation.provenance import Provenance
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject
from tanuki_cli.terminal.console import Console
from tanuki_cli.text.counts import about
from tanuki_cli.text.japanese import wrap_text
from tanuki_cli.text.sanitize import sanitize_line
from tanuki_cli.text.width import cell_width, pad_cells, truncate_cells

TITLES: Final = {
    "writing": "Writing",
    "roleplay": "Roleplay",
    "reasoning": "Reasoning",
    "math": "Math",
    "coding": "Coding",
    "extraction": "Extraction",
    "stem": "STEM",
    "humanities": "Humanities",
}
_WIDEST_NAME: Final = 60
_OUTPUT_TOKENS: Final = 310
"""What a judgement took on average in published runs: 50,000 tokens for 160."""


def note_judge(console: Console, run: JudgeRun, bench: Bench, *, local: bool) -> None:
    """What the judge is given, and what its scores are worth."""
    for line in run.prompts.left_out:
        console.warn(str(line))
    references = run.references.name if run.references else "-"
    console.note(
        _("Judge: {judge}. Prompts: {prompts}. Reference answers: {references}.").format(
            judge=run.judge, prompts=run.prompt_file.name, references=references
        )
    )
    if run.prompts.turns == (1,):
        console.warn(
            _(
                "{file} has no prompts for the second turn, so only the first is judged, and the average "
                "is not the card's. FastChat's English ones: --multi-turn-prompts {hint}"
            ).format(file=run.prompt_file.name, hint=_english_prompts(bench))
        )
    if local:
        console.warn(
            _("{judge} judges as a local model: its scores cannot be compared with the card's.").format(
                judge=run.judge
            )
        )


def _english_prompts(bench: Bench) -> str:
    return next((str(path) for path in bench.folder.prompts if path.name == "judge_prompts.jsonl"), "FILE")


def note_cost(console: Console, matches: Sequence[Match], *, already: int) -> None:
    """How much there is to judge, and about how many tokens that takes."""
    if already:
        console.note(_("Judged already: {count}.").format(count=already))
    if not matches:
        console.note(_("Nothing is left to judge."), style="success")
        return
    console.note(
        _(
            "Judgements to make: {count}. The judge reads about {read} tokens and writes about {written} "
            "(a rule of thumb)."
        ).format(
            count=len(matches),
            read=about(sum(match.estimated_tokens for match in matches)),
            written=about(_OUTPUT_TOKENS * len(matches)),
        )
    )


def note_taken(console: Console, taken: JudgeProgress, path: Path) -> None:
    """What was judged, and how many tokens the judge says it took."""
    counts = _("Judgements made: {count}. Tokens read: {read}, written: {written}.")
    if not taken.prompt_tokens:
        counts = _("Judgements made: {count}. The server did not tell how many tokens they took.")
    read, written = f"{taken.prompt_tokens:,}", f"{taken.completion_tokens:,}"
    console.note(counts.format(count=taken.done, read=read, written=written), style="success")
    if taken.unreadable:
        console.warn(_("No score could be read in {count} of them.").format(count=taken.unreadable))
    console.note(_("They are in {path}. The result: tanuki mtbench show").format(path=path))


def print_reports(console: Console, results: Results) -> None:
    """A table for every judge and model, and what has to be said of it."""
    width = console.out.width if console.out_is_terminal else None
    for report in results.reports:
        title = _("{model}, judged by {judge}")
        title = title.format(model=shown_name(report.model), judge=shown_name(report.judge))
        lines = [title, *_table(_rows(report), width)]
        for remark in _remarks(report, results.sources.get(report.model)):
            lines += wrap_text(sanitize_line(remark), width) if width else [sanitize_line(remark)]
        console.write("\n".join(lines) + "\n\n")
    if results.pairs:
        console.write("\n".join(_pair_lines(results, width)) + "\n\n")
    comparison = _(
        "Scores compare only where judge, wording of the questions, judge prompts and prompt format are "
        "the same: published runs of one model differ by 0.5 and more."
    )
    console.write("\n".join(wrap_text(comparison, width) if width else [comparison]) + "\n")


def _pair_lines(results: Results, width: int | None) -> list[str]:
    rows = [[_("pairs, judged by"), _("model"), _("win"), _("loss"), _("tie"), _("win rate")]]
    rows += [
        [
            shown_name(one.judge),
            shown_name(one.model),
            str(one.win),
            str(one.loss),
            str(one.tie),
            f"{one.adjusted_win_rate:.3f}",
        ]
        for one in results.pairs
    ]
    remark = _("A tie counts as half a win. Pairs left out, without a readable judgement: {count}.").format(
        count=results.unreadable_pairs
    )
    return [*_table(rows, width), *(wrap_text(remark, width) if width else [remark])]


def _rows(report: ModelReport) -> list[list[str]]:
    head = [_("category"), _("score"), *CARD_AVERAGES, _("turn 1"), _("turn 2"), _("Japanese")]
    rows = [head]
    for category, scores in report.categories.items():
        title = TITLES.get(category, shown_name(category) or _("(other)"))
        rows.append([title, _score(scores.mean), *("" for _name in CARD_AVERAGES), *_details(scores)])
    card = (f"{value:.2f}" for value in CARD_AVERAGES.values())
    rows.append([_("average"), _score(report.total.mean), *card, *_details(report.total)])
    return rows


def _details(scores: Scores) -> list[str]:
    share = "-" if scores.japanese_share is None else f"{scores.japanese_share:.0%}"
    return [_score(scores.first_turn), _score(scores.second_turn), share]


def shown_name(name: str) -> str:
    """A name from a file of records, safe and of a length that a table can bear."""
    return truncate_cells(sanitize_line(name), _WIDEST_NAME)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The first column to the left, the others to the right; the last ones go where there is no room."""
    widths = [max(cell_width(sanitize_line(row[column])) for row in rows) for column in range(len(rows[0]))]
    while width is not None and len(widths) > 2 and sum(widths) + 2 * len(widths) > width:
        widths.pop()
    lines = []
    for row in rows:
        first, *rest = map(sanitize_line, row[: len(widths)])
        cells = [
            " " * (cells - cell_width(text)) + text for text, cells in zip(rest, widths[1:], strict=True)
        ]
        lines.append("  " + "  ".join([pad_cells(first, widths[0]), *cells]).rstrip())
    return lines


def _remarks(report: ModelReport, source: Provenance | None) -> Iterator[str]:
    """What the figures rest on, and what keeps them from being compared with the card's."""
    total = report.total
    yield _("Questions: {questions}, judgements: {judgements}.").format(
        questions=total.questions, judgements=total.judgements
    )
    if report.error is not None:
        yield _("Average ± {error:.2f} (95 %), by which questions were asked.").format(
            error=NORMAL_95 * report.error
        )
    if report.choices_deviation is not None:
        yield _(
            "From choice to choice the average differs by {deviation:.2f} (standard deviation of {count})."
        ).format(deviation=report.choices_deviation, count=report.choices)
    if total.unreadable:
        yield _(
            "Judgements without a score: {count}. Left out, as FastChat does: {mean}; counted as -1, as "
            "Tanuki's team did: {failures}."
        ).format(count=total.unreadable, mean=_score(total.mean), failures=_score(total.with_failures))
    yield from _oddities(report)
    yield from _limits(report)
    if source is not None and source.models:
        yield _source(source)
    if report.judged_with is not None:
        yield from _judged_with(report.judged_with)


def _oddities(report: ModelReport) -> Iterator[str]:
    shown = [report.total.first_turn, report.total.second_turn, report.total.mean]
    theirs = [report.fastchat.first_turn, report.fastchat.second_turn, report.fastchat.average]
    if list(map(_score, shown)) != list(map(_score, theirs)):
        first, second, average = map(_score, theirs)
        yield _(
            "FastChat's show_result, which weighs every judgement alike: turn 1 {first}, turn 2 "
            "{second}, average {average}."
        ).format(first=first, second=second, average=average)
    if report.outside:
        yield _("Scores outside 1 to 10, which count as they are: {count}.").format(count=report.outside)
    if report.repeated:
        yield _("Repeated judgements, which all count, as in FastChat: {count}.").format(
            count=report.repeated
        )


def _limits(report: ModelReport) -> Iterator[str]:
    yield _("The card's averages are of all 80 questions and both turns, judged by {judge}.").format(
        judge=CARD_JUDGE
    )
    if report.total.questions < QUESTION_COUNT or report.categories.keys() != set(CATEGORIES):
        yield _("Questions here: {count}.").format(count=report.total.questions)
    if not report.second_turn_judged:
        yield _("Here only the first turn is judged.")


def _source(source: Provenance) -> str:
    model = source.models[0]
    parts = [
        model.name,
        model.engine,
        model.device,
        *([model.sha256[:12]] if model.sha256 else []),
        f"preset {source.options.get('preset')}",
        str(source.options.get("wording") or source.options.get("questions")),
        f"tanuki {source.program}",
        source.date[:10],
    ]
    return _("Answers: {parts}").format(parts=" · ".join(parts))


def _judged_with(record: JsonObject) -> Iterator[str]:
    options = record.get("options")
    if isinstance(options, Mapping):
        files = [options.get("prompts_file"), options.get("multi_turn_file"), options.get("references_file")]
        names = [Path(file).name for file in files if isinstance(file, str)]
        parts = [
            *(names or [str(options.get("data"))]),
            str(options.get("prompts")),
            str(record.get("date"))[:10],
        ]
        yield _("Judged with: {parts}").format(parts=" · ".join(parts))
