"""The model that a server serves, as requests are read for it; nothing of it runs."""

from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.server.served import ServedModel
from tanuki_cli.tokenizer import ChatTokenizer


def served_model(
    tokenizer: ChatTokenizer, defaults: SamplingOptions, *, takes_ids: bool = True, context_length: int = 4096
) -> ServedModel:
    """The practice model, also known as tanuki; without ``takes_ids`` messages are given on as they are."""
    return ServedModel(
        name="mame",
        names=frozenset(("tanuki",)),
        engine="llama.cpp",
        device="CPU",
        tokenizer=tokenizer,
        takes_ids=takes_ids,
        context_length=context_length,
        max_characters=100_000,
        defaults=defaults,
        created=0,
    )
