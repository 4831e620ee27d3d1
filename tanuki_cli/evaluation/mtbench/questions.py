"""Questions, reference answers and judge prompts of MT-Bench, in the files' own forms.

None of the published texts is in this repository: they are read from the user's copy of FastChat's
Japanese branch, Swallow's or Nejumi's, wherever in it the folder lies that the user names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.mtbench.wordings import SOURCE_URL, WORDINGS, Wording, digest_of
from tanuki_cli.i18n import _
from tanuki_cli.jsonl import JsonObject, LeftOut, read_lines

CATEGORIES: Final = (
    "writing",
    "roleplay",
    "reasoning",
    "math",
    "coding",
    "extraction",
    "stem",
    "humanities",
)
"""In the order of the usual radar picture."""
NEEDS_REFERENCE: Final = frozenset(("math", "reasoning", "coding"))
"""The categories that are judged against a reference answer."""
MINI_FOLDER: Final = Path(__file__).parent / "mini"

_INSIDE: Final = (
    "",
    "japanese_mt_bench",
    "data/japanese_mt_bench",
    "fastchat/llm_judge/data/japanese_mt_bench",
    "fastchat/fastchat/llm_judge/data/japanese_mt_bench",
)
"""Where the questions lie below a folder that a user may name, up to a whole clone of either repository."""
_QUESTION_FILES: Final = ("question_full.jsonl", "question.jsonl")
_PROMPT_FILES: Final = ("judge_prompts.jsonl", "judge_ja_prompts.jsonl")
"""The first has the forms for the second turn as well, so it comes first."""
_REFERENCE_FOLDER: Final = "reference_answer"
_PREFERRED_REFERENCES: Final = ("gpt-4", "gpt-4o-2024-08-06", "base-gpt4o-with-human-annotation")
_BY_TENS: Final = (
    *("coding", "extraction", "humanities", "math", "reasoning", "roleplay", "stem", "writing"),
    *CATEGORIES,
)
"""Categories by tens of the id: 1 to 80 are the Japanese questions, 81 to 160 the English ones."""


class BenchQuestion(Struct, frozen=True, kw_only=True):
    """One question with its turns, usually two."""

    id: int
    category: str
    turns: tuple[str, ...]


class QuestionSet(Struct, frozen=True, kw_only=True):
    """The questions of one file, in its order. ``left_out`` are the lines that could not be used."""

    path: Path
    questions: tuple[BenchQuestion, ...]
    digest: str
    left_out: tuple[LeftOut, ...]

    @property
    def wording(self) -> Wording | None:
        """Which published wording this is; None for one of the user's own."""
        return WORDINGS.get(self.digest)

    @property
    def remarks(self) -> list[str]:
        """Sentences that the user should see before the answers cost time."""
        remarks = [str(line) for line in self.left_out]
        count = len(self.questions)
        if self.path.parent == MINI_FOLDER:
            remarks.append(_("The mini set is for trying; its scores compare with nothing."))
        elif self.wording is None:
            remarks.append(
                _(
                    "{path} holds a wording that is not among the published ones ({count} questions); its "
                    "scores compare only with those of the same file."
                ).format(path=self.path, count=count)
            )
        elif self.wording.caveat:
            remarks.append(f"{self.path}: {self.wording.name}. {_(self.wording.caveat)}")
        return remarks

    def categories(self) -> dict[int, str]:
        """Category by question id."""
        return {question.id: question.category for question in self.questions}


class References(Struct, frozen=True, kw_only=True):
    """Reference answers by question id, each with its turns; ``name`` is the file's stem."""

    name: str
    answers: Mapping[int, tuple[str, ...]]
    left_out: tuple[LeftOut, ...] = ()


class BenchFolder(Struct, frozen=True, kw_only=True):
    """Where the parts of a user's copy are; ``questions`` may be several files, whole and not."""

    questions: tuple[Path, ...]
    prompts: tuple[Path, ...]
    references: tuple[Path, ...]

    def references_for(self, judge: str) -> Path | None:
        """The references that this judge is usually given: those of its own name, else the oldest set."""
        by_stem = {path.stem: path for path in self.references}
        for name in (judge, *_PREFERRED_REFERENCES, *by_stem):
            if name in by_stem:
                return by_stem[name]
        return None


def category_of(question_id: int) -> str | None:
    """The category of a published question, which its id tells."""
    tens = (question_id - 1) // 10
    return _BY_TENS[tens] if 0 <= tens < len(_BY_TENS) else None


