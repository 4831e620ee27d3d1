"""The spellings of a vote in records of others, and what they mean.

A meaning is guessed only where every label in a file is one of those below, which leave no doubt. "A" or
"1" alone are not among them: they may be a score.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tanuki_cli.errors import InputError
from tanuki_cli.evaluation.arena.votes import VERDICTS, Verdict
from tanuki_cli.i18n import _

_SIDES: Final[Mapping[Verdict, tuple[str, ...]]] = {
    "first": ("model_a", "model_1", "answer_a", "answer_1", "assistant_a", "first", "left",
              "モデルa", "モデル1", "回答a", "回答1", "応答a", "応答1",
              "ひとつめ", "一つ目", "1つ目", "1番目", "左"),
    "second": ("model_b", "model_2", "answer_b", "answer_2", "assistant_b", "second", "right",
               "モデルb", "モデル2", "回答b", "回答2", "応答b", "応答2",
               "ふたつめ", "二つ目", "2つ目", "2番目", "右"),
}  # fmt: skip
_PRAISE: Final = (
    "", "_better", "_is_better", "_win", "_wins", "_won",
    "が良い", "の方が良い", "のほうが良い", "の勝ち", "が勝ち",
)  # fmt: skip
_EVEN: Final[Mapping[Verdict, tuple[str, ...]]] = {
    "tie": ("tie", "tie_(bothgood)", "tie_(both_good)", "bothgood", "both_good", "both_are_good", "draw",
            "引き分け", "どちらも良い", "両方良い", "両方とも良い", "同じくらい良い"),
    "both-bad": ("tie_(bothbad)", "tie_(both_bad)", "bothbad", "both_bad", "both_are_bad",
                 "どちらも悪い", "両方悪い", "両方とも悪い", "どちらも良くない"),
    "skip": ("skip", "skipped", "スキップ"),
}  # fmt: skip
_KNOWN: Final[Mapping[str, Verdict]] = {
    **{side + praise: verdict for verdict, sides in _SIDES.items() for side in sides for praise in _PRAISE},
    **{label: verdict for verdict, labels in _EVEN.items() for label in labels},
}

EXPORTED: Final[Mapping[Verdict, str]] = {
    "first": "model_1",
    "second": "model_2",
    "tie": "tie",
    "both-bad": "tie (bothbad)",
    "skip": "skip",
}
"""What :mod:`exchange` writes."""

_ONE: Final = re.compile(rf"\s*(.+?)\s*=\s*({'|'.join(VERDICTS)})\s*(?:,|$)", re.DOTALL)


def guess(label: str) -> Verdict | None:
    """What ``label`` means if that is certain."""
    text = unicodedata.normalize("NFKC", label).casefold()
    text = "".join(character for character in text if unicodedata.category(character)[0] not in "SC")
    text = re.sub(r"[\s\-.!。]+", "_", text.replace("よい", "良い").replace("いい", "良い")).strip("_")
    return _KNOWN.get(text)


def read_labels(texts: Iterable[str]) -> dict[str, Verdict]:
    """The mapping that ``--labels`` gives: ``LABEL=first,OTHER=second,…``, one or several times.

    Raises InputError for what is not of that form.
    """
    mapping: dict[str, Verdict] = {}
    for text in texts:
        place = 0
        while place < len(text):
            found = _ONE.match(text, place)
            verdict = found and next(one for one in VERDICTS if one == found.group(2))
            if not found or verdict is None:
                raise InputError(
                    _("--labels cannot be understood at {text!r}: it takes LABEL=VERDICT.").format(
                        text=text[place:]
                    ),
                    hint="--labels '左=first,右=second,同じ=tie,×=both-bad,?=skip'",
                )
            mapping[found.group(1)] = verdict
            place = found.end()
    return mapping


def meanings(counts: Mapping[str, int], given: Mapping[str, Verdict], *, name: str) -> dict[str, Verdict]:
    """What every label of ``counts`` (how often it occurs) means, by ``given`` or by itself.

    Raises InputError that shows the labels of the file ``name`` if one of them is not certain.
    """
    found = {label: given.get(label) or guess(label) for label in counts}
    unknown = [label for label, verdict in found.items() if verdict is None]
    if unknown:
        listed = ", ".join(f"{label!r} ({counts[label]})" for label in _most_frequent(counts))
        example = ",".join(f"{label}={verdict}" for label, verdict in zip(unknown, VERDICTS, strict=False))
        raise InputError(
            _("The votes in {name} are spelled in a way that is not certain: {labels}").format(
                name=name, labels=listed
            ),
            hint=_("Say what each means, e.g.: {example}").format(example=f"--labels '{example}'"),
        )
    return {label: verdict for label, verdict in found.items() if verdict is not None}


def _most_frequent(counts: Mapping[str, int]) -> Sequence[str]:
    return sorted(counts, key=lambda label: -counts[label])[:20]
