"""Does this llama.cpp give right answers here? The practice model says what is known by heart.

Run in a process of its own: a library for another processor ends it with a signal, one whose structures
are others may do anything.
"""

from contextlib import closing
from itertools import islice
from typing import Final

from tanuki_cli.catalog.practice import practice_model
from tanuki_cli.conversation import Message
from tanuki_cli.engines.base import OpenOptions
from tanuki_cli.engines.llama_cpp.opening import open_gguf
from tanuki_cli.errors import EngineError
from tanuki_cli.i18n import _
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.settings.values import Settings

QUESTION: Final = "あなたは誰?"
EXPECTED: Final = (476, 528, 269, 362, 530, 1672, 271, 1496, 494, 368, 273, 269, 417, 608, 585, 453)
"""The ids that the answer begins with. Each is likelier than all others by far: no rounding changes it."""


def check_answer() -> None:
    """Raise EngineError if the practice model cannot be loaded or says something else."""
    options = SamplingOptions(temperature=0.0, seed=0)
    with closing(open_gguf(practice_model(), Settings(threads=1), OpenOptions())) as engine:
        prompt_ids = engine.tokenizer.encode_chat([Message("user", QUESTION)])
        with closing(engine.token_model.generate(prompt_ids, options)) as tokens:
            ids = tuple(token.id for token in islice(tokens, len(EXPECTED)))
    if ids != EXPECTED:
        raise EngineError(_("This llama.cpp answers wrongly."))
