"""Asking once more what a file of votes was cast on: the same questions, models and options."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.questions import Question
from tanuki_cli.evaluation.arena.votes import OWN, Vote, VoteFile, models_of
from tanuki_cli.evaluation.provenance import Provenance
from tanuki_cli.i18n import _
from tanuki_cli.options import check_value
from tanuki_cli.sampling import SAMPLING_SPECS, SamplingOptions


class Repetition(Struct, frozen=True, kw_only=True):
    """What is asked again, and where the new votes go: beside the old ones, so that none is mixed up."""

    models: tuple[str, ...]
    questions: tuple[Question, ...]
    system: str | None
    sampling: SamplingOptions
    file: Path


def repetition_of(path: Path) -> Repetition:
    """What the votes that were cast into ``path`` were cast on, with system prompt and options of the last.

    Raises InputError if there are none, or their options cannot be used.
    """
    votes = [vote for vote in VoteFile(path).read().votes if vote.source == OWN and vote.provenance]
    if not votes:
        raise InputError(
            _("{path} holds no votes that were cast with tanuki arena.").format(path=path),
            hint="tanuki arena MODEL MODEL --file votes.jsonl",
        )
    questions = {tuple(turn.question for turn in vote.turns): vote.category for vote in votes}
    try:
        provenance = Provenance.from_json(votes[-1].provenance)
        system = provenance.options.get("system")
        return Repetition(
            models=tuple(models_of(votes)),
            questions=tuple(Question(turns=turns, category=name) for turns, name in questions.items()),
            system=system if isinstance(system, str) else None,
            sampling=_sampling(votes, provenance.sampling),
            file=path.with_name(f"{path.stem}.again{path.suffix}"),
        )
    except ValueError as exc:
        raise InputError(
            _("The options in {path} cannot be used: {reason}").format(path=path, reason=exc),
            hint="tanuki arena MODEL MODEL --prompts FILE",
        ) from exc


def _sampling(votes: Sequence[Vote], recorded: Any) -> SamplingOptions:
    """The options of ``recorded``; the seed only where all votes had the same, so that it was given."""
    values = {
        spec.key: check_value(spec, recorded[spec.key])
        for spec in SAMPLING_SPECS
        if recorded.get(spec.key) is not None
    }
    sampling = replace(SamplingOptions(), **values)
    seeds = {dict(vote.provenance.get("sampling") or {}).get("seed") for vote in votes}
    return sampling if len(seeds) == 1 and len(votes) > 1 else replace(sampling, seed=None)
