"""Estimates as they are said."""

from collections.abc import Iterator

import pytest

from tanuki_cli.i18n import Language, activate, active_language
from tanuki_cli.text.counts import about


@pytest.fixture(autouse=True)
def _language() -> Iterator[None]:
    before = active_language()
    yield
    activate(before)


@pytest.mark.parametrize(
    ("count", "english", "japanese"),
    [
        (0, "0", "0 "),
        (97, "97", "97 "),
        (1234, "1,200", "1200 "),
        (9960, "10,000", "1 万"),
        (35_123, "35,000", "3 万 5 千"),
        (123_456, "120,000", "12 万"),
        (97_315_160, "97,000,000", "9700 万"),
        (123_456_789, "120,000,000", "1 億 2 千万"),
    ],
)
def test_two_digits_are_said(count: int, english: str, japanese: str) -> None:
    said: dict[Language, str] = {"en": english, "ja": japanese}
    for language, text in said.items():
        activate(language)
        assert about(count) == text


def test_too_little_and_too_much_are_avoided() -> None:
    activate("en")
    assert (about(1250, rounded="up"), about(1250, rounded="down"), about(1250)) == (
        "1,300",
        "1,200",
        "1,300",
    )
    assert about(1200, rounded="up") == about(1200, rounded="down") == about(1200) == "1,200"
