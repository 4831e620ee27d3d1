"""What is used of llama.h is there, and nothing is written into a structure that it does not have."""

import pytest

from tanuki_cli.engines.llama_cpp.bindings import native
from tanuki_cli.engines.llama_cpp.llama_h import missing_names, set_fields


def test_the_binding_has_all_that_is_used() -> None:
    assert missing_names(native) == []
    assert "llama_decode" in missing_names(object())
    assert "llama_token" in missing_names(object())


def test_a_field_that_is_gone_is_an_error_and_not_an_attribute_of_pythons() -> None:
    params = native.llama_context_default_params()
    set_fields(params, {"n_ctx": 256})
    assert params.n_ctx == 256
    with pytest.raises(AttributeError, match="n_context"):
        set_fields(params, {"n_context": 256})
