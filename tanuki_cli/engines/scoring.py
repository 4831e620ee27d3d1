"""How likely given answers are: the model's own log probabilities along them, to their end."""

from collections.abc import Callable, Sequence
from contextlib import closing

from tanuki_cli.engines.answers import AnswerScore, Token
from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.probabilities import Probabilities
from tanuki_cli.engines.token_model import ParallelModel, TokenModel, shared_prefix
from tanuki_cli.tokenizer import ChatTokenizer


def score_answers(
    model: TokenModel | ParallelModel,
    tokenizer: ChatTokenizer,
    prompt_ids: Sequence[int],
    answers: Sequence[str],
    *,
    alternatives: int = 0,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[AnswerScore]:
    """How likely each of ``answers`` is, each to its end; the rest as in :func:`score_ids`."""
    scored = score_ids(
        model,
        prompt_ids,
        [[*tokenizer.encode(answer), tokenizer.eos_id] for answer in answers],
        alternatives=alternatives,
        is_cancelled=is_cancelled,
    )
    return [AnswerScore(text=answer, tokens=tokens) for answer, tokens in zip(answers, scored, strict=True)]


def score_ids(
    model: TokenModel | ParallelModel,
    prompt_ids: Sequence[int],
    answers: Sequence[Sequence[int]],
    *,
    alternatives: int = 0,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[tuple[Token, ...]]:
    """Each of ``answers``, ids that end with the model's ``</s>``, with the log probability of every id.

    What answers begin with together is computed once. Raises EngineError, and GenerationCancelled when the
    model was told to stop: ``is_cancelled`` remembers it where the model, asked anew, does not.
    """
    scored: list[tuple[Token, ...]] = [()] * len(answers)
    seen: list[Probabilities] = []  # at each place of the answer before
    before: Sequence[int] = ()
    for place in sorted(range(len(answers)), key=lambda place: list(answers[place])):
        answer = answers[place]
        known = min(shared_prefix(before, answer) + 1, len(seen))
        del seen[known:]
        if known < len(answer):
            first = len(prompt_ids) - 1 + known
            with closing(model.logits([*prompt_ids, *answer[:-1]], first=first, reuse=True)) as blocks:
                if is_cancelled():
                    raise GenerationCancelled
                for rows in blocks:
                    seen.extend(Probabilities(row, alternatives) for row in rows)
        scored[place] = tuple(table.token(id_) for table, id_ in zip(seen, answer, strict=True))
        before = answer
    return scored
