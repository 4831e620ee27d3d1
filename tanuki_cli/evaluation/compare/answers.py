"""Greedy answers beside each other: where they first differ, and how."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from tanuki_cli.conversation import FinishReason
from tanuki_cli.text.width import graphemes

Kind = Literal["same", "differs", "shorter", "longer"]

QUESTIONS = (
    "自己紹介をしてください。",
    "たぬきは冬をどうやって過ごしますか?三つの文で答えてください。",
    "「雨」を使った俳句を一つ作ってください。",
    "23人で1,150円の弁当を一つずつ買います。合計はいくらですか?計算も示してください。",
    "次の文を丁寧な言い方に直してください。「明日の会議、出られない。あとで内容を教えて。」",
    "Pythonで、文字列が回文かどうかを調べる関数を書いてください。",
    "日本で二番目に高い山の名前と、その高さを教えてください。",
    "次の文を英語に訳してください。「傘を忘れたので、駅まで走って帰りました。」",
    "断水のお知らせを、住民に向けて五行以内で書いてください。日時は十月十日の午前九時から正午までです。",
    "りんごとみかんの違いを、表にまとめてください。",
    "Explain in two sentences why the sea is salty.",
    "「猿も木から落ちる」の意味を、小学生にわかるように説明してください。",
)
"""Asked in this order unless the user has others."""


class Answer(Struct, frozen=True, kw_only=True):
    """One model's answer; ``seconds`` from the question to its end, ``tokens`` as the engine counts."""

    text: str
    finish_reason: FinishReason
    tokens: int
    seconds: float


class Difference(Struct, frozen=True, kw_only=True):
    """An answer against the reference's: ``kind``, and how many graphemes both begin with.

    "shorter" is one that ends where the reference goes on, "longer" the reverse.
    """

    kind: Kind
    shared: int


class AnswerRow(Struct, frozen=True, kw_only=True):
    """A question, the answers in the order of the models, and how each differs from the first."""

    question: str
    answers: tuple[Answer, ...]
    differences: tuple[Difference, ...]


def first_difference(reference: str, other: str) -> Difference:
    """Where ``other`` leaves ``reference``."""
    one, two = list(graphemes(reference)), list(graphemes(other))
    shared = next(
        (index for index, (left, right) in enumerate(zip(one, two, strict=False)) if left != right),
        min(len(one), len(two)),
    )
    if shared < min(len(one), len(two)):
        return Difference(kind="differs", shared=shared)
    if len(one) == len(two):
        return Difference(kind="same", shared=shared)
    return Difference(kind="shorter" if len(two) < len(one) else "longer", shared=shared)


def answer_row(question: str, answers: Sequence[Answer]) -> AnswerRow:
    """The answers to one question, the reference's first."""
    differences = tuple(first_difference(answers[0].text, answer.text) for answer in answers[1:])
    return AnswerRow(question=question, answers=tuple(answers), differences=differences)
