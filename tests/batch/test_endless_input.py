"""A pipe that does not end is refused before it has filled the disk."""

import io

import pytest

from tanuki_cli.batch import inputs
from tanuki_cli.errors import InputError


def test_what_does_not_end_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_MAX_PIPED", 3 << 20)
    with (
        pytest.raises(InputError, match="too large"),
        inputs.open_input("/dev/zero", io.BytesIO(), output=None),
    ):
        pass
    with inputs.open_input("-", io.BytesIO(b"a\n" * (1 << 20)), output=None) as (file, _name):
        file.seek(0)
        assert len(file.read()) == 2 << 20
