"""What a model is asked about the parts of a long text, and how they stand in its prompts."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from tanuki_cli.conversation import Message
from tanuki_cli.i18n import _
from tanuki_cli.prompt import guard_markers, with_persona
from tanuki_cli.text.decoding import fenced

COMBINE: Final = (
    "長い文章を {count} 個の部分に分け、それぞれについて「{question}」と尋ねました。"
    "以下はその答えです。これらをまとめて、文章全体についての一つの答えを書いてください。"
)
"""Said to the model, so in its language."""


class Document(Struct, frozen=True, kw_only=True):
    """A text of the question; ``name`` is empty for what was piped in."""

    name: str
    text: str


class Part(Struct, frozen=True, kw_only=True):
    """A part of a document, ``number`` of ``count``: its characters from ``start`` to ``end``, which are on
    the lines ``first_line`` to ``last_line``, counted from 1."""

    name: str
    text: str
    number: int
    count: int
    start: int
    end: int
    first_line: int
    last_line: int

    @property
    def place(self) -> str:
        """Where it is, for people."""
        lines = _("lines {first}-{last}").format(first=self.first_line, last=self.last_line)
        return f"{self.name} {lines}".strip()

    def render(self) -> str:
        """As it stands in a prompt."""
        number = f"({self.number}/{self.count})" if self.count > 1 else ""
        return guard_markers(fenced(f"{self.name} {number}".strip(), self.text))[0]


class Wording(Struct, frozen=True, kw_only=True):
    """What is asked: ``question`` of every part; ``combine`` introduces the answers, and may name
    {question} and {count}. ``system`` and ``persona`` are those of the conversation."""

    question: str
    combine: str = COMBINE
    system: str | None = None
    persona: str | None = None

    def messages(self, text: str) -> list[Message]:
        """``text`` as a question."""
        first = [Message("system", self.system)] if self.system is not None else []
        return with_persona([*first, Message("user", text)], self.persona)

    def about(self, parts: Sequence[Part]) -> str:
        """The question about ``parts``, which come before it."""
        return "\n\n".join([*(part.render() for part in parts), self.question])

    def combining(self, answers: Sequence[str], *, count: int) -> str:
        """The question that makes one answer of ``answers``, about a text of ``count`` parts."""
        instruction = self.combine.replace("{question}", self.question).replace("{count}", str(count))
        numbered = [guard_markers(f"[{number}]\n{text.strip()}")[0] for number, text in enumerate(answers, 1)]
        return "\n\n".join([instruction, *numbered])
