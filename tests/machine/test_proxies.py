"""Which proxy an address is reached through, by the variables of the environment."""

import pytest

from tanuki_cli.machine.proxies import find_proxy

PROXY = "http://user:secret@proxy.example:3128"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "excepted", "direct"),
    [
        ("http://10.1.2.3:8000/v1", "10.0.0.0/8", True),
        ("http://10.1.2.3:8000/v1", "192.168.0.0/16, 10.1.2.3/32", True),
        ("http://11.1.2.3/v1", "10.0.0.0/8", False),
        ("http://[fd00::5]:8000/v1", "fd00::/8", True),
        ("http://[fd00::5]:8000/v1", "10.0.0.0/8", False),
        ("http://10.1.2.3/v1", "10.0.0.0/99,/,a/b", False),
        ("http://lab.example/v1", "10.0.0.0/8", False),
        ("http://lab.example/v1", ".example", True),
        ("http://lab.example/v1", "*", True),
        ("http://lab.example/v1", "", False),
    ],
)
def test_no_proxy(url: str, excepted: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", excepted)
    assert find_proxy(url) == (None if direct else PROXY)


def test_the_proxy_for_the_scheme_comes_before_the_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all.example:1")
    assert find_proxy("https://lab.example/v1") == "http://all.example:1"
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert find_proxy("https://lab.example/v1") == PROXY
    assert find_proxy("http://lab.example/v1") == "http://all.example:1"


def test_without_variables_the_way_is_direct() -> None:
    assert find_proxy("https://lab.example/v1") is None
