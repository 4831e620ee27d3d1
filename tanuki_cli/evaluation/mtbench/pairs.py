"""Judgements of pairs, which FastChat makes as well: read and counted as its ``show_result`` does.

A pair is judged twice, in both orders. Where the two disagree, or one finds none better, it is a tie;
where one could not be read, the pair does not count.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject, LeftOut, read_lines

PAIR_SUFFIX: Final = "_pair"
_WINNERS: Final = ("model_1", "model_2", "tie", "error")


class PairJudgement(Struct, frozen=True, kw_only=True):
    """Two models, and who won in each order: a model's name, or None for a tie."""

    judge: str
    models: tuple[str, str]
    winners: tuple[str | None, str | None]

    @property
    def winner(self) -> str | None:
        """The model that won in both orders; None for a tie."""
        first, second = self.winners
        return first if first == second else None


class PairReport(Struct, frozen=True, kw_only=True):
    """How often a model won, lost and tied by one judge; rates are shares of all three."""

    judge: str
    model: str
    win: int
    loss: int
    tie: int

    @property
    def count(self) -> int:
        """All pairs that count."""
        return self.win + self.loss + self.tie

    @property
    def adjusted_win_rate(self) -> float:
        """The share of wins, a tie being half of one."""
        return (self.win + 0.5 * self.tie) / self.count


def read_pairs(paths: Iterable[Path]) -> tuple[list[PairJudgement], int, list[LeftOut]]:
    """The pairs of ``paths`` that count, how many could not be read by their judge, and the lines left out.

    Raises InputError for a file that cannot be read.
    """
    pairs: list[PairJudgement] = []
    unreadable = 0
    left_out: list[LeftOut] = []
    for path in paths:
        for number, value in read_lines(path):
            pair = value if isinstance(value, LeftOut) else _pair(path, number, value)
            if isinstance(pair, LeftOut):
                left_out.append(pair)
            elif pair is None:
                unreadable += 1
            else:
                pairs.append(pair)
    return pairs, unreadable, left_out


def _pair(path: Path, number: int, value: JsonObject) -> PairJudgement | LeftOut | None:
    first, second = value.get("model_1"), value.get("model_2")
    winners = [value.get(name) for name in ("g1_winner", "g2_winner")]
    if not (isinstance(first, str) and isinstance(second, str) and all(one in _WINNERS for one in winners)):
        return LeftOut(path=path, line=number, reason=_("it is not a judgement"))
    if "error" in winners:
        return None
    names = {"model_1": first, "model_2": second}
    judge = value.get("judge")
    return PairJudgement(
        judge=str(judge[0] if isinstance(judge, list) and judge else judge),
        models=(first, second),
        winners=(names.get(str(winners[0])), names.get(str(winners[1]))),
    )


def report_pairs(pairs: Sequence[PairJudgement]) -> list[PairReport]:
    """For every judge and model, best first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for pair in pairs:
        for model in pair.models:
            outcome = "tie" if pair.winner is None else "win" if pair.winner == model else "loss"
            counts[pair.judge, model, outcome] += 1
    reports = [
        PairReport(
            judge=judge,
            model=model,
            win=counts[judge, model, "win"],
            loss=counts[judge, model, "loss"],
            tie=counts[judge, model, "tie"],
        )
        for judge, model in sorted({(judge, model) for judge, model, _outcome in counts})
    ]
    return sorted(reports, key=lambda one: (one.judge, -one.adjusted_win_rate, one.model))
