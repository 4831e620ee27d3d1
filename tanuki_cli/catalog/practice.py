"""豆だぬき (``mame``), the practice model inside the package."""

import json
from pathlib import Path
from typing import Final

from tanuki_cli.catalog import PRACTICE_NAME, LocalModel
from tanuki_cli.i18n import Language

_FOLDER: Final = Path(__file__).parent.parent / "mame"


def practice_model() -> LocalModel:
    """The files of the practice model; they are part of the package."""
    return LocalModel(
        name=PRACTICE_NAME,
        format="gguf",
        path=_FOLDER / "mame-q8_0.gguf",
        tokenizer=_FOLDER / "tokenizer.json",
        practice=True,
    )


def suggestions(language: Language) -> list[str]:
    """Questions that the practice model answers right, in ``language``."""
    questions: dict[Language, list[str]] = json.loads(
        (_FOLDER / "suggestions.json").read_text(encoding="utf-8")
    )
    return questions[language]