def missing_data(folder: Path | None = None) -> InputError:
    """The error that says where the questions are published."""
    message = (
        _("Japanese MT-Bench needs its questions, which are not part of this program.")
        if folder is None
        else _("{folder} holds no questions of Japanese MT-Bench (question_full.jsonl).").format(
            folder=folder
        )
    )
    hint = f"git clone --depth 1 -b jp-stable {SOURCE_URL} && tanuki mtbench answer --data FastChat"
    return InputError(
        message, hint=_("{command}   (or, to try it with 8 questions: --mini)").format(command=hint)
    )


def find_bench(folder: Path) -> BenchFolder:
    """The parts of the copy at ``folder``, which may be a question file as well.

    Raises InputError that says where the questions are published if there are none.
    """
    if _is_file(folder):
        return _parts(folder.parent, (folder,))
    for inside in _INSIDE:
        base = folder / inside
        if found := [path for name in _QUESTION_FILES if _is_file(path := base / name)]:
            return _parts(base, tuple(found))
    raise missing_data(folder)


def _parts(base: Path, questions: tuple[Path, ...]) -> BenchFolder:
    prompts = [place / name for name in _PROMPT_FILES for place in (base, base.parent)]
    return BenchFolder(
        questions=questions,
        prompts=tuple(path for path in prompts if _is_file(path)),
        references=tuple(sorted((base / _REFERENCE_FOLDER).glob("*.jsonl"))),
    )


def _is_file(path: Path) -> bool:
    """Whether there is a file; none is where the system refuses the name, which a record may hold."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def most_questions(paths: Sequence[Path]) -> QuestionSet:
    """The questions of the file that has the most: one folder may hold 60 of them, or 79, and all 80.

    Raises InputError if one cannot be read or holds none.
    """
    return max((read_questions(path) for path in paths), key=lambda one: len(one.questions))


def read_questions(path: Path) -> QuestionSet:
    """The questions of ``path``. Raises InputError if it cannot be read or holds none."""
    questions: dict[int, BenchQuestion] = {}
    left_out = []
    for number, value in read_lines(path):
        question = value if isinstance(value, LeftOut) else _question(path, number, value)
        if isinstance(question, LeftOut):
            left_out.append(question)
        elif question.id in questions:
            left_out.append(LeftOut(path=path, line=number, reason=_("its id stands there twice")))
        else:
            questions[question.id] = question
    if not questions:
        raise InputError(
            _("{path} holds no question.").format(path=path),
            hint=_("A line looks like this: {line}").format(
                line='{"question_id": 1, "category": "coding", "turns": ["…", "…"]}'
            ),
        )
    return QuestionSet(
        path=path,
        questions=tuple(questions.values()),
        digest=digest_of((one.id, one.category, one.turns) for one in questions.values()),
        left_out=tuple(left_out),
    )


def _question(path: Path, number: int, value: JsonObject) -> BenchQuestion | LeftOut:
    id_, turns, category = question_id(value), texts(value.get("turns")), value.get("category")
    if id_ is None or not turns or not isinstance(category, str):
        return LeftOut(path=path, line=number, reason=_("it is not a question"))
    return BenchQuestion(id=id_, category=category.lower(), turns=turns)


def read_references(path: Path) -> References:
    """The reference answers of ``path``; of several for one question the last counts, as in FastChat.

    Raises InputError if the file cannot be read.
    """
    answers: dict[int, tuple[str, ...]] = {}
    left_out = []
    for number, value in read_lines(path):
        if isinstance(value, LeftOut):
            left_out.append(value)
            continue
        id_, turns = question_id(value), first_choice(value)
        if id_ is None or not turns:
            left_out.append(LeftOut(path=path, line=number, reason=_("it is not an answer")))
        else:
            answers[id_] = turns
    return References(name=path.stem, answers=answers, left_out=tuple(left_out))


def question_id(value: JsonObject) -> int | None:
    """The id of a record, which some files keep as text."""
    id_ = value.get("question_id")
    if isinstance(id_, str) and id_.isascii() and id_.isdigit() and len(id_) < 10:
        return int(id_)
    return id_ if isinstance(id_, int) and not isinstance(id_, bool) else None


def texts(value: object) -> tuple[str, ...]:
    """A list of texts; empty for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    return tuple(value) if all(isinstance(one, str) for one in value) else ()


def first_choice(value: JsonObject) -> tuple[str, ...]:
    """The turns of the first choice of an answer record; empty if there is none."""
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return texts(choice.get("turns")) if isinstance(choice, Mapping) else ()
