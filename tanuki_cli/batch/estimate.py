"""What a batch would take, and which of its rows to try first."""

import heapq
from collections.abc import Iterable, Iterator

from msgspec import Struct

from tanuki_cli.batch.requests import Asking, make_request
from tanuki_cli.batch.rows import Row
from tanuki_cli.engines.base import Engine
from tanuki_cli.errors import InputError, PromptTooLongError


class PromptCount(Struct, frozen=True, kw_only=True):
    """The prompts of ``rows`` rows: tokens of all and of the ``longest``, None where only a server counts.

    ``too_long`` do not fit into the context, ``unusable`` cannot be asked at all; ``problem`` is what is
    wrong with the first of them.
    """

    rows: int
    tokens: int | None
    longest: int
    too_long: int
    unusable: int
    problem: str


def count_prompts(engine: Engine, rows: Iterable[Row], asking: Asking) -> PromptCount:
    """Count without answering."""
    count = total = longest = too_long = unusable = 0
    known = True
    problem = ""
    for row in rows:
        count += 1
        try:
            job = make_request(row, asking).job
            tokens = engine.plan(job.messages, job.options).prompt_tokens
        except PromptTooLongError:
            too_long += 1
            continue
        except InputError as error:
            unusable += 1
            problem = problem or error.message
            continue
        known = known and tokens is not None
        total += tokens or 0
        longest = max(longest, tokens or 0)
    return PromptCount(
        rows=count,
        tokens=total if known else None,
        longest=longest,
        too_long=too_long,
        unusable=unusable,
        problem=problem,
    )


def sample_keys(rows: Iterable[Row], count: int) -> set[str]:
    """The keys of ``count`` rows from all over the file, the same ones every time."""
    return {row.key for row in heapq.nsmallest(count, rows, key=lambda row: row.digest)}


def only(rows: Iterable[Row], keys: set[str]) -> Iterator[Row]:
    """Those of ``rows`` with one of ``keys``."""
    return (row for row in rows if row.key in keys)
