"""A process of its own for the interrupt tests: stops at SIGINT, then takes another turn.

python -m tests.support.llama_interrupt MODEL PROMPT_LENGTH
Prints one JSON object per event: ready (about to compute), id, cancelled, answer.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path

from tanuki_cli.engines.base import GenerationCancelled
from tanuki_cli.engines.token_model import token_ids
from tanuki_cli.interrupts import on_interrupt
from tanuki_cli.settings.values import Settings
from tests.support.llama_models import GREEDY, PROMPT, load


def say(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def main() -> None:
    path, length = Path(sys.argv[1]), int(sys.argv[2])
    model = load(path, Settings(context_length=8192, threads=1))
    prompt = [1, *(300 + index * 7 % 600 for index in range(length - 1))]
    with on_interrupt(model.cancel):
        generator = token_ids(model.generate(prompt, GREEDY))
        say(event="ready")
        try:
            for id_ in generator:
                say(event="id", id=id_)
        except GenerationCancelled:
            say(event="cancelled", at=time.monotonic(), cached=len(model._cache.ids))
    say(event="answer", ids=list(islice(token_ids(model.generate(PROMPT, GREEDY)), 20)))
    model.close()


if __name__ == "__main__":
    main()
