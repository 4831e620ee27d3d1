"""How likely a server finds answers that are given: vLLM tells the log probabilities of a prompt's ids."""

from collections.abc import Sequence
from contextlib import closing

from tanuki_cli.engines.answers import AnswerScore, Token
from tanuki_cli.engines.remote.events import choice_of, reported_error
from tanuki_cli.engines.remote.http import RemoteConnection, StreamLimits
from tanuki_cli.engines.remote.probe import Server
from tanuki_cli.engines.remote.tokens import prompt_tokens
from tanuki_cli.errors import RemoteError
from tanuki_cli.i18n import _
from tanuki_cli.tokenizer import ChatTokenizer


def can_score(server: Server) -> bool:
    """Whether servers of this kind say how likely a given answer is."""
    return server.kind == "vllm"


def score_answers(
    connection: RemoteConnection,
    server: Server,
    tokenizer: ChatTokenizer,
    prompt_ids: Sequence[int],
    answers: Sequence[str],
    *,
    alternatives: int,
) -> list[AnswerScore]:
    """Each of ``answers`` after ``prompt_ids``, to its end, with so many ``alternatives`` a token.

    Nothing where this version does not tell. Raises RequestFailed and GenerationCancelled.
    """
    scores = []
    for answer in answers:
        ids = [*prompt_ids, *tokenizer.encode(answer), tokenizer.eos_id]
        told = _ask(connection, server, ids, alternatives)
        tokens = () if told is None else told[len(prompt_ids) :]
        if not tokens or any(token.logprob is None for token in tokens):
            return []
        cut = tuple(token._replace(alternatives=token.alternatives[:alternatives]) for token in tokens)
        scores.append(AnswerScore(text=answer, tokens=cut))
    return scores


def tells_no_probability(host: str) -> RemoteError:
    """The error for a server that cannot be asked this."""
    return RemoteError(
        _("{host} does not say how likely a given answer is.").format(host=host),
        hint=_("Use a model on this machine: tanuki models"),
    )


def _ask(
    connection: RemoteConnection, server: Server, ids: Sequence[int], alternatives: int
) -> tuple[Token, ...] | None:
    body = {
        "model": server.model,
        "prompt": list(ids),
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": alternatives,
    }
    limits = StreamLimits(tokens=len(ids), alternatives=alternatives)
    with closing(connection.events(server.address.api("/completions"), body, limits)) as events:
        for event in events:
            if (error := reported_error(event)) is not None:
                raise connection.failures.reported(error)
            return prompt_tokens(choice_of(event), ids)
    return None
